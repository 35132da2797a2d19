"""Hooks of MkDocs (mkdocs.yml): add the reference that is made from the code, and the files outside docs/ that pages link to.

Links in docs/ are written for a reader of the repository: `../examples/porch.toml`. The site gets a copy of each such file, and the
links are turned to the copies. Pages that mkdocs.yml does not name appear in the navigation under "More".
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()([^)\s#]+)")
"""The address of a Markdown link, without its anchor."""
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md")
"""Pages of the repository that the navigation names."""
INDEXES = ("adr/", "log/")
"""Folders with an index page of their own."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Append the pages that the navigation does not name."""
    named = set(_leaves(config.nav))
    missing = [str(page.relative_to(DOCS)) for page in sorted(DOCS.rglob("*.md")) if str(page.relative_to(DOCS)) not in named]
    more = [page for page in missing if not page.startswith(INDEXES)]
    if more:
        config.nav.append({"More": more})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference and the files outside docs/ that pages link to."""
    from streamav.cli.reference import cli_reference, mqtt_reference, settings_reference

    pages = {"commands": cli_reference, "settings": settings_reference, "mqtt": mqtt_reference}
    for name, make in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=make()))
    wanted = {ROOT / page for page in PAGES}
    found: set[Path] = set()
    while wanted - found:  # a page outside docs/ may link to further files
        page = (wanted - found).pop()
        found.add(page)
        if page.suffix == ".md":
            wanted |= {one for one in _linked(page) if _is_outside(one)}
    for page in DOCS.rglob("*.md"):
        found |= {one for one in _linked(page) if _is_outside(one)}
    for file in sorted(found):
        files.append(File.generated(config, file.relative_to(ROOT).as_posix(), content=file.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:  # noqa: ANN401 - MkDocs passes more by name
    """Turn links to files outside docs/ to their copies, and links from their copies back into docs/."""
    place = ROOT / page.file.src_uri
    inside = (DOCS / page.file.src_uri).is_file()
    source = DOCS / page.file.src_uri if inside else place

    def turned(match: re.Match[str]) -> str:
        target = _target(source, match[0])
        if target is None or (inside and not _is_outside(target)):
            return match[0]
        site = target.relative_to(DOCS if target.is_relative_to(DOCS) else ROOT).as_posix()
        site = "index.md" if site == "README.md" else site
        return os.path.relpath(site, PurePosixPath(page.file.src_uri).parent)

    return LINK.sub(turned, markdown)


def _linked(page: Path) -> set[Path]:
    """Return the files of the repository that a page links to."""
    targets = (_target(page, match[0]) for match in LINK.finditer(page.read_text(encoding="utf-8")))
    return {target for target in targets if target is not None and target.is_file()}


def _target(page: Path, address: str) -> Path | None:
    """Return the file or folder of a relative link; None for an address, and for a link that is wrong."""
    if "://" in address or address.startswith(("mailto:", "/")):
        return None
    target = (page.parent / address).resolve()
    target = target / "README.md" if (target / "README.md").is_file() else target
    return target if target.exists() and target.is_relative_to(ROOT) else None


def _is_outside(target: Path) -> bool:
    """Return whether a file is not part of docs/ and not the README, which the site's first page replaces."""
    return not target.is_relative_to(DOCS) and target != ROOT / "README.md"


def _leaves(nav: Any) -> list[str]:  # noqa: ANN401 - a tree of lists and dictionaries from YAML
    """Return all pages of a navigation."""
    if isinstance(nav, str):
        return [nav]
    return [leaf for part in (nav.values() if isinstance(nav, dict) else nav) for leaf in _leaves(part)]
