"""Tests of how recordings are assigned to splits."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streamav.training.clips.splits import SPLITS, split_groups

GROUPS = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.frozensets(st.sampled_from(["bark", "meow", "moo"])), max_size=40)


@given(GROUPS, st.integers(0, 5))
def test_every_group_has_one_split_and_every_class_is_trained(groups: dict[str, frozenset[str]], seed: int) -> None:
    """Each group has one split, the result does not depend on the order of groups, and every class has a training group."""
    found = split_groups(groups, seed)
    assert found.keys() == groups.keys()
    assert found == split_groups(dict(reversed(groups.items())), seed)
    for label in frozenset().union(*groups.values()):
        assert any(found[name] == "train" for name, labels in groups.items() if label in labels)


@given(st.integers(3, 60), st.integers(3, 60), st.integers(0, 5))
def test_classes_of_three_or_more_are_in_every_split(barks: int, meows: int, seed: int) -> None:
    """With one class in each group, both classes are in all splits, with about 70, 15 and 15 %."""
    groups = {f"bark{n}": frozenset({"bark"}) for n in range(barks)} | {f"meow{n}": frozenset({"meow"}) for n in range(meows)}
    found = split_groups(groups, seed)
    for label, count in (("bark", barks), ("meow", meows)):
        dealt = Counter(split for name, split in found.items() if name.startswith(label))
        assert set(dealt) == set(SPLITS)
        assert abs(dealt["train"] - 0.7 * count) <= 2
        assert abs(dealt["val"] - dealt["test"]) <= 1


def test_the_seed_changes_the_deal() -> None:
    """Another seed gives other splits, so that a result can be checked on them."""
    groups = {f"g{n}": frozenset({"bark"}) for n in range(20)}
    assert split_groups(groups, 0) != split_groups(groups, 1)
