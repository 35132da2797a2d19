"""Merges changes over the configuration of a source, and takes from them what says nothing new. Pure: it keeps and sends nothing.

Changes are a tree, a part of the section `detection`: `{"classes": {"bark": {"on": 0.7}}}`.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from pydantic import ValidationError

from streamav.config import DetectionSettings, merge
from streamav.control.kept import leaves
from streamav.errors import SettingsError
from streamav.setting_names import explain

if TYPE_CHECKING:
    from streamav.control.kept import Tree

__all__ = ["changed", "check_labels", "pruned", "read_values", "value_of"]

_LABELS = (
    "source {source}: detection.labels cannot be changed by a command; switch labels by detection.classes.LABEL.enabled, "
    "or change the file of settings and reload it (SIGHUP)"
)


def changed(source: str, detection: DetectionSettings, tree: Tree) -> DetectionSettings:
    """Return a configuration with changes.

    Args:
        source: id of the source, for messages.
        detection: its configuration without changes.
        tree: the changes.

    Raises:
        SettingsError: when a value is wrong, or the changes name labels, which a command cannot change.
    """
    if not tree:
        return detection
    if "labels" in tree:
        raise SettingsError(_LABELS.format(source=source))
    whole = detection.model_dump(exclude_unset=True)
    merge(whole, tree)
    try:
        return DetectionSettings.model_validate(whole)
    except ValidationError as exc:
        errors = [{**error, "loc": ("detection", *error["loc"])} for error in exc.errors()]
        raise SettingsError("\n".join(explain(error) for error in errors)) from None


def pruned(detection: DetectionSettings, tree: Tree) -> Tree:
    """Return changes without what is None or equals the configuration."""
    kept: Tree = {}
    for path, value in leaves(tree):
        if value is None or value == value_of(detection, path):
            continue
        place = kept
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value
    return kept


def value_of(detection: DetectionSettings, path: tuple[str, ...]) -> object:
    """Return a value of a configuration by its path below `detection`; None where it has none."""
    found: object = detection.model_dump(mode="json")
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def read_values(tree: Tree, detection: DetectionSettings) -> Tree:
    """Return changes with each value in the form in which settings hold it: "blur" is ["blur"]."""
    read = detection.model_dump(mode="json")
    made = deepcopy(tree)
    for path, value in list(leaves(tree)):
        place, found = made, read
        for key in path[:-1]:
            place, found = place[key], found.get(key) or {}
        if value is not None and path[-1] in found:
            place[path[-1]] = found[path[-1]]
    return made


def check_labels(source: str, before: DetectionSettings, after: DetectionSettings) -> None:
    """Check that the choice of labels stays: the columns of the scores were laid out for it.

    Raises:
        SettingsError: when it differs.
    """
    if before.labels != after.labels:
        raise SettingsError(_LABELS.format(source=source))
