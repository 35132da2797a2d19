"""Options with which tests encode H.265."""

from __future__ import annotations

QUIET_X265 = "log-level=none:pools=none:frame-threads=1"
"""Value of x265-params: no messages and no threads of its own, on which the encoder once ended the process of a test."""
