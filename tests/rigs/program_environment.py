"""Makes the environment of programs that tests start."""

from __future__ import annotations

import os

__all__ = ["program_environment"]


def program_environment() -> dict[str, str]:
    """Return the environment of a started `streamav`: the engines of the tests, no other STREAMAV_* variable, and wide lines."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STREAMAV_") or key == "STREAMAV_HOME"}
    return kept | {"COLUMNS": "200"}
