"""Tests that every command chooses the model of the settings alike."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_model_of_the_settings_may_be_auto() -> None:
    """The model of the settings is `auto` unless a user names one, so it is looked up by choose_bundle, never by find_bundle."""
    wrong = [path for path in (ROOT / "streamav").rglob("*.py") if re.search(r"find_bundle\((settings\.)?model\.name", path.read_text())]
    assert not wrong, "use streamav.bundle.choose_bundle"
