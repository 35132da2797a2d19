"""The live page: one page that shows what the machine saw, heard and decided.

It takes what the loop passes to an observer and a sink, encodes it once, and sends it to browsers over a WebSocket. It computes no
scores, and a browser cannot slow the run: every queue is bounded, and a viewer that does not keep up is dropped.
"""

from streamav.view.page import LivePage, ShownLabel, Subject

__all__ = ["LivePage", "ShownLabel", "Subject"]
