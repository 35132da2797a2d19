"""Removes the secrets of an installation from texts: what `redaction` recognises by its form, and the known secrets wherever they stand.

A secret is known when it is a password or token of the settings, a hidden part of the address of a source, or the value of a variable
whose name says so.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from pydantic import BaseModel, SecretStr

from streamav.config import ADDRESS_SETTINGS
from streamav.redaction import HIDDEN, redact, show_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from streamav.config import Settings

__all__ = ["Scrubber", "known_secrets"]

_LEAST: Final = 4
"""A shorter text stands in too many words to be replaced everywhere."""
_VARIABLE: Final = re.compile(r"PASS|TOKEN|SECRET|CREDENTIAL|API_?KEY|PRIVATE_KEY", re.IGNORECASE)
_COMMON: Final = frozenset(
    {"user", "username", "pass", "password", "passwd", "token", "auth", "http", "https", "rtsp", "rtsps", "true", "false"}
)
"""Words of addresses that are no secrets, even where they are hidden."""
_LARGEST_FILE: Final = 4096


class Scrubber:
    """Removes secrets."""

    def __init__(self, secrets: Iterable[str], home: Path | None = None) -> None:
        """Store the known secrets, and the folder that is shown as ~."""
        forms = {
            form for secret in secrets for form in (secret, quote(secret, safe=""), quote(secret), unquote(secret)) if len(form) >= _LEAST
        }
        self._known = re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))) if forms else None
        self._home = None if home is None or home == Path("/") else str(home)

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        found = redact(text)
        if self._known is not None:
            found = self._known.sub(HIDDEN, found)
        return found if self._home is None else found.replace(self._home, "~")

    def value(self, value: Any) -> Any:  # noqa: ANN401 - any JSON value
        """Return a JSON value whose texts and keys have no secrets."""
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        return self.text(value) if isinstance(value, str) else value


def known_secrets(settings: Settings, environment: Mapping[str, str]) -> set[str]:
    """Return the secrets of the settings, of the files that they name, of the addresses of sources, and of the environment."""
    found = {value for name, value in environment.items() if _VARIABLE.search(name)}
    found.update(_of_settings(settings))
    for one in settings.each_source():
        for address in (getattr(one, name) for name in ADDRESS_SETTINGS):
            found.update(_hidden_parts(address) if address is not None else ())
    return {secret for secret in found if len(secret) >= _LEAST}


def _of_settings(settings: BaseModel) -> Iterator[str]:
    """Yield the secret values below *settings*, and the content of the files that hold one."""
    for name, value in settings:
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from _of_settings(value)
        elif isinstance(value, tuple):
            for one in value:
                yield from _of_settings(one) if isinstance(one, BaseModel) else ()
        elif name in {"password_file", "token_file"} and isinstance(value, Path):
            yield from _content(value)


def _content(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            yield from opened.read(_LARGEST_FILE).split("\n")
    except OSError:
        return


def _hidden_parts(address: str) -> set[str]:
    """Return the words of an address that are not shown."""
    shown = show_address(address)
    parts = set(re.split(r"[:/?#&=@;,]+", address)) | set(re.split(r"\W+", unquote(address)))
    return {part for part in parts if part not in shown and part.lower() not in _COMMON}
