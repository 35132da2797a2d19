"""The bundles of the package, one folder each; this package has no code."""

from __future__ import annotations
