"""Starts the program `streamav`, also as `python -m streamav`.

Ctrl-C while Python still loads the command line ends it like Ctrl-C later, without a traceback. So this module loads nothing itself.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Load and run the command line; return its exit status."""
    try:
        from streamav.cli import main as run

        return run()
    except KeyboardInterrupt:
        return 130  # streamav.errors.INTERRUPTED, which may not be loaded yet


if __name__ == "__main__":
    sys.exit(main())
