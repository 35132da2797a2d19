"""Tests of `streamav changes`: what is kept is shown, and taken back on demand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamav.cli import main
from streamav.control import KeptChanges, kept_path


def test_kept_changes_are_shown_and_taken_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each value is a line; --json is an object; --forget removes those of the named source alone."""
    kept = KeptChanges(kept_path(tmp_path))
    kept.write({"porch": {"on": 0.7, "classes": {"bark": {"enabled": False}}}, "door": {"enabled": False}})
    where = ["--set", f"state_dir={tmp_path}"]
    assert main(["changes", *where]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "door  detection.enabled = false",
        "porch  detection.classes.bark.enabled = false",
        "porch  detection.on = 0.7",
    ]
    assert main(["changes", "--json", "--id", "porch", "--forget", *where]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"porch": {"classes.bark.enabled": False, "on": 0.7}}
    assert "the changes of porch are removed" in err
    assert kept.read() == {"door": {"enabled": False}}
    assert main(["changes", "--id", "porch", *where]) == 2
    assert "--id must name a source with changes (door), got 'porch'" in capsys.readouterr().err


def test_without_changes_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing on standard output but an empty object with --json."""
    assert main(["changes", "--json", "--set", f"state_dir={tmp_path}"]) == 0
    assert json.loads(capsys.readouterr().out) == {}
    assert main(["changes", "--set", f"state_dir={tmp_path}"]) == 0
    out, err = capsys.readouterr()
    assert (out, "no changes" in err) == ("", True)
