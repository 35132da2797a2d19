"""Finds the classes that public encoders score by the names that people write: AudioSet's for sounds, ImageNet's for pictures.

It holds no scores and no label. Sources: the 521 class names of YAMNet (tensorflow/models research/audioset/yamnet/yamnet_class_map.csv)
and torchvision's names of the 1000 classes of ImageNet (torchvision/models/_meta.py), each in the order of the scores.
"""

from __future__ import annotations

import difflib
import tomllib
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Literal

from streamav.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Sense", "class_exists", "class_names", "complete_names", "definitions", "find_classes", "group_names", "nearest_names"]

Sense = Literal["hear", "see"]
_FILES = {"hear": "audioset.txt", "see": "imagenet.txt"}
_LISTS = {"hear": "AudioSet", "see": "ImageNet"}
_NEAREST = 3
"""Names that an error proposes."""
_REMEMBERED = 4096
"""Names whose classes are remembered: a search reads the whole list, and learning labels asks for the same names again and again."""


@cache
def class_names(sense: Sense) -> tuple[str, ...]:
    """Return the names of the classes of one sense in the order of the encoder's scores: 521 heard or 1000 seen."""
    return tuple(_text(_FILES[sense]).splitlines())


@cache
def group_names() -> Mapping[str, tuple[int, ...]]:
    """Return the groups of seen classes, such as `dog`: the indices by name."""
    tree: dict[str, list[list[int]]] = tomllib.loads(_text("groups.toml"))
    return {name: tuple(index for first, last in ranges for index in range(first, last + 1)) for name, ranges in tree.items()}


@cache
def definitions(file: str) -> Mapping[str, Mapping[str, object]]:
    """Return the definitions of a file of the package, without its ending: name, hear, see and kind of each label by slug."""
    tree: dict[str, dict[str, object]] = tomllib.loads(_text(f"{file}.toml"))
    return tree


def find_classes(sense: Sense, names: Sequence[str], further: Sequence[str] = ()) -> tuple[int, ...]:
    """Return the indices of named classes, sorted, without repetition.

    Args:
        sense: which list.
        names: names in any case. A part between commas is enough ("infant cry"), and so is a beginning that only one name has.
        further: names of classes that the model adds at the end of the list, such as `face`.

    Raises:
        SettingsError: when a name fits no class or several; the message names the nearest.
    """
    found: set[int] = set()
    for name in names:
        found |= set(_find(sense, name, tuple(further)))
    return tuple(sorted(found))


def class_exists(sense: Sense, name: str, further: Sequence[str] = ()) -> bool:
    """Return whether a name fits a class; arguments as those of `find_classes`."""
    try:
        find_classes(sense, [name], further)
    except SettingsError:
        return False
    return True


def complete_names(sense: Sense, names: Sequence[str], further: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names as the lists spell them, in the order given, without repetition; a group keeps its name.

    Arguments and errors are those of `find_classes`.
    """
    known = [*class_names(sense), *further]
    groups = group_names() if sense == "see" else {}
    whole = (
        name.strip().lower() if name.strip().lower() in groups else known[next(iter(_find(sense, name, tuple(further))))] for name in names
    )
    return tuple(dict.fromkeys(whole))


def nearest_names(sense: Sense, text: str, further: Sequence[str] = (), count: int = _NEAREST) -> list[str]:
    """Return the names that contain *text*, then those that are spelt alike, at most *count*."""
    known = [*class_names(sense), *further, *(group_names() if sense == "see" else ())]
    wanted = text.strip().lower()
    inside = [name for name in known if wanted in name.lower()]
    parts = {part: name for name in known for part in _parts(name)}
    alike = [parts[part] for part in difflib.get_close_matches(wanted, parts, n=count, cutoff=0.5)]
    return list(dict.fromkeys([*inside, *alike]))[:count]


@lru_cache(maxsize=_REMEMBERED)
def _find(sense: Sense, name: str, further: tuple[str, ...]) -> tuple[int, ...]:
    wanted = name.strip().lower()
    if sense == "see" and wanted in group_names():
        return group_names()[wanted]
    known = [*class_names(sense), *further]
    for fits in (
        [index for index, one in enumerate(known) if one == name.strip()],  # Cardigan is a dog, cardigan is worn
        [index for index, one in enumerate(known) if one.lower() == wanted],
        [index for index, one in enumerate(known) if wanted in _parts(one)],
        [index for index, one in enumerate(known) if wanted and one.lower().startswith(wanted)],
    ):
        if len(fits) == 1:
            return tuple(fits)
        if fits:
            several = ", ".join(repr(known[index]) for index in fits[:_NEAREST])
            msg = f"{sense}: {name!r} fits {len(fits)} {_LISTS[sense]} classes ({several} ...); write one whole name"
            raise SettingsError(msg)
    near = " or ".join(repr(one) for one in nearest_names(sense, name, further))
    hint = f"the nearest are {near}" if near else "nothing is spelt alike"
    msg = f"{sense}: there is no {_LISTS[sense]} class {name!r}; {hint}; look for one with: streamav labels search WORD"
    raise SettingsError(msg)


def _parts(name: str) -> list[str]:
    return [part.strip().lower() for part in name.split(",")]


def _text(file: str) -> str:
    return resources.files(__name__).joinpath(file).read_text(encoding="utf-8")
