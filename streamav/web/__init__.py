"""Holds what the live page and the HTTP API share: who may ask, and a server that runs in a thread of its own.

It knows no page, no event and no source.
"""

from streamav.web.guard import Guard, Tokens
from streamav.web.questions import BusyError, Questions
from streamav.web.server import WebServer, need_packages

__all__ = ["BusyError", "Guard", "Questions", "Tokens", "WebServer", "need_packages"]
