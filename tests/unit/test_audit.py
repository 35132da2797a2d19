"""Tests of scripts/audit.py: what it finds in packages and in the bounds of pyproject.toml, and what it says without a network."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[2]
AUDIT = runpy.run_path(str(ROOT / "scripts" / "audit.py"))
Answer = Callable[[], object]


def no_network() -> object:
    msg = "Name or service not known"
    raise OSError(msg)


def knows() -> object:
    return [{"id": "PYSEC-2014-8"}]


def empty() -> object:
    return []


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Write two kept advisories: one with a first fixed version, one with a last affected version."""
    path = tmp_path / "advisories.json"
    advisories = [
        {"package": "Web_Server", "id": "PYSEC-1", "introduced": "1.2", "fixed": "1.5.1", "summary": "reads any file"},
        {"package": "reader", "id": "CVE-2", "last_affected": "2.0", "summary": "runs code"},
    ]
    path.write_text(json.dumps({"date": "2026-11-27", "advisories": advisories}), encoding="utf-8")
    return path


def audit(kept: Path, bounds: str, *databases: Answer, **installed: str) -> int:
    pyproject = kept.with_name("pyproject.toml")
    pyproject.write_text(f'[project]\ndependencies = ["{bounds}"]\n[project.optional-dependencies]\n', encoding="utf-8")
    packages = {name.replace("_", "-"): Version(version) for name, version in installed.items()}
    return int(AUDIT["audit"](kept, pyproject, packages, databases={str(n): ask for n, ask in enumerate(databases)}))


def test_an_installed_version_with_a_known_hole_is_named(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The package, its version, the advisory and the affected versions are one line, and the exit status is 1 without any network."""
    assert audit(kept, "reader>=2.1", no_network, web_server="1.4", reader="2.1") == 1
    said = capsys.readouterr().out
    assert "web-server 1.4 is installed: PYSEC-1, reads any file (>=1.2,<1.5.1)" in said
    assert "reader" not in said
    assert ": 1 found" in said


def test_a_bound_that_allows_a_known_hole_is_named(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A requirement that lets pip install an affected release fails, although the installed one is well."""
    assert audit(kept, "web.server>=1.0,<2", no_network, web_server="1.6") == 1
    assert "pyproject.toml allows web.server<2,>=1.0: PYSEC-1" in capsys.readouterr().out


def test_nothing_found_without_a_live_database_says_so(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a network, and with a mirror that knows no vulnerability at all, the audit passes and says that it did not look there."""
    assert audit(kept, "reader>=2.0.1", no_network, empty, reader="2.1") == 0
    said = capsys.readouterr().out
    assert "1 installed packages and the bounds of pyproject.toml, against 2 kept advisories of 2026-11-27: nothing found" in said
    assert "database not reachable: 0: Name or service not known" in said
    assert "database not reachable: 1: it knows no vulnerability" in said
    assert "NOT AUDITED against a live database" in said


@pytest.mark.parametrize(("status", "expected", "word"), [(0, 0, "nothing"), (1, 1, "something"), (None, 0, "NOT AUDITED")])
def test_a_live_database_decides(
    kept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, status: int | None, expected: int, word: str
) -> None:
    """What a reachable database finds is the exit status; a pip-audit that cannot be installed is told like no database."""
    asked: list[str] = []

    def pip_audit(database: str) -> int | None:
        asked.append(database)
        return status

    monkeypatch.setitem(AUDIT["audit"].__globals__, "pip_audit", pip_audit)
    assert audit(kept, "reader>=2.1", no_network, knows, reader="2.1") == expected
    assert asked == ["1"]
    assert word in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (">=1.5.1", False),
        (">=1.5", True),
        (">=1.5,<2", True),
        ("<1.2", False),
        ("<1.3", True),
        ("==1.3", True),
        ("==1.6", False),
        ("", True),
    ],
)
def test_which_bounds_overlap_an_affected_range(kept: Path, bounds: str, expected: bool) -> None:
    """A requirement overlaps an advisory exactly when pip may install an affected release for it."""
    _, advisories = AUDIT["kept_advisories"](kept)
    assert advisories[0].overlaps(SpecifierSet(bounds)) is expected


def test_the_kept_advisories_hold_for_this_project() -> None:
    """Every kept advisory can be read, every accepted one exists, and no bound of pyproject.toml allows an affected release."""
    file = ROOT / "scripts" / "advisories.json"
    _, advisories = AUDIT["kept_advisories"](file)
    ids = {one["id"] for one in json.loads(file.read_text(encoding="utf-8"))["advisories"]}
    assert set(AUDIT["ACCEPTED"]) <= ids
    assert AUDIT["look_at_bounds"](AUDIT["requirements"](ROOT / "pyproject.toml"), advisories) == []
