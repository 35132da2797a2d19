"""Tests of how Markdown is printed for a person."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from streamav.cli.markdown_output import aligned

TEXT = """Two tables.

| | clips, % | events |
|---|---|---:|
| a long name of a row | 4 | 17.2 (3 to 90) |
| b | 100.0 | - |

| x |
|---|
| y |
"""


def test_columns_have_one_width_and_the_markdown_is_the_same() -> None:
    """At a terminal every line of a table is as long as the others, and it renders as before; other lines are left alone."""
    found = aligned(TEXT)
    lines = found.splitlines()
    assert lines[0] == "Two tables."
    assert len({len(line) for line in lines[2:6]}) == 1
    assert lines[4].startswith("| a long name of a row | 4        | 17.2")
    assert MarkdownIt().enable("table").render(found) == MarkdownIt().enable("table").render(TEXT)


@pytest.mark.parametrize("text", ["", "no table", "| a | b |\n|---|---|\n| c with an escaped \\| bar | d |", "|"])
def test_what_is_no_whole_table_is_left_as_it_is(text: str) -> None:
    """Text, and a table whose rows cannot be told apart at their bars, lose nothing."""
    assert aligned(text).replace(" ", "").replace("|\n", "\n").strip("|") == text.replace(" ", "").replace("|\n", "\n").strip("|")
