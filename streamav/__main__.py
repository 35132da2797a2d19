"""Lets `python -m streamav` do what the program `streamav` does."""

from __future__ import annotations

import sys

from streamav.cli import main

if __name__ == "__main__":
    sys.exit(main())
