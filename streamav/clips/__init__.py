"""Keeps the newest encoded packets of each source and cuts clips and snapshots of events from them.

It decodes nothing but single pictures, and sound or pictures in a format that browsers do not play.
"""

from __future__ import annotations

from streamav.clips.ring import PacketRing
from streamav.clips.sink import ClipSink, horizon_s

__all__ = ["ClipSink", "PacketRing", "horizon_s"]
