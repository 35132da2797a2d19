"""Writes a model for other programs: ONNX files that ONNX Runtime runs without streamav."""

from __future__ import annotations

from streamav.export.model import Exported, export_model

__all__ = ["Exported", "export_model"]
