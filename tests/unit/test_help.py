"""Tests that all commands explain themselves in one style."""

from __future__ import annotations

from typing import Any

import pytest
from rigs.command_tree import Leaf, leaves

from streamav.cli import COMMANDS, main

LEAVES = list(leaves())
NAMES = [leaf.name for leaf in LEAVES]
GROUPS = sorted({name.split()[0] for name in NAMES if " " in name})
SCREEN = 80
"""Columns of the narrowest terminal that help is written for."""


def _shown(leaf: Leaf) -> list[Any]:
    return [one for one in leaf.command.params if not getattr(one, "hidden", False)]


@pytest.mark.parametrize("name", [*NAMES, *GROUPS, ""])
def test_help_fits_a_narrow_terminal_and_has_one_style(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--help` of every command exits with 0, begins with its usage, fits into 80 columns, draws no boxes and shows no types of Python."""
    monkeypatch.setenv("COLUMNS", str(SCREEN))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main([*name.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Usage: streamav {name}".rstrip())
    assert max(map(len, lines)) <= SCREEN
    assert [line for line in lines if "list[" in line or " range>" in line] == []
    assert not any(set("╭│╰\x1b") & set(line) for line in lines)


@pytest.mark.parametrize("name", [*GROUPS, ""])
def test_the_list_of_commands_is_not_cut(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns --help of the program and of every group shows the whole sentence of every command; a long one would end in dots."""
    monkeypatch.setenv("COLUMNS", str(SCREEN))
    assert main([*name.split(), "--help"]) == 0
    said = capsys.readouterr().out
    listed = said.split("Commands:")[1].strip().splitlines()
    assert name or len(listed) == len(COMMANDS)
    assert [line for line in listed if not line.endswith(".") or line.endswith("..")] == []
    assert "completion" not in said


@pytest.mark.parametrize("leaf", LEAVES, ids=NAMES)
def test_every_option_is_explained_in_sentences(leaf: Leaf) -> None:
    """Every command, option and argument has a text that begins like a sentence and ends with a full stop."""
    assert leaf.command.help
    first = leaf.command.help.split("\n\n")[0]
    assert first[0].isupper()
    assert first.rstrip().endswith(".")
    for one in _shown(leaf):
        text = one.help or ""
        assert text.endswith("."), f"streamav {leaf.name}: {one.name}: {text!r}"
        assert not text[0].isspace()


@pytest.mark.parametrize("name", [*NAMES, *COMMANDS])
def test_a_wrong_option_is_refused_in_one_style(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong option of any command exits with 2 and plain text on standard error, without boxes or colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main([*name.split(), "--no-such-option"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no-such-option" in captured.err
    assert not set("╭│╰\x1b") & set(captured.err)


OTHERWISE = {
    "run": "--jsonl for events, --summary for figures",
    "record": "--jsonl for events; the session holds JSON lines",
    "replay": "--jsonl for events; its exit status says whether they are those of the recording",
    "demo": "for people; its exit status says whether it worked",
    "config check": "prints JSON always",
    "config reference": "for people; `config check` prints the values as JSON",
    "mqtt schema": "prints JSON always",
    "figure": "draws a picture; its exit status says whether it worked",
}
"""Commands without --json, and what a script reads instead."""


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf.name not in OTHERWISE], ids=lambda leaf: leaf.name)
def test_a_script_can_read_the_result(leaf: Leaf) -> None:
    """Every command with a result that a script may want has --json."""
    assert any("--json" in one.opts for one in leaf.command.params)
