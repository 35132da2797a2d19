"""Runs the program `streamav` for `python -m streamav`."""

from __future__ import annotations

import sys

from streamav.cli import main

if __name__ == "__main__":
    sys.exit(main())
