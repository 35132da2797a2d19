"""Tests of the documentation: links, commands and the site."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from rigs.command_tree import leaves

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("engines/*.md")])
HOSTS = {
    "arxiv.org",
    "docs.ray.io",
    "drive.google.com",
    "frigate.video",
    "github.com",
    "keepachangelog.com",
    "semver.org",
    "www.dropbox.com",
}
"""Hosts of the links that leave the repository. Tests have no network, so a new one is checked by hand and added here."""
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _plain(page: Path) -> str:
    """Return a page without its code, in which brackets mean other things."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL))


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, by GitHub's rule."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return set(found)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link to a file names a file of the repository, its anchor a heading of that file; other hosts are listed above."""
    for address in LINK.findall(_plain(page)):
        if urlsplit(address).scheme:
            assert urlsplit(address).hostname in HOSTS, f"{address}: check it, then list its host"
            continue
        file, _, anchor = address.partition("#")
        target = page if not file else (page.parent / file).resolve()
        assert target.exists(), address
        assert not anchor or target.suffix != ".md" or anchor in _anchors(target), address


def _commands(page: Path) -> list[str]:
    """Return the command lines of `streamav` in the code blocks of a page, continued lines joined."""
    found: list[str] = []
    language: str | None = None
    """The language of the block that the line is in; None outside."""
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        fence = re.match(r" *```(\w*)", line)
        if fence is not None:
            language = fence[1] if language is None else None
        match = re.match(r"\s*(?:\$ )?(?:\.venv/bin/)?(streamav [a-z].*)", line)
        if match is not None and language in {"", "sh", "bash", "text"}:
            found.append(re.split(r"\s+# |\s+#$|[|;>]", match[1])[0])
    return found


COMMANDS = {leaf.name: {name for one in leaf.command.params for name in [*one.opts, *one.secondary_opts]} for leaf in leaves()}


@pytest.mark.parametrize("page", [page for page in PAGES if _commands(page)], ids=_name)
def test_every_command_in_the_docs_exists(page: Path) -> None:
    """A command in a code block is a command of this version, and so is each of its options."""
    for line in _commands(page):
        words = shlex.split(line.replace("...", ""), comments=True)[1:]
        name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
        assert name in COMMANDS, f"{_name(page)}: {line}"
        options = {word.partition("=")[0].strip("[]") for word in words if re.match(r"\[?--[a-z]", word)}
        assert options <= COMMANDS[name], f"{_name(page)}: {line}"


def test_the_list_of_commands_is_complete() -> None:
    """docs/commands.md names every command of the program."""
    listed = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert [name for name in {name.split()[0] for name in COMMANDS} if f"`streamav {name}" not in listed] == []


@pytest.mark.slow
def test_the_site_is_built_and_needs_no_other_machine(tmp_path: Path) -> None:
    """MkDocs builds the site without a warning; its pages load nothing from elsewhere, and the reference is in them."""
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None:
        if os.environ.get("CI"):
            pytest.fail("make docs must run first: it installs the extra docs")
        pytest.skip("the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr
    assert "detection.latency_segments" in (tmp_path / "reference" / "settings.html").read_text(encoding="utf-8")
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*src=\"?((?:https?:)?//[^\" >]+)", text)
        loaded += re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preload|icon)[^>]*href=\"?((?:https?:)?//[^\" >]+)", text)
        assert not loaded, page


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_torch_that_the_docs_install_is_the_one_that_is_required(page: Path) -> None:
    """A command that installs torch by hand names the range of pyproject.toml; another version would be replaced at once by 3 GB."""
    (wanted,) = re.findall(r'^  "(torch>=[^"]*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    said = re.findall(r"pip install (?:--\S+ )*'?(torch\b[^'` \n]*)", page.read_text(encoding="utf-8"))
    assert set(said) <= {wanted}


def test_the_tree_of_the_architecture_page_is_whole() -> None:
    """Every module and package of the top level stands in the tree, so a reader finds each; and the page names no module that is gone."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = page[page.index("## The tree") : page.index("## Packages")]
    there = {path for path in (ROOT / "streamav").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    names = {f"{path.stem}/" if path.is_dir() else path.name for path in there if not path.name.startswith("__")}
    assert not {name for name in names if not re.search(rf"(?<![\w/]){re.escape(name)}", tree)}
    files = {path.name for path in ROOT.rglob("streamav/**/*.py")}
    assert not {name for name in re.findall(r"`(?:[\w/]+/)?(\w+\.py)`", page) if name not in files}
