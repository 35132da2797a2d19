"""Assigns recordings to training, validation and test, so that each class is in every split in proportion and no recording in two.

It takes groups and the classes in them, and reads no files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SHARES", "SPLITS", "split_groups"]

SPLITS = ("train", "val", "test")
SHARES: dict[str, float] = {"train": 0.70, "val": 0.15, "test": 0.15}
"""Shares of the recordings: the usual division (our choice)."""
_WITH_VAL, _WITH_TEST = 2, 3
"""Least recordings of a class with which val and test get one."""


def split_groups(groups: Mapping[str, frozenset[str]], seed: int = 0) -> dict[str, str]:
    """Assign each group to a split, the rarest class first: 70 % train, 15 % val, 15 % test.

    A class with one group is in train only, with two groups in train and val, with three or more in all three splits, as far as groups
    with several classes allow it. Every class is in train. Groups without any class (background only) are assigned like one more class.

    Source: iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label Data, ECML 2011), over groups.

    Args:
        groups: the classes that occur in each group.
        seed: seed of the order in which groups are assigned.
    """
    order = [sorted(groups)[place] for place in np.random.default_rng([seed, len(groups)]).permutation(len(groups))]
    kinds = {name: groups[name] or frozenset({""}) for name in order}
    members = {kind: [name for name in order if kind in kinds[name]] for kind in sorted(frozenset().union(*kinds.values()))}
    lacking = {kind: _wanted(len(names)) for kind, names in members.items()}
    whole = _wanted(len(order))
    found: dict[str, str] = {}
    left = dict(members)
    while left:
        rarest = min(left, key=lambda kind: (len(left[kind]), kind))
        for name in left[rarest]:
            split = max(SPLITS, key=lambda split: (lacking[rarest][split], whole[split], -SPLITS.index(split)))
            if any(_last_chance(members[kind], found) for kind in kinds[name]):
                split = "train"
            found[name] = split
            whole[split] -= 1.0
            for kind in kinds[name]:
                lacking[kind][split] -= 1.0
        left = {kind: [name for name in names if name not in found] for kind, names in left.items()}
        left = {kind: names for kind, names in left.items() if names}
    return found


def _last_chance(names: Sequence[str], found: Mapping[str, str]) -> bool:
    """Return whether the last group of a class that has no split must be its training group."""
    dealt = [found[name] for name in names if name in found]
    return len(dealt) == len(names) - 1 and "train" not in dealt


def _wanted(count: int) -> dict[str, float]:
    """Return how many of *count* groups each split should have."""
    val = max(1.0, SHARES["val"] * count) if count >= _WITH_VAL else 0.0
    test = max(1.0, SHARES["test"] * count) if count >= _WITH_TEST else 0.0
    return {"train": count - val - test, "val": val, "test": test}
