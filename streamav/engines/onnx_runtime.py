"""Imports ONNX Runtime with its telemetry off. All our code that needs the library imports it from here.

Since 1.29 the Linux packages on PyPI report sessions, models' hashes and timings to a server of Microsoft, and leave an identifier and
a database in ~/.cache/Microsoft (microsoft/onnxruntime pull request 27379; seen with 1.32). ORT_DISABLE_TELEMETRY stops all of
this, but only when it is set before the library is loaded. Windows, where only the call below works, is not one of our platforms.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

onnxruntime.disable_telemetry_events()  # the only remaining help when other code loaded the library before

__all__ = ["onnxruntime"]
