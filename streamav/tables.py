"""Reads tables of people (CSV) as the programs that people use write them, and finds the files that they name.

Excel separates by semicolons where the comma is the decimal sign, may put `sep=;` in front, ends rows early whose last cells are empty, and
keeps blank rows. macOS decomposes accents in names of files, and Windows has backslashes between folders.
It knows no columns: what they mean, and which must be there, is the part of who asks.
"""

from __future__ import annotations

import csv
import unicodedata
from typing import TYPE_CHECKING

from streamav.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["MAX_BYTES", "Row", "find_below", "read_table", "to_seconds"]

MAX_BYTES = 16 << 20
"""Largest table, bytes."""
_SEPARATORS = ",;\t"

Row = tuple[int, dict[str, str]]
"""The line it begins on, from 1, and its values by column, without white space around them."""


def read_table(path: Path, check: Callable[[list[str]], object] | None = None) -> tuple[list[str], list[Row]]:
    """Return the columns of a table and its rows that are not blank.

    Args:
        path: the file, UTF-8 with or without byte order mark; separated by commas, semicolons or tabs, as its header is. The header is its
            first row that is not blank.
        check: is given the columns before the rows are looked at, and raises where they are wrong.

    Raises:
        DataError: when it cannot be read, or a row has more values than the header has columns. What *check* raises passes through.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            msg = f"{path} must be at most {MAX_BYTES} bytes, got {path.stat().st_size}"
            raise DataError(msg)
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [(line, row) for line, row in _rows(stream.read()) if any(row)]
    except UnicodeDecodeError as exc:
        msg = f"{path} must be a readable table (CSV, UTF-8): {exc}; save it as CSV UTF-8"
        raise DataError(msg) from exc
    except (OSError, csv.Error) as exc:
        msg = f"{path} must be a readable table (CSV, UTF-8): {exc}"
        raise DataError(msg) from exc
    columns = _without_empty_end(rows[0][1]) if rows else []
    if check is not None:
        check(columns)
    found: list[Row] = []
    for line, row in rows[1:]:
        values = _without_empty_end(row)
        if len(values) > len(columns):
            msg = f"{path}, row {line}: it must have at most the {len(columns)} fields of the header, got {len(values)}"
            raise DataError(msg)
        values += [""] * (len(columns) - len(values))
        found.append((line, dict(zip(columns, values, strict=True))))
    return columns, found


def find_below(folder: Path, name: str) -> str | None:
    """Return the path below *folder* that *name* means, with slashes, as it is on the disk; None when there is no such file.

    Args:
        folder: where the files are.
        name: path with slashes or backslashes, its accents composed or decomposed.
    """
    plain = name.replace("\\", "/").removeprefix("./")
    for spelling in (name, plain, unicodedata.normalize("NFC", plain), unicodedata.normalize("NFD", plain)):
        if (folder / spelling).is_file():
            return spelling
    return _spelt_otherwise(folder, plain)


def to_seconds(text: str) -> float:
    """Read a number of seconds, with a decimal point or a decimal comma.

    Raises:
        ValueError: when it is none.
    """
    return float(text.replace(",", ".", 1) if "." not in text else text)


def _spelt_otherwise(folder: Path, name: str) -> str | None:
    """Look for a path each of whose parts may be spelt in another normal form."""
    found = ""
    for part in name.split("/"):
        place = folder / found
        if part in {"", ".", ".."} or not place.is_dir():
            return None
        wanted = unicodedata.normalize("NFC", part)
        same = [one.name for one in place.iterdir() if unicodedata.normalize("NFC", one.name) == wanted]
        if not same:
            return None
        found = f"{found}/{min(same)}" if found else min(same)
    return found if (folder / found).is_file() else None


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows with the line each begins on."""
    head, _, rest = text.lstrip("\r\n").partition("\n")
    skipped = text[: len(text) - len(text.lstrip("\r\n"))].count("\n")
    named = head.strip().lower()
    if named.startswith("sep=") and named[4:5]:
        separator, body, skipped = named[4:5], rest, skipped + 1
    else:
        separator, body = max(_SEPARATORS, key=head.count), text[len(text) - len(text.lstrip("\r\n")) :]
    reader = csv.reader(body.splitlines(keepends=True), delimiter=separator, strict=True)
    line = 1 + skipped
    for row in reader:
        yield line, [value.strip() for value in row]
        line = reader.line_num + 1 + skipped


def _without_empty_end(row: list[str]) -> list[str]:
    last = max((number for number, value in enumerate(row, start=1) if value), default=0)
    return row[:last]
