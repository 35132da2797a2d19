"""Runs a model's networks by name on the hardware of this machine. How each engine is made is in `engines/*.toml`.

Importing this package imports neither torch nor ONNX Runtime. They are imported when an engine is opened.
"""

from __future__ import annotations

from streamav.engines.cache import EngineCache, cache_folder
from streamav.engines.machine import gpu_memory_bytes
from streamav.engines.selection import engine_candidates, open_engine
from streamav.engines.swap import SwapEngine

__all__ = ["EngineCache", "SwapEngine", "cache_folder", "engine_candidates", "gpu_memory_bytes", "open_engine"]
