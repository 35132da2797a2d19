"""Writes HTML documents that hold everything they need: style, program, data. They load nothing and work from a file.

The programs are the modules of the live page, joined into one. A content security policy in the document allows exactly this program and
this style, so that text from file names and labels can never run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["data_text", "document", "escaped", "joined_modules", "static_text", "table"]

_IMPORT: Final = re.compile(r'^import \{ ([^}]+) \} from "\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) )", re.MULTILINE)
_EXPORTED: Final = re.compile(r"^export (?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)
_PAGE: Final = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:image/svg+xml;base64,$icon">
<style>$style</style>
<style id="dark" media="(prefers-color-scheme: dark)">$dark</style>
</head>
<body>
$body
<script type="module">$script</script>
</body>
</html>
"""
)


def static_text(name: str) -> str:
    """Return a file of the page as text."""
    return (resources.files("streamav.view") / "static" / name).read_text(encoding="utf-8")


def escaped(text: str) -> str:
    """Return text as HTML shows it; bytes of a file name that are no UTF-8 become question marks."""
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"))


def data_text(tree: Mapping[str, Any]) -> str:
    """Return JSON that may stand in a script element: it holds no character that ends the element."""
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table. Cells are HTML: the caller escapes texts.

    Args:
        heads: names of the columns, plain text.
        rows: one HTML text for each column.
        numbers: columns that hold numbers; they are aligned to the right.
    """
    kind = ['class="number"' if column in numbers else "" for column in range(len(heads))]
    head = "".join(f'<th scope="col" {kind[column]}>{escaped(name)}</th>' for column, name in enumerate(heads))
    lines = ["<tr>" + "".join(f"<td {kind[column]}>{cell}</td>" for column, cell in enumerate(row)) + "</tr>" for row in rows]
    # A region that scrolls must be reachable with the keyboard (WCAG 2.1.1).
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Table"><table><thead><tr>{head}</tr></thead>\n<tbody>'
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


def joined_modules(main: str) -> str:
    """Return a module of the page and all that it imports as one script: each module in a function of its own.

    It understands the two forms that the page uses: `import { a, b } from "./x.js";` on one line, and `export` before a declaration.
    """
    done: dict[str, str] = {}
    _join(main, done)
    return "\n".join(done.values())


def document(title: str, body: str, *, script: str, sources: str = "") -> str:
    """Return a whole document.

    Args:
        title: plain text.
        body: HTML; the caller escapes texts.
        script: module of the page that runs in it.
        sources: further directives of the content security policy, such as "media-src blob:".
    """
    style, dark, program = static_text("page.css") + static_text("report.css"), static_text("dark.css"), joined_modules(script)
    directives = ["default-src 'none'", f"script-src {_hash(program)}", f"style-src {_hash(style)} {_hash(dark)}", "img-src data:"]
    policy = "; ".join([*directives, "base-uri 'none'", "form-action 'none'", *([sources] if sources else [])])
    icon = base64.b64encode(static_text("favicon.svg").encode()).decode("ascii")
    parts = {"icon": icon, "style": style, "dark": dark, "body": body, "script": program}
    return _PAGE.substitute(policy=html.escape(policy, quote=True), title=escaped(title), **parts)


def _join(name: str, done: dict[str, str]) -> None:
    """Add a module after those that it imports."""
    text = static_text(name)
    imports = _IMPORT.findall(text)
    for _, needed in imports:
        if needed not in done:
            _join(needed, done)
    taken = "".join(f"const {{ {names} }} = {_variable(needed)};\n" for names, needed in imports)
    exported = ", ".join(_EXPORTED.findall(text))
    code = _EXPORT.sub("", _IMPORT.sub("", text))
    done[name] = f"const {_variable(name)} = (() => {{\n{taken}{code}\nreturn {{ {exported} }};\n}})();"


def _variable(module: str) -> str:
    return "from_" + module.removesuffix(".js")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
