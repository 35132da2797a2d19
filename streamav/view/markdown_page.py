"""Turns a report in Markdown into an HTML document with the look of the live page: its pictures are inside, and long parts are folded.

markdown-it-py parses the text (CommonMark with tables) and escapes HTML in it.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final

from markdown_it import MarkdownIt

from streamav.files import write_whole
from streamav.view.document import document, escaped

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["markdown_body", "write_beside"]

_PICTURE: Final = re.compile(r'<img src="([\w.-]+\.png)"')
_TABLE: Final = re.compile(r"<table>.*?</table>", re.DOTALL)
_PART: Final = re.compile(r"(?=<h2>)")
_MOST_PICTURE_BYTES: Final = 8 << 20
"""Largest picture that is put into the document, bytes."""


def write_beside(report: Path) -> Path:
    """Write the HTML of a report in Markdown beside it, and return its path."""
    text = report.read_text(encoding="utf-8")
    title = next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), report.stem)
    path = report.with_suffix(".html")
    write_whole(path, document(f"{title} - streamav", markdown_body(text, report.parent), script="plain.js"))
    return path


def markdown_body(text: str, folder: Path) -> str:
    """Return the body: what comes before the first heading of the second level leads, each part below it can be unfolded.

    Args:
        text: Markdown.
        folder: of the pictures, which must be PNG files beside the text.
    """
    whole = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    whole = _TABLE.sub(lambda found: f'<div class="scroll" tabindex="0" role="region" aria-label="Table">{found[0]}</div>', whole)
    whole = _PICTURE.sub(lambda found: f'<img src="{_inside(folder / found[1])}"', whole)
    lead, *parts = _PART.split(whole)
    lead = lead.replace("<h1>", '<h2 class="file">').replace("</h1>", "</h2>")  # the page's own name is the first heading
    folded = [_folded(part, opened=number == 0) for number, part in enumerate(parts)]
    return (
        '<header><h1>streamav</h1><p id="run" class="dim">report</p><button id="theme" type="button">Theme: automatic</button></header>\n'
        f'<main class="text"><section class="card lead">{lead}</section>\n' + "\n".join(folded) + "</main>"
    )


def _folded(part: str, *, opened: bool) -> str:
    """Return a part that begins with a heading as one that can be unfolded."""
    head, _, rest = part.partition("</h2>")
    return f"<details class='card'{' open' if opened else ''}><summary>{head.removeprefix('<h2>')}</summary>{rest}</details>"


def _inside(picture: Path) -> str:
    """Return a picture as an address that holds it; an empty one where it is missing or too large."""
    if not picture.is_file() or picture.stat().st_size > _MOST_PICTURE_BYTES:
        return escaped("data:,")
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode('ascii')}"
