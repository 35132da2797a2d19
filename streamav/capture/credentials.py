"""Puts a user name and a password that stand beside an address into it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from streamav.capture.address import is_network
from streamav.errors import SettingsError
from streamav.redaction import show_address

if TYPE_CHECKING:
    from streamav.config import SourceSettings

__all__ = ["with_password"]


def with_password(source: SourceSettings) -> str:
    """Return the address of a source with its user name and password, which may hold any characters.

    Raises:
        SettingsError: when the address is none of a network, holds a user name already, or the file of the password cannot be read.
    """
    uri = source.uri or ""
    if source.user is None:
        return uri
    scheme, _, rest = uri.partition("://")
    if not is_network(uri) or "@" in rest.partition("/")[0]:
        msg = f"source.user needs a network address without a user name in it, got {show_address(uri)}; write the user name in one place"
        raise SettingsError(msg)
    password = _password(source)
    login = quote(source.user, safe="") + ("" if password is None else f":{quote(password, safe='')}")
    return f"{scheme}://{login}@{rest}"


def _password(source: SourceSettings) -> str | None:
    if source.password is not None:
        return source.password.get_secret_value()
    if source.password_file is None:
        return None
    try:
        return source.password_file.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        msg = f"source.password_file must be a readable text file that holds only the password, got {source.password_file}"
        raise SettingsError(msg) from None
