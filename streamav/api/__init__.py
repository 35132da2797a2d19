"""The HTTP API: programs ask a run for its events, sources and figures, and monitors ask whether it is well.

It answers questions only; no request changes anything. It decides nothing about events.
"""

from streamav.api.facts import Facts, KnownSource
from streamav.api.service import HttpApi

__all__ = ["Facts", "HttpApi", "KnownSource"]
