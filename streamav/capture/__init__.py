"""Provides the sources of timed sound and pictures: files, network streams, cameras with microphones, and the rendered scene.

It uses no segments, windows, networks or brokers. PyAV and sounddevice are imported when a source is opened.
"""

from __future__ import annotations

from streamav.capture.devices import Device, list_cameras, list_microphones
from streamav.capture.open import open_source

__all__ = ["Device", "list_cameras", "list_microphones", "open_source"]
