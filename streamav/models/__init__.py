"""The bundles that come with the package, one folder each; no code."""

from __future__ import annotations
