"""Finds, reads and writes bundles: a folder with a model card (model.json) and weights (safetensors), written completely or not at all.

It builds no network: arrays are float32 numpy arrays with dotted names. It runs no code from a bundle and checks every file's size.
"""

from __future__ import annotations

import difflib
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.numpy import save

from streamav.bundle.card import ModelCard, parse_card
from streamav.bundle.places import CARD_FILE, bundle_names
from streamav.bundle.tensors import check_names, read_tensors, storable, tensor_names
from streamav.errors import ModelError, reason_of
from streamav.files import file_sha256, whole_folder
from streamav.mistyped import advice_on_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["WEIGHTS_FILE", "Bundle", "copy_bundle", "find_bundle", "load_bundle", "weights_sha256", "write_bundle"]

WEIGHTS_FILE = "weights.safetensors"
MAX_CARD_BYTES = 1 << 20
"""Largest card that is read, so that a wrong file cannot use up the memory (our choice: cards have about 15 kB)."""
_BASELINE = "network.json"
"""File of a baseline network, which has no card and no encoders."""
MAX_WEIGHTS_BYTES = 4 << 30
"""Ten times VGG-19 and VGGish together; a larger file is not a model of this project."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle with a valid card and weights files that have the hashes in the card."""

    card: ModelCard
    path: Path
    """The bundle's folder."""

    def weights(self, prefix: str) -> dict[str, NDArray[np.float32]]:
        """Return the weights of one network.

        Args:
            prefix: "audio", "visual" or "localizer" (with or without the dot).

        Returns:
            float32 arrays by name, without the prefix; arrays stored as float16 are converted to float32.
            Empty for an external encoder.

        Raises:
            ModelError: when a file is missing or damaged, or holds a type other than float16 and float32.
        """
        start = prefix.rstrip(".") + "."
        found: dict[str, NDArray[np.float32]] = {}
        for name in self.card.weights:
            for key, array in read_tensors(self.path / name, start):
                found[key.removeprefix(start)] = array
        return found

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights, 64 hexadecimal digits: of the file if there is one, of the list of hashes if there are several."""
        hashes = sorted(self.card.weights.items())
        if len(hashes) == 1:
            return hashes[0][1]
        return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in hashes).encode()).hexdigest()


def find_bundle(name_or_dir: str | Path) -> Bundle:
    """Load a bundle by name or folder. Names of the package come first, then names of the user's bundles, then folders.

    Raises:
        ModelError: when there is no such bundle, or it is damaged.
    """
    names = bundle_names()
    path = names.get(str(name_or_dir), Path(name_or_dir))
    if not path.is_dir():
        have, given = ", ".join(names) or "none", str(name_or_dir)
        near = difflib.get_close_matches(given.lower(), names, n=1)
        advice = f"did you mean {near[0]}?" if near else advice_on_path(given)
        msg = f"the model must be the name of a bundle (available: {have}) or the folder of a bundle, got {given!r}; {advice}"
        raise ModelError(msg)
    if (path / _BASELINE).is_file() and not (path / CARD_FILE).is_file():
        msg = (
            f"{path} must be a model that runs, got a baseline that streamav train --network wrote; "
            "compare its answers: streamav train ... --predictions FILE writes them, and streamav compare reads two such files"
        )
        raise ModelError(msg)
    return load_bundle(path)


def load_bundle(path: Path | str) -> Bundle:
    """Read a bundle's card and check its weights files: size, hash, header, names of tensors.

    Raises:
        ModelError: when anything is missing, damaged, incomplete or of another schema version.
    """
    path = Path(path)
    _check_inside(path, CARD_FILE)
    card = parse_card(_read_bounded(path / CARD_FILE, MAX_CARD_BYTES), str(path / CARD_FILE))
    if not card.weights:
        msg = f"the model card {path / CARD_FILE} names no weights file; the bundle is incomplete: download or write it again"
        raise ModelError(msg)
    for name, digest in card.weights.items():
        _check_inside(path, name)
        got = weights_sha256(path / name, MAX_WEIGHTS_BYTES)
        if got != digest:
            msg = f"{path / name} must have SHA-256 {digest}, got {got}; the bundle is damaged: download or write it again"
            raise ModelError(msg)
    check_names(card, [key for name in card.weights for key in tensor_names(path / name)], str(path))
    return Bundle(card, path)


def write_bundle(path: Path | str, card: ModelCard, tensors: Mapping[str, NDArray[np.generic]], *, replace: bool = False) -> Bundle:
    """Write a bundle completely or not at all: into a temporary folder beside *path*, which is renamed to *path* at the end.

    Args:
        path: folder to create.
        card: the card; its `weights` are filled in here.
        tensors: float16 or float32 arrays named "audio...", "visual...", "localizer..." or "evidence..."; stored with their type.
        replace: True to replace a bundle that is there.

    Raises:
        ModelError: when *path* exists already, a tensor's name or type is wrong, or the bundle cannot be written.
    """
    path = Path(path).absolute()
    arrays = {key: storable(key, value) for key, value in tensors.items()}
    check_names(card, list(arrays), str(path))

    def fill(folder: Path) -> None:
        (folder / WEIGHTS_FILE).write_bytes(save(arrays))  # save_file would create a file that only its owner can read
        digest = weights_sha256(folder / WEIGHTS_FILE, MAX_WEIGHTS_BYTES)
        whole = card.model_copy(update={"weights": {WEIGHTS_FILE: digest}})
        (folder / CARD_FILE).write_text(whole.to_json(), encoding="utf-8")

    return _write_whole(path, fill, replace=replace)


def copy_bundle(bundle: Bundle, path: Path | str, *, card: ModelCard | None = None, replace: bool = False) -> Bundle:
    """Copy a bundle to the folder *path*, completely or not at all.

    Args:
        bundle: the bundle to copy.
        path: folder to create.
        card: card of the copy, with the hashes of the same weights; None for an unchanged card.
        replace: True to replace a bundle that is there.

    Raises:
        ModelError: when *path* exists already or the copy cannot be written.
    """

    def fill(folder: Path) -> None:
        for name in (CARD_FILE, *bundle.card.weights):
            shutil.copyfile(bundle.path / name, folder / name)
        if card is not None:
            (folder / CARD_FILE).write_text(card.to_json(), encoding="utf-8")

    return _write_whole(Path(path).absolute(), fill, replace=replace)


def _write_whole(path: Path, fill: Callable[[Path], None], *, replace: bool) -> Bundle:
    """Fill a temporary folder beside *path*, check it, rename it to *path* and flush it to disk (training deletes its state afterwards)."""
    try:
        _check_free(path, replace=replace)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(path, durable=True) as new:
            fill(new)
            load_bundle(new)
    except (OSError, SafetensorError) as exc:
        msg = f"the bundle {path} cannot be written: {reason_of(exc)}"
        raise ModelError(msg) from exc
    return load_bundle(path)


def weights_sha256(path: Path, limit: int) -> str:
    """Return the SHA-256 of a file of at most *limit* bytes, as 64 hexadecimal digits.

    Raises:
        ModelError: when it is missing, not a file, unreadable or too large.
    """
    try:
        _check_size(path, limit)
        return file_sha256(path)
    except OSError as exc:
        msg = f"{path} must be a readable file: {reason_of(exc)}; the model is incomplete: download or write it again"
        raise ModelError(msg) from exc


def _read_bounded(path: Path, limit: int) -> bytes:
    try:
        _check_size(path, limit)
        return path.read_bytes()
    except OSError as exc:
        msg = f"{path} must be a readable file: {reason_of(exc)}; {path.parent} is not a bundle, or the bundle is incomplete"
        raise ModelError(msg) from exc


def _check_inside(folder: Path, name: str) -> None:
    """Raise when a file of a bundle is a link to a file outside of the bundle's folder: a bundle must not read the user's other files."""
    file = folder / name
    if file.is_symlink() and not file.resolve().is_relative_to(folder.resolve()):
        msg = f"{file} must be a file of the bundle, got a link to a file outside of it; put the file itself there"
        raise ModelError(msg)


def _check_size(path: Path, limit: int) -> None:
    size = path.stat().st_size
    if not path.is_file() or size > limit:
        msg = f"{path} must be a plain file of at most {limit} bytes, got {size}"
        raise ModelError(msg)


def _check_free(path: Path, *, replace: bool) -> None:
    if not path.exists():
        return
    is_bundle = (path / CARD_FILE).is_file()
    is_empty = path.is_dir() and not any(path.iterdir())
    if not (is_empty or (replace and is_bundle)):
        hint = "allow its replacement, or choose another folder" if is_bundle else "choose another folder"
        msg = f"the bundle's folder must not exist yet, got {path}; {hint}"
        raise ModelError(msg)
