"""Looks for known vulnerabilities in what streamav depends on, and says what it could not look at.

Three looks:

- what is installed, against the advisories kept in `advisories.json`;
- every version that `pyproject.toml` allows, against the same advisories;
- what is installed, against a live database (pip-audit, with PyPI's database or OSV's), where one can be reached.

Exit status: 0 nothing was found, 1 something was found. A live database that cannot be reached is a line on standard output, no failure.
Policy: docs/security.md.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
ACCEPTED = {
    # id: date, reason, and when it can go
    "CVE-2025-3000": "2026-11-27: streamav does not call torch.jit.script. Until the bounds leave out torch 2.12",
}
TIMEOUT_S = 10
CONTROL = ("jinja2", "2.4.1")
"""A release with known vulnerabilities: a database that knows none of it is none."""


@dataclass(frozen=True)
class Advisory:
    """One range of versions with a known vulnerability: *introduced* <= version < *fixed*, or <= *last_affected*."""

    id: str
    package: str
    introduced: Version
    end: Version
    end_is_affected: bool
    summary: str

    @property
    def range(self) -> str:
        """The affected versions, as pip writes them."""
        return f">={self.introduced},{'<=' if self.end_is_affected else '<'}{self.end}"

    def affects(self, version: Version) -> bool:
        """Return whether a version is affected."""
        return self.introduced <= version < self.end or (self.end_is_affected and version.public == self.end.public)

    def overlaps(self, allowed: SpecifierSet) -> bool:
        """Return whether a requirement with a lower bound allows an affected version; one without a lower bound allows the oldest."""
        low = max((Version(one.version) for one in allowed if one.operator in {">=", "==", "~="}), default=Version("0"))
        exact = any(one.operator == "==" for one in allowed)
        high = min((Version(one.version) for one in allowed if one.operator == "<"), default=None)
        reaches = self.affects(low) if exact else low < self.end or (self.end_is_affected and low == self.end)
        return reaches and (high is None or self.introduced < high)


def kept_advisories(file: Path) -> tuple[str, list[Advisory]]:
    """Return the day on which the file was last completed, and its advisories without the accepted ones."""
    content = json.loads(file.read_text(encoding="utf-8"))
    found = []
    for one in content["advisories"]:
        end = one.get("fixed") or one["last_affected"]
        versions = (Version(one.get("introduced", "0")), Version(end), "fixed" not in one)
        if one["id"] not in ACCEPTED:
            found.append(Advisory(one["id"], canonicalize_name(one["package"]), *versions, one["summary"]))
    return content["date"], found


def installed(root: str) -> dict[str, Version]:
    """Return the installed packages that a package needs, with all its extras, by name."""
    found: dict[str, Version] = {}
    seen, waiting = set(), [(root, frozenset(importlib.metadata.metadata(root).get_all("Provides-Extra") or ()))]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found[canonicalize_name(name)] = Version(distribution.version)
        waiting += [
            (one.name, frozenset(one.extras))
            for one in map(Requirement, distribution.requires or ())
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in {"", *extras})
        ]
    return found


def requirements(pyproject: Path) -> Iterator[Requirement]:
    """Yield the requirements of the package and of its extras."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    for texts in (project["dependencies"], *project["optional-dependencies"].values()):
        yield from map(Requirement, texts)


def look_at_installed(packages: dict[str, Version], advisories: list[Advisory]) -> list[str]:
    """Return a line for each installed version that a kept advisory names."""
    return [
        f"{one.package} {packages[one.package]} is installed: {one.id}, {one.summary} ({one.range})"
        for one in advisories
        if one.package in packages and one.affects(packages[one.package])
    ]


def look_at_bounds(wanted: Iterator[Requirement], advisories: list[Advisory]) -> list[str]:
    """Return a line for each requirement that allows a version that a kept advisory names."""
    return [
        f"pyproject.toml allows {requirement.name}{requirement.specifier}: {one.id}, {one.summary} ({one.range})"
        for requirement in wanted
        for one in advisories
        if one.package == canonicalize_name(requirement.name) and one.overlaps(requirement.specifier)
    ]


def _ask(request: str | urllib.request.Request, key: str) -> object:
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the addresses below
        return json.load(answer).get(key)


def _ask_pypi() -> object:
    return _ask("https://pypi.org/pypi/{}/{}/json".format(*CONTROL), "vulnerabilities")


def _ask_osv() -> object:
    question = {"package": {"name": CONTROL[0], "ecosystem": "PyPI"}, "version": CONTROL[1]}
    return _ask(urllib.request.Request("https://api.osv.dev/v1/query", json.dumps(question).encode()), "vulns")


DATABASES: dict[str, Callable[[], object]] = {"pypi": _ask_pypi, "osv": _ask_osv}


def reachable(databases: dict[str, Callable[[], object]]) -> tuple[str | None, list[str]]:
    """Return the first database that knows the control's vulnerabilities, and why each earlier one does not serve."""
    reasons = []
    for name, ask in databases.items():
        try:
            if ask():
                return name, reasons
            reasons.append(f"{name}: it knows no vulnerability of {' '.join(CONTROL)}, which has some")
        except (OSError, ValueError, AttributeError) as error:
            reasons.append(f"{name}: {error}")
    return None, reasons


def pip_audit(database: str) -> int | None:
    """Run pip-audit on this environment, from a folder of its own: 0 nothing found, else found or failed; None: it cannot be installed."""
    with tempfile.TemporaryDirectory() as tools:
        install = ["install", "--quiet", "--disable-pip-version-check", "--target", tools, "pip-audit>=2.7,<3"]
        if subprocess.run([sys.executable, "-m", "pip", *install], check=False).returncode:  # noqa: S603 - fixed arguments
            return None
        site = str(Path(importlib.metadata.distribution("packaging").locate_file("")))
        ignored = [word for name in ACCEPTED for word in ("--ignore-vuln", name)]
        command = ["-m", "pip_audit", "--path", site, "--skip-editable", "--progress-spinner", "off", "-s", database, *ignored]
        environment = os.environ | {"PYTHONPATH": tools}
        return subprocess.run([sys.executable, *command], check=False, env=environment).returncode  # noqa: S603 - fixed arguments


def audit(file: Path, pyproject: Path, packages: dict[str, Version], *, databases: dict[str, Callable[[], object]] | None = None) -> int:
    """Take the three looks, print what was looked at and what was found, and return the exit status."""
    date, advisories = kept_advisories(file)
    found = look_at_installed(packages, advisories) + look_at_bounds(requirements(pyproject), advisories)
    for line in found:
        print(f"audit: {line}")
    scope = f"{len(packages)} installed packages and the bounds of {pyproject.name}, against {len(advisories)} kept advisories of {date}"
    print(f"audit: {scope}: {len(found) or 'nothing'} found")
    database, reasons = reachable(DATABASES if databases is None else databases)
    status = None if database is None else pip_audit(database)
    for reason in reasons:
        print(f"audit: database not reachable: {reason}")
    if status is None:
        print("audit: NOT AUDITED against a live database, so holes that are not among the kept advisories are not known here")
    else:
        print(f"audit: {len(packages)} installed packages, against the database {database}: {'something' if status else 'nothing'} found")
    return 1 if found or status else 0


if __name__ == "__main__":
    sys.exit(audit(Path(__file__).with_name("advisories.json"), ROOT / "pyproject.toml", installed("streamav")))
