"""Writes one file with what people who help need: versions, settings, findings of the doctor, devices, model, engines, log and events.

Every text passes a `Scrubber`. There are no pictures and no sounds in it. A part that cannot be made is a sentence that says why.
"""

from __future__ import annotations

import json
import os
import platform
import time
import zipfile
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from streamav import __version__
from streamav.config import ADDRESS_SETTINGS
from streamav.errors import SettingsError, reason_of
from streamav.files import PRIVATE_FILE, whole_file
from streamav.journal import EventQuery, History, journal_path
from streamav.publish.state_folder import default_state_dir
from streamav.support.kept_log import KEPT_NAME
from streamav.support.scrub import Scrubber, known_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from streamav.config import Settings

__all__ = ["PARTS", "write_bundle"]

_LARGEST_LOG: Final = 2_000_000
"""Newest bytes of each log that are taken."""
_MOST_EVENTS: Final = 500
_DAYS: Final = 7
_FIRST_YEAR: Final = 1980
_DOCTOR_S: Final = 120.0
"""Checks of the doctor that have not begun by then are left out."""
PARTS: Final = {
    "about.json": "versions of streamav, Python, the system and the packages; processor and memory",
    "settings.json": "all settings, also defaults; addresses without secrets, passwords and tokens left out",
    "variables.json": "names of the STREAMAV_* variables that are set, without their values",
    "doctor.json": "what `streamav doctor` finds",
    "devices.json": "cameras and microphones",
    "model.json": "the card of the model",
    "engines.json": "built engines, and those that cannot run here",
    "files.json": "names and sizes of the files in the folder of all state",
    "events.json": f"the newest {_MOST_EVENTS} events of the last {_DAYS} days, as in `streamav events --json`",
    "logs/": f"the kept log, and the files after --log: the newest {_LARGEST_LOG // 1_000_000} MB of each",
}
"""Names of the files in the bundle, and what they hold."""


def write_bundle(
    out: Path, settings: Settings, logs: Sequence[Path] = (), *, doctor: bool = True, say: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Write the file and return the names of the files in it.

    Args:
        out: a ZIP file that does not exist yet; only its owner can read it.
        settings: of the run that is asked about.
        logs: further log files.
        doctor: False leaves the checks out, which open the sources and connect to the broker.
        say: told what is being done.

    Raises:
        SettingsError: when the file exists or cannot be written, or a log cannot be read.
    """
    if out.exists():
        msg = f"the bundle must be a new file, but {out} exists; delete it or choose another name"
        raise SettingsError(msg)
    scrubber = Scrubber(known_secrets(settings, os.environ), Path.home())
    texts = dict(_log_texts(settings, logs))
    makers: dict[str, Callable[[], Any]] = {
        "about.json": _about,
        "settings.json": lambda: _shown_settings(settings),
        "variables.json": lambda: sorted(name for name in os.environ if name.startswith("STREAMAV_")),
        "devices.json": _devices,
        "model.json": lambda: _model(settings),
        "engines.json": _engines,
        "files.json": lambda: _files(settings.state_dir or default_state_dir()),
        "events.json": lambda: _events(settings),
        "doctor.json": lambda: _doctor(settings) if doctor else "left out",
    }
    for name, make in makers.items():
        say(f"{name}: {PARTS[name]}")
        texts[name] = json.dumps(scrubber.value(_guarded(make)), indent=1, ensure_ascii=False, default=str) + "\n"
    texts["README.txt"] = _readme()
    try:
        with whole_file(out, private=True) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(texts):
                entry = zipfile.ZipInfo(name, _zip_date())
                entry.external_attr = PRIVATE_FILE << 16
                archive.writestr(entry, scrubber.text(texts[name]).encode("utf-8", "backslashreplace"), zipfile.ZIP_DEFLATED)
    except OSError as exc:
        msg = f"the bundle {out} cannot be written: {reason_of(exc)}; choose a folder that exists and can be written to"
        raise SettingsError(msg) from exc
    return sorted(texts)


def _zip_date() -> tuple[int, int, int, int, int, int]:
    """Return the time now; a ZIP file knows none before 1980, which a board without a clock shows."""
    now = time.gmtime()
    return now[:6] if now.tm_year >= _FIRST_YEAR else (_FIRST_YEAR, 1, 1, 0, 0, 0)


def _guarded(make: Callable[[], Any]) -> Any:  # noqa: ANN401 - any JSON value
    """Return what *make* returns, or why it could not be made."""
    try:
        return make()
    except Exception as exc:  # noqa: BLE001 - a bundle is made where something is broken
        return {"could_not_be_made": f"{type(exc).__name__}: {exc}"}


def _readme() -> str:
    lines = [f"Support bundle of streamav {__version__}. Look through it before you send it: it names cameras, brokers and events."]
    return "\n".join([*lines, "", *(f"{name:<16} {what}" for name, what in PARTS.items())]) + "\n"


def _about() -> dict[str, Any]:
    from streamav.engines.machine import instructions, processor_name

    packages = {
        one.partition(";")[0].split("[")[0].split(">")[0].split("=")[0].split("<")[0].strip() for one in metadata.requires("streamav") or ()
    }
    return {
        "streamav": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": _guarded(platform.freedesktop_os_release),
        "processor": processor_name(),
        "instructions": instructions(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "packages": {name: _version(name) for name in sorted(packages)},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _shown_settings(settings: Settings) -> dict[str, Any]:
    """Return all settings; the addresses of sources have no secrets."""
    from streamav.redaction import show_address

    tree: dict[str, Any] = settings.model_dump(mode="json")
    for one in (tree["source"], *tree["sources"]):
        for key in ADDRESS_SETTINGS:
            one[key] = None if one[key] is None else show_address(one[key])
    return tree


def _devices() -> dict[str, Any]:
    from streamav.capture import list_cameras, list_microphones

    return {
        "cameras": _guarded(lambda: [asdict(one) for one in list_cameras()]),
        "microphones": _guarded(lambda: [asdict(one) for one in list_microphones()]),
    }


def _model(settings: Settings) -> dict[str, Any]:
    from streamav.bundle import choose_bundle

    chosen = choose_bundle(settings.model.name, settings.model.weights_dir)
    return {"sha256": chosen.bundle.sha256, "note": chosen.note, "card": chosen.bundle.card.model_dump(mode="json")}


def _engines() -> dict[str, Any]:
    from streamav.engines import EngineCache
    from streamav.engines.upkeep import describe, unusable_here

    survey = EngineCache().survey()
    return {
        "engines": [asdict(describe(entry)) for entry in survey.entries],
        "damaged": {path.name[:16]: reason for path, reason in survey.damaged},
        "unusable": unusable_here(),
    }


def _files(folder: Path) -> dict[str, Any]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())[:1000]
    return {"folder": str(folder), "files": {str(path.relative_to(folder)): path.stat().st_size for path in found}}


def _events(settings: Settings) -> list[dict[str, object]]:
    path = journal_path(settings.state_dir)
    with History.reading(path) as history:
        history.limit_time(10.0)
        return history.find(EventQuery(since=time.time() - _DAYS * 86_400.0, limit=_MOST_EVENTS, newest_first=True))


def _doctor(settings: Settings) -> dict[str, Any]:
    from streamav.doctor import examine

    end_s = time.monotonic() + _DOCTOR_S
    findings: list[Mapping[str, Any]] = []
    for finding in examine(settings):
        findings.append(asdict(finding))
        if time.monotonic() > end_s:
            return {"findings": findings, "note": f"checks after {_DOCTOR_S:.0f} s are left out"}
    return {"findings": findings}


def _log_texts(settings: Settings, logs: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield the kept log and the named ones with their names in the bundle."""
    folder = settings.state_dir or default_state_dir()
    for name in (f"{KEPT_NAME}.1", KEPT_NAME):
        with suppress(FileNotFoundError):
            yield f"logs/{name}", _kept(folder / name)
    for number, path in enumerate(logs, 1):
        yield f"logs/{number}-{path.name}", _newest(path)


def _kept(path: Path) -> str:
    """Return the newest lines of the kept log, or why it cannot be read.

    Raises:
        FileNotFoundError: when there is none.
    """
    try:
        return _newest(path)
    except SettingsError as exc:
        if isinstance(exc.__cause__, FileNotFoundError):
            raise exc.__cause__ from None
        return f"could not be read: {exc.__cause__}\n"


def _newest(path: Path) -> str:
    """Return the newest lines of a log.

    Raises:
        SettingsError: when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LARGEST_LOG))
            content = file.read(_LARGEST_LOG)
    except OSError as exc:
        msg = f"--log must name readable files, got {path}: {reason_of(exc)}"
        raise SettingsError(msg) from exc
    if size > _LARGEST_LOG:
        content = content.partition(b"\n")[2]  # half a line might hide a secret's beginning
    return content.decode("utf-8", "backslashreplace")
