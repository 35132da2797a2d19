"""Reads tables (CSV) as spreadsheet programs write them, and finds the files that the tables name.

Excel separates values by semicolons where the comma is the decimal sign. It may write `sep=;` before the header, it leaves out empty
cells at the end of a row, and it keeps blank rows. macOS decomposes accents in file names, and Windows has backslashes between folders.
The callers know the columns, their meaning and which of them are required.
"""

from __future__ import annotations

import csv
import unicodedata
from typing import TYPE_CHECKING

from streamav.errors import DataError, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["MAX_BYTES", "Row", "find_below", "read_table", "to_seconds"]

MAX_BYTES = 16 << 20
"""Largest table, bytes."""
_SEPARATORS = ",;\t"
_LONGEST_NAME = 255
"""Longest name of a file in Linux and macOS, bytes."""

Row = tuple[int, dict[str, str]]
"""The line on which the row begins, from 1, and its values by column, without white space around them."""


def read_table(path: Path, check: Callable[[list[str]], object] | None = None) -> tuple[list[str], list[Row]]:
    """Return the columns of a table and all rows that are not blank.

    Args:
        path: the file, UTF-8 with or without byte order mark, separated by commas, semicolons or tabs. The header is the first row that
            is not blank; it shows which separator the file uses.
        check: called with the columns before the rows are read; it raises an error if the columns are wrong.

    Raises:
        DataError: when the file cannot be read, or a row has more values than the header has columns. Errors of *check* pass through.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            msg = f"{path} must be at most {MAX_BYTES} bytes, got {path.stat().st_size}"
            raise DataError(msg)
        text = path.read_bytes().decode("utf-8-sig")
        if "\0" in text:
            msg = f"{path} must be a readable table (CSV, UTF-8), got NUL characters, as in UTF-16; save it as CSV UTF-8"
            raise DataError(msg)
        rows = [(line, row) for line, row in _rows(text) if any(row)]
    except UnicodeDecodeError as exc:
        msg = f"{path} must be a readable table (CSV, UTF-8): {exc}; save it as CSV UTF-8"
        raise DataError(msg) from exc
    except (FileNotFoundError, NotADirectoryError) as exc:
        msg = f"{path} must be a table (CSV, UTF-8), got no such file; check the path, or write the table"
        raise DataError(msg) from exc
    except (OSError, csv.Error) as exc:
        msg = f"{path} must be a readable table (CSV, UTF-8): {reason_of(exc)}"
        raise DataError(msg) from exc
    columns = _without_empty_end(rows[0][1]) if rows else []
    if check is not None:
        check(columns)
    found: list[Row] = []
    for line, row in rows[1:]:
        values = _without_empty_end(row)
        if len(values) > len(columns):
            msg = f"{path}, row {line}: the row must have at most the {len(columns)} fields of the header, got {len(values)}"
            raise DataError(msg)
        values += [""] * (len(columns) - len(values))
        found.append((line, dict(zip(columns, values, strict=True))))
    return columns, found


def find_below(folder: Path, name: str) -> str | None:
    """Return the path below *folder* that *name* means, with slashes and as it is spelled on the disk; None when no such file exists.

    A name that leads out of the folder, or that the system refuses as too long, is the name of no file.

    Args:
        folder: the folder of the files.
        name: path with slashes or backslashes, with composed or decomposed accents.
    """
    plain = name.replace("\\", "/").removeprefix("./")
    if plain.startswith("/") or ".." in plain.split("/") or any(len(part.encode()) > _LONGEST_NAME for part in plain.split("/")):
        return None
    for spelling in (name, plain, unicodedata.normalize("NFC", plain), unicodedata.normalize("NFD", plain)):
        if (folder / spelling).is_file():
            return spelling
    return _find_normalized(folder, plain)


def to_seconds(text: str) -> float:
    """Return a number of seconds from text with a decimal point or a decimal comma.

    Raises:
        ValueError: when the text is not a number.
    """
    return float(text.replace(",", ".", 1) if "." not in text else text)


def _find_normalized(folder: Path, name: str) -> str | None:
    """Return the path of a file if each part of *name* matches in some Unicode normal form; None when there is none."""
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
    """Yield the rows, each with the line on which it begins."""
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
