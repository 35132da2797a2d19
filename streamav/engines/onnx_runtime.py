"""Imports ONNX Runtime with its telemetry off; everything of ours that needs the library takes it from here.

Since 1.29 the Linux packages on PyPI report sessions, models' hashes and timings to a server of Microsoft, and leave an identifier and
a database in ~/.cache/Microsoft (microsoft/onnxruntime pull request 27379; seen with 1.32). ORT_DISABLE_TELEMETRY ends all of
it, but only when it is set before the library is loaded. Windows, which knows only the call, is not a platform of ours.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

onnxruntime.disable_telemetry_events()  # the least that helps where somebody else loaded it before

__all__ = ["onnxruntime"]
