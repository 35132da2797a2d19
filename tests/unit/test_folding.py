"""Tests of the lines of text for a terminal."""

from __future__ import annotations

import io
import re

import pytest

from streamav.cli.folding import fold, folded_for

NOTE = "model starter runs, because the encoders of edge are not here (yamnet); to get them, 15 MB, run: streamav models pull edge"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_line_is_folded_between_words(width: int) -> None:
    """No line is wider than the terminal, no word is cut, and nothing is lost or added but spaces."""
    lines = fold(NOTE, width)
    assert all(len(line) <= width for line in lines)
    assert " ".join(line.strip() for line in lines) == NOTE
    assert all(line.startswith("  ") for line in lines[1:])


def test_a_command_stays_whole() -> None:
    """A command in backticks or after "run:" can be copied from one line, at any width."""
    for width in range(40, 130):
        assert any("streamav models pull edge" in line for line in fold(NOTE, width))
        assert any("`streamav devices --json`" in line for line in fold(f"{'word ' * 12}`streamav devices --json` and more words", width))


def test_a_number_stays_with_its_unit() -> None:
    """No line ends between a number and its unit."""
    text = "60 s of media in 61.0 s, latency 0.22 s (p95 0.41 s), peak memory 552 MB, " * 3
    for width in range(40, 130):
        assert not any(re.search(r"(^|[ (])[\d.]+$", line) for line in fold(text.strip(), width))


def test_only_a_terminal_gets_folded_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or a pipe gets one line for each message; a terminal gets each line folded to its width."""
    monkeypatch.setenv("COLUMNS", "60")
    assert folded_for(io.StringIO(), NOTE) == NOTE
    assert folded_for(_Terminal(), f"{NOTE}\nshort").split("\n") == [*fold(NOTE, 60), "short"]
