"""Turns names into slugs: the plain form of labels, bundles and files.

Not used: `python-slugify` and `Unidecode` convert any script to Latin letters by tables. Automations depend on labels, so a name without
a plain form is refused here instead of guessed.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from streamav.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["NAME_SIZE", "SLUG_SIZE", "class_slugs", "slug"]

SLUG_SIZE = 64
"""Longest slug, characters."""
NAME_SIZE = 200
"""Longest readable name of a class, characters."""
_MAX_TOLD = 20


def slug(name: str, separator: str = "_") -> str:
    """Return the plain form of a name: small letters a-z and digits, with one *separator* in place of everything between them.

    Accents are dropped ("Café" becomes cafe, "Straße" strasse). A letter or digit without a plain form is refused, never left out, so
    that two different names do not get the same slug. The slug of a slug is the slug itself.

    Args:
        name: any text.
        separator: "_" for labels, "-" for names of bundles and files.

    Returns:
        1 to `SLUG_SIZE` characters.

    Raises:
        DataError: when the name has a letter or digit without a plain form, none at all, or too many.
    """
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(letter)).casefold()
    strange = sorted({letter for letter in plain if letter.isalnum() and not letter.isascii()})
    if strange:
        msg = f"{name[:80]!r} must be in letters a to z and digits (accents may stay), got {' '.join(strange[:8])}; write it in these"
        raise DataError(msg)
    words = re.findall("[a-z0-9]+", plain)
    made = separator.join(words)
    if not 1 <= len(made) <= SLUG_SIZE:
        msg = f"{name[:80]!r} must have 1 to {SLUG_SIZE} letters a to z and digits, got {len(made)}; choose another name"
        raise DataError(msg)
    return made


def class_slugs(path: Path, names: Iterable[tuple[int, str]]) -> tuple[str, ...]:
    """Return the labels of the classes that a file names, in the order of the file.

    Args:
        path: the file, for messages.
        names: line number (from 1) and name of each class.

    Raises:
        DataError: when a name has no slug or is "background", or two names have the same slug. The message lists all problems (the
            first twenty) with their lines.
    """
    known: dict[str, tuple[int, str]] = {}
    problems = []
    for line, name in names:
        try:
            made = _class_slug(name)
        except DataError as exc:
            problems.append(f"line {line}: the class {exc}")
            continue
        first = known.setdefault(made, (line, name))
        if first != (line, name):
            problems.append(
                f"line {line}: {name!r} and {first[1]!r} (line {first[0]}) would both be the label {made}; rename one, or join the two"
            )
    if problems:
        more = [f"and {len(problems) - _MAX_TOLD} more"] if len(problems) > _MAX_TOLD else []
        msg = f"{path} must be corrected:\n" + "\n".join([*problems[:_MAX_TOLD], *more])
        raise DataError(msg)
    return tuple(known)


def _class_slug(name: str) -> str:
    if len(name) > NAME_SIZE or not name.isprintable():
        msg = f"{name[:80]!r} must be a name of at most {NAME_SIZE} printable characters on one line, got {len(name)}; choose another name"
        raise DataError(msg)
    made = slug(name)
    if made == "background":
        msg = f"{name!r} must not be listed: background means that no class is present; leave it out"
        raise DataError(msg)
    return made
