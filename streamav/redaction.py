"""Removes secrets from addresses of cameras, also from addresses within a longer text.

It opens nothing. A password can be in every part of an address: before the host, in the path (XMEye: `/user=admin_password=...`,
UniFi: `/TOKEN`), in the query and in the fragment. So the module does not search for secrets. It shows only the scheme, the host, the
port and words that are common in paths of cameras, and replaces all other parts by three dots.
"""

from __future__ import annotations

import logging
import re
import time
from urllib.parse import unquote

__all__ = ["HIDDEN", "RedactingFormatter", "has_secret", "printable", "redact", "show_address"]

HIDDEN = "..."
"""Replaces each hidden part."""

_HOST = re.compile(r"([A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]+(%\w+)?\])(:\d{1,5})?")
_SURE_HOST = re.compile(
    r"(\d{1,3}(\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+(%\w+)?\]|localhost|[A-Za-z0-9_.-]+\.(local|lan|home|internal|localdomain|arpa|box))(:\d{1,5})?"
)
"""A host that is very unlikely to be part of a password."""
_PARTS = re.compile(r"h26[45]|mpeg4|mp[34]|m3u8|1080p|720p|480p|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[._-]")
_WORDS_OF_CAMERAS = """
live stream streams streaming livestream channel channels ch chn cam cams camera cameras video videos videostream audio av media
input main mainstream sub substream minor major primary secondary first second third high low hd sd onvif profile track preview
unicast multicast realmonitor axis cgi bin amp bcs mjpeg mjpg mpeg jpeg jpg h264 h265 hevc avc mpeg4 mp3 mp4 m3u8 1080p 720p 480p
264 265 sdp ts mov mkv webm flv index playlist hls rtsp rtmp play default feed image snapshot clip film movie test api
"""
_WORDS_OF_PEOPLE = """
front back rear side door doorbell porch garden yard drive driveway garage carport gate street road entrance entry hall hallway
kitchen nursery baby bed living dining room bedroom bathroom attic cellar basement stairs office workshop shed barn stable pool
pond patio terrace balcony roof lobby left right north south east west upper lower up down in out inside outside indoor outdoor
"""
_WORDS = frozenset((_WORDS_OF_CAMERAS + _WORDS_OF_PEOPLE).split())
_NUMBERED = re.compile(r"(channels?|ch|chn|camera|cam|profile|stream|subtype|track)=(\d{1,2}|main|sub)")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_AFTER = re.compile(r"[]\"')},:;>]*(?:(?<!\.)\.)?[]\"')}>]*$")
_WITHOUT_SCHEME = re.compile(r"""(?<![^\s'"(=,])[^\s'"(=,:/@]*:(?!//)[^\s'"@]*@(?=[\w.\[-])""")
"""What stands before the host of an address whose scheme is missing or misspelled, as in rtsp:/user:password@host."""
_SERVER = re.compile(r"(https?|wss?|mqtts?)://([^/?#@]*@)?([^?#@]*)([?#][^@]*)?")
_NAMED_SECRET = re.compile(r"(?i)((?:password|passphrase|passwd|passwort|pass|pwd|token|secret|api_?key|access_?key)=)[^\s]+")


def show_address(address: str) -> str:
    """Return the address of a source, or the name of a file, without secrets and on one line.

    Args:
        address: the whole address without other text. A result of this function is returned unchanged.
    """
    address = printable(address)
    if address.lower().startswith("lavfi:"):  # a filter graph; its filters movie and amovie read files and addresses
        return address if "movie" not in address.lower() else f"lavfi:{HIDDEN}"
    before, scheme_end, rest = address.partition("://")
    scheme = re.search(r"[A-Za-z][A-Za-z0-9+.-]*$", before)
    if scheme_end and scheme is not None and scheme[0].lower() != "file":
        return f"{scheme[0]}://{_without_scheme(rest)}"
    return _name(address)


def printable(name: str) -> str:
    """Return a name with all characters that cannot be printed written as escapes, as in Python.

    The name of a file may hold line breaks, commands of the terminal, and bytes that are not UTF-8.
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def redact(text: str) -> str:
    """Return a text without the secrets of its addresses, and without the values of `password=` and similar parameters.

    An address ends at white space. Addresses of servers (http, mqtt) keep their path, because models and brokers have such addresses
    too. Callers that have the address of a camera must use `show_address`.
    """
    return _NAMED_SECRET.sub(rf"\1{HIDDEN}", _WITHOUT_SCHEME.sub(f"{HIDDEN}@", _ADDRESS.sub(_shown, text)))


class RedactingFormatter(logging.Formatter):
    """Lines of a log, in UTC and without secrets, also those of libraries."""

    def __init__(self, form: str, datefmt: str | None = None) -> None:
        """Store the form of a line and of its time."""
        super().__init__(form, datefmt)
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return redact(super().format(record))


def has_secret(address: str) -> bool:
    """Return whether an address seems to contain a password: user information, or a parameter such as `password=`."""
    return re.search("://[^@]+@", address) is not None or _NAMED_SECRET.search(address) is not None


def _shown(found: re.Match[str]) -> str:
    after = _AFTER.search(found[0])
    end = "" if after is None else after[0]
    address = found[0].removesuffix(end)
    server = _SERVER.fullmatch(address)
    if server is None:
        return show_address(address) + end
    scheme, user, rest, parameters = server.groups(default="")
    who = user if scheme.startswith("mqtt") and ":" not in user else f"{HIDDEN}@" if user else ""
    return f"{scheme}://{who}{rest}" + (f"{parameters[0]}{HIDDEN}" if parameters else "") + end


def _name(name: str) -> str:
    """Return the name of a file without secrets. It may be an address whose scheme is missing or misspelled."""
    if "%" in name and "://" in (plain := unquote(name)):  # a whole address may be quoted, as in the query of another one
        return show_address(plain)
    if re.search(r":.*@", name):
        return _without_scheme(name)
    if "?" in name and "=" in name.partition("?")[2]:
        name = f"{name.partition('?')[0]}?{HIDDEN}"
    return _NAMED_SECRET.sub(rf"\1{HIDDEN}", name)


def _without_scheme(rest: str) -> str:
    """Return `user:password@host:port/path?query#fragment` without secrets.

    In RFC 3986 the host ends at the first of / ? #, and user information ends at the last @ before it. Users also write passwords
    unquoted, so an @ may follow; then only a part that is certainly a host is taken as the host.
    """
    end = re.search(r"[/?#\\]", rest)
    authority, tail = (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
    if "@" in tail:
        return _ambiguous(authority, tail)
    user, at, host = authority.rpartition("@")
    if _HOST.fullmatch(host) is None:
        return HIDDEN
    return (f"{HIDDEN}@" if user else at) + host + _tail(tail)


def _ambiguous(authority: str, tail: str) -> str:
    """Return an address without secrets, where an @ follows the apparent host."""
    pieces = [authority.rpartition("@")[2], *tail.split("@")[1:]]
    hosts = [re.split(r"[/?#&\\]", piece, maxsplit=1)[0] for piece in pieces]
    sure = [number for number, host in enumerate(hosts) if _SURE_HOST.fullmatch(host)]
    if not sure and len(hosts) == 2 and not _HOST.fullmatch(hosts[0]) and _HOST.fullmatch(hosts[1]):  # noqa: PLR2004 - only one @
        sure = [1]
    if not sure:
        return HIDDEN
    first = sure[0]
    last = first == len(hosts) - 1
    return f"{HIDDEN}@{hosts[first]}" + (_tail(pieces[first][len(hosts[first]) :]) if last else f"/{HIDDEN}")


def _tail(tail: str) -> str:
    """Return path, query and fragment without secrets."""
    parts = re.fullmatch(r"([^?#]*)(\?[^#]*)?(#.*)?", tail, re.DOTALL)
    path, query, fragment = parts.groups() if parts else (tail, None, None)
    shown = "/".join(part if _plain(part) else HIDDEN for part in path.split("/"))
    shown = re.sub(r"\.\.\.(/\.\.\.)+", HIDDEN, shown)
    if shown and not shown.startswith("/"):  # dots right behind the host would be read as a part of it
        shown = f"/{shown}"
    return shown + ("" if query is None else f"?{_query(query[1:])}") + ("" if fragment is None else f"#{HIDDEN}")


def _query(query: str) -> str:
    """Return the parameters that number a channel; the others are replaced together by three dots."""
    parameters = [one for one in re.split("[&;]", query) if one]
    shown = [one for one in parameters if _NUMBERED.fullmatch(one)]
    return "&".join([*shown, *([HIDDEN] if len(shown) < len(parameters) else [])])


def _plain(part: str) -> bool:
    """Return whether one part of a path consists of known words and at most three other digits."""
    if part == HIDDEN:
        return True
    pieces = _PARTS.findall(part)
    digits = "".join(piece for piece in pieces if piece.isdigit() and piece not in _WORDS)
    words = [piece.lower() for piece in pieces if not piece.isdigit() and piece not in {".", "_", "-"}]
    return "".join(pieces) == part and len(digits) <= 3 and _WORDS.issuperset(words)  # noqa: PLR2004 - a PIN has more digits
