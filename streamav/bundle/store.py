"""Reads, finds and writes bundles: a folder with a model card (model.json) and weights (safetensors), whole or not at all.

It knows no network: arrays are float32 numpy under dotted names. It runs nothing that it reads and trusts no size it is told.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from streamav.bundle.card import ModelCard, parse_card
from streamav.errors import ModelError
from streamav.files import file_sha256, user_folder, whole_folder
from streamav.setting_names import HOME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

__all__ = [
    "CARD_FILE",
    "PARTS",
    "WEIGHTS_FILE",
    "Bundle",
    "bundle_names",
    "copy_bundle",
    "data_home",
    "encoder_folder",
    "find_bundle",
    "load_bundle",
    "models_folder",
    "weights_sha256",
    "write_bundle",
]

CARD_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
PARTS = ("audio", "visual", "localizer")
"""First word of every tensor's name: the network it belongs to."""
MAX_CARD_BYTES = 1 << 20
MAX_WEIGHTS_BYTES = 4 << 30
"""Ten times VGG-19 and VGGish together; more is not a model of ours."""
_FLOATS = ("F16", "F32")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose card is right and whose weights files have the sizes and hashes that the card names."""

    card: ModelCard
    path: Path
    """The bundle's folder."""

    def weights(self, prefix: str) -> dict[str, NDArray[np.float32]]:
        """Give the weights of one network.

        Args:
            prefix: "audio", "visual" or "localizer" (with or without the dot).

        Returns:
            float32 arrays by name, without the prefix; what is stored as float16 comes back as float32.
            Empty for an external encoder.

        Raises:
            ModelError: when a file has gone, is damaged, or holds a type other than float16 and float32.
        """
        start = prefix.rstrip(".") + "."
        found: dict[str, NDArray[np.float32]] = {}
        for name in self.card.weights:
            for key, array in _tensors(self.path / name, start):
                found[key.removeprefix(start)] = array
        return found

    @property
    def sha256(self) -> str:
        """Hash of the weights, 64 hexadecimal digits: of the file where there is one, of the list of hashes where there are more."""
        hashes = sorted(self.card.weights.items())
        if len(hashes) == 1:
            return hashes[0][1]
        return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in hashes).encode()).hexdigest()


def data_home() -> Path:
    """Give the folder of the user's own models: $STREAMAV_HOME, else streamav in $XDG_DATA_HOME or ~/.local/share."""
    home = os.environ.get(HOME)
    if home:
        return Path(home)
    return user_folder("XDG_DATA_HOME", ".local/share") / "streamav"


def models_folder() -> Path:
    """Give the folder where the user's bundles lie, one folder each."""
    return data_home() / "models"


def encoder_folder() -> Path:
    """Give the folder where `streamav models pull` puts public encoders."""
    return data_home() / "weights"


def bundle_names() -> dict[str, Path]:
    """List the bundles that can be asked for by name: those of the package, then those of the user."""
    names: dict[str, Path] = {}
    for folder in (_packaged_folder(), models_folder()):
        if folder.is_dir():
            for card in sorted(folder.glob(f"*/{CARD_FILE}")):
                if not card.parent.name.startswith("."):
                    names.setdefault(card.parent.name, card.parent)
    return names


def find_bundle(name_or_dir: str | Path) -> Bundle:
    """Load a bundle by name or folder; a name of the package wins over one of the user, a name over a folder.

    Raises:
        ModelError: when there is none, or it cannot be used.
    """
    names = bundle_names()
    path = names.get(str(name_or_dir), Path(name_or_dir))
    if not path.is_dir():
        have = ", ".join(names) or "none"
        msg = f"the model must be the name of a bundle (there are: {have}) or the folder of one, got {str(name_or_dir)!r}"
        raise ModelError(msg)
    return load_bundle(path)


def load_bundle(path: Path | str) -> Bundle:
    """Read a bundle's card and check its weights files against it: size, hash, header, names of tensors.

    Raises:
        ModelError: when anything is missing, damaged, half-written or of another schema version.
    """
    path = Path(path)
    card = parse_card(_read_bounded(path / CARD_FILE, MAX_CARD_BYTES), str(path / CARD_FILE))
    if not card.weights:
        msg = f"the model card {path / CARD_FILE} names no weights file; the bundle was not written to its end"
        raise ModelError(msg)
    for name, digest in card.weights.items():
        got = weights_sha256(path / name, MAX_WEIGHTS_BYTES)
        if got != digest:
            msg = f"{path / name} must have SHA-256 {digest}, got {got}; the bundle is damaged, get it again"
            raise ModelError(msg)
    _check_names(card, [key for name in card.weights for key in _keys(path / name)], str(path))
    return Bundle(card, path)


def write_bundle(path: Path | str, card: ModelCard, tensors: Mapping[str, NDArray[np.generic]], *, replace: bool = False) -> Bundle:
    """Write a bundle whole or not at all: into a folder beside *path*, which then takes its name.

    Args:
        path: folder to make.
        card: the card; its `weights` are filled in here.
        tensors: float16 or float32 arrays named "audio...", "visual..." or "localizer..."; stored in the type they have.
        replace: True to put the new bundle in the place of one that is there.

    Raises:
        ModelError: when *path* is taken, a tensor's name or type is wrong, or the disk refuses.
    """
    path = Path(path).absolute()
    arrays = {key: _storable(key, value) for key, value in tensors.items()}
    _check_names(card, list(arrays), str(path))

    def fill(folder: Path) -> None:
        (folder / WEIGHTS_FILE).write_bytes(save(arrays))  # save_file would make a file that only its owner can read
        digest = weights_sha256(folder / WEIGHTS_FILE, MAX_WEIGHTS_BYTES)
        whole = card.model_copy(update={"weights": {WEIGHTS_FILE: digest}})
        (folder / CARD_FILE).write_text(whole.to_json(), encoding="utf-8")

    return _write_whole(path, fill, replace=replace)


def copy_bundle(bundle: Bundle, path: Path | str, *, card: ModelCard | None = None, replace: bool = False) -> Bundle:
    """Copy a bundle, whole or not at all, to the folder *path*.

    Args:
        bundle: what to copy.
        path: folder to make.
        card: card of the copy, with the hashes of the same weights; None for the card as it is.
        replace: True to put the copy in the place of a bundle that is there.

    Raises:
        ModelError: when *path* is taken or the disk refuses.
    """

    def fill(folder: Path) -> None:
        for name in (CARD_FILE, *bundle.card.weights):
            shutil.copyfile(bundle.path / name, folder / name)
        if card is not None:
            (folder / CARD_FILE).write_text(card.to_json(), encoding="utf-8")

    return _write_whole(Path(path).absolute(), fill, replace=replace)


def _write_whole(path: Path, fill: Callable[[Path], None], *, replace: bool) -> Bundle:
    """Have a folder beside *path* filled, check it, and give it the name *path*, on the disk: training removes its state afterwards."""
    try:
        _check_free(path, replace=replace)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(path, durable=True) as new:
            fill(new)
            load_bundle(new)
    except (OSError, SafetensorError) as exc:
        msg = f"the bundle {path} cannot be written: {exc}"
        raise ModelError(msg) from exc
    return load_bundle(path)


def weights_sha256(path: Path, limit: int) -> str:
    """Hash a file of at most *limit* bytes, giving 64 hexadecimal digits.

    Raises:
        ModelError: when it is missing, not a file, unreadable or larger.
    """
    try:
        _check_size(path, limit)
        return file_sha256(path)
    except OSError as exc:
        msg = f"{path} must be a readable file: {exc.strerror}; the model is incomplete, get it again"
        raise ModelError(msg) from exc


def _packaged_folder() -> Path:
    """Give streamav/models of the installed package (a path, since wheels are unpacked)."""
    return Path(str(resources.files("streamav"))) / "models"


def _read_bounded(path: Path, limit: int) -> bytes:
    try:
        _check_size(path, limit)
        return path.read_bytes()
    except OSError as exc:
        msg = f"{path} must be a readable file: {exc.strerror}; {path.parent} is no bundle, or one that was not written to its end"
        raise ModelError(msg) from exc


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
        hint = "ask for it to be replaced, or choose another folder" if is_bundle else "choose another folder"
        msg = f"the bundle's folder must not exist yet, got {path}; {hint}"
        raise ModelError(msg)


def _storable(key: str, value: NDArray[np.generic]) -> NDArray[np.generic]:
    if value.dtype not in (np.float16, np.float32):
        msg = f"tensor {key} must be float16 or float32, got {value.dtype}"
        raise ModelError(msg)
    if not np.isfinite(value).all():
        msg = f"tensor {key} must hold finite numbers, got NaN or infinity"
        raise ModelError(msg)
    return np.ascontiguousarray(value)


def _check_names(card: ModelCard, keys: list[str], where: str) -> None:
    """Raise unless every network that the card says is inside has tensors, and no other has."""
    wanted = {"localizer"} | {part for part, external in _external(card) if not external}
    got = {key.partition(".")[0] for key in keys}
    if got != wanted:
        msg = (
            f"the weights of {where} must be of {', '.join(sorted(wanted))} (first word of a tensor's name), "
            f"got {', '.join(sorted(got)) or 'none'}"
        )
        raise ModelError(msg)
    if len(set(keys)) != len(keys):
        msg = f"every tensor of {where} must be stored once, got a name twice"
        raise ModelError(msg)


def _external(card: ModelCard) -> tuple[tuple[str, bool], ...]:
    return (("audio", card.audio.external), ("visual", card.visual.external))


def _keys(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return list(file.keys())
    except (SafetensorError, OSError, ValueError) as exc:
        msg = f"{path} must be a whole safetensors file: {exc}"
        raise ModelError(msg) from exc


def _tensors(path: Path, start: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Read the tensors whose names begin with *start*, as float32."""
    try:
        with safe_open(path, framework="numpy") as file:
            for key in file.keys():  # noqa: SIM118 - no mapping: it cannot be iterated
                if not key.startswith(start):
                    continue
                stored = file.get_slice(key).get_dtype()
                if stored not in _FLOATS:
                    msg = f"tensor {key} of {path} must be float16 or float32, got {stored}"
                    raise ModelError(msg)
                yield key, file.get_tensor(key).astype(np.float32, copy=False)
    except (SafetensorError, OSError, ValueError) as exc:
        msg = f"{path} must be a whole safetensors file: {exc}"
        raise ModelError(msg) from exc
