"""The key of an engine in the cache: a hash of all that an engine depends on, so that a change of any of it makes another engine."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from streamav import __version__
from streamav.bundle.catalogue import encoder_file
from streamav.engines.cache import EntryKey
from streamav.files import file_sha256

if TYPE_CHECKING:
    from streamav.engines.maker import EngineRequest, Maker

__all__ = ["engine_key", "model_parts"]

_PACKAGE = Path(__file__).resolve().parents[1]
_FORMING = ("drawn_siren.py", "modules.py", "onnx_export.py", "quantisation.py", "samples.py", "tensorrt_export.py", "unrolling.py")
"""Our code outside `networks/` on which an engine's files and its stored reference depend."""


def engine_key(maker: Maker, request: EngineRequest) -> EntryKey:
    """Return the key of an engine: weights, networks and their code, recipe, versions, and the parts that the maker adds.

    Raises:
        ModelError: when an external encoder is missing.
    """
    recipe = request.recipe
    parts = {"recipe": recipe.sha256, "networks": _code_sha256(), "streamav": __version__, **maker.parts(request)}
    return EntryKey(recipe.engine, recipe.precision, parts | model_parts(request))


def model_parts(request: EngineRequest) -> dict[str, str]:
    """Return all that defines a model: weights, networks and their options, and the files of external encoders.

    Raises:
        ModelError: when an external encoder is missing.
    """
    card = request.bundle.card
    parts = {
        "weights": request.bundle.sha256,
        "audio": card.audio.model_dump_json(),
        "visual": card.visual.model_dump_json(),
        "localizer": card.localizer.model_dump_json(),
    }
    for part in (card.audio, card.visual):
        if part.external:
            path = encoder_file(part.network, request.settings.weights_dir)
            found = path.stat()
            parts[part.network] = _encoder_sha256(path, found.st_mtime_ns, found.st_size)
    return parts


@functools.lru_cache(maxsize=16)
def _encoder_sha256(path: Path, modified_ns: int, size: int) -> str:  # noqa: ARG001 - another date or size means another file
    """Hash an external encoder once for each process: its hash is in the key of every engine that is looked up."""
    return file_sha256(path)


def _code_sha256(package: Path = _PACKAGE) -> str:
    """Hash the code of the networks and of what converts them, so that a change of the code makes other engines.

    The modules of `networks/` are in the key, those of `networks/files/` are not: they only read weight files, whose contents (or the
    weights read from them) are in the key themselves. How the names and layouts of a file map to a network is in the network's own module.
    """
    paths = [*sorted((package / "networks").glob("*.py")), *(package / "engines" / name for name in _FORMING)]
    return "".join(file_sha256(path)[:8] for path in paths)
