"""Tests the placement of sources on workers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamav.cluster.placement import Cost, Move, Slot, load_of, next_move, place

SMALL, LARGE = Cost(0.1, 0.02), Cost(0.8, 0.3)


def slot(name: str, cores: float = 2.0) -> Slot:
    return Slot(name, frozenset({name, f"{name}.lan"}), cores)


def test_sources_go_where_there_is_room() -> None:
    """A machine with four times the cores gets about four times the sources."""
    costs = {f"s{number}": SMALL for number in range(10)}
    found = place(costs, [slot("small", 1.0), slot("big", 4.0)], {}, costs, {})
    assert set(found) == set(costs)
    assert list(found.values()).count("big") == 8


def test_the_costliest_source_is_placed_first() -> None:
    """So that the small ones fill up what it leaves: one large source alone, all others on the other machine."""
    costs = {"large": LARGE, **{f"s{number}": SMALL for number in range(3)}}
    found = place(costs, [slot("n1"), slot("n2")], {}, costs, {})
    assert {found[f"s{number}"] for number in range(3)} == {"n1", "n2"} - {found["large"]}


def test_a_source_that_only_one_machine_can_open_waits_for_it() -> None:
    """`node` is a name of the machine; a source whose machine is absent is not placed anywhere else."""
    costs = {"gate": SMALL, "yard": SMALL, "any": SMALL}
    found = place(costs, [slot("n1"), slot("n2")], {}, costs, {"gate": "n2.lan", "yard": "n3"})
    assert found["gate"] == "n2"
    assert "yard" not in found
    assert found["any"] == "n1"


def test_what_runs_stays() -> None:
    """The placed sources count as load and are never placed again."""
    costs = dict.fromkeys("abcd", SMALL)
    assert place(["c", "d"], [slot("n1"), slot("n2")], {"a": "n1", "b": "n1"}, costs, {}) == {"c": "n2", "d": "n2"}


def test_inference_counts_like_cores() -> None:
    """A worker has one inference thread: it is full at 0.8 s of work in a second, however many cores idle."""
    assert load_of(slot("n1", 64.0), [Cost(0.1, 0.4)] * 2) == 1.0


def test_a_machine_that_joins_gets_its_share_one_by_one() -> None:
    """Sources move from the fullest to the new machine until the loads are nearly even, and then nothing moves any more."""
    costs = {f"s{number}": SMALL for number in range(12)}
    placed = {source: "n1" if number % 2 else "n2" for number, source in enumerate(costs)}
    slots = [slot("n1"), slot("n2"), slot("n3")]
    moves = 0
    while (move := next_move(slots, placed, costs, {})) is not None:
        assert move.target == "n3"
        placed[move.source] = move.target
        moves += 1
    assert moves == 4
    assert sorted(list(placed.values()).count(name) for name in ("n1", "n2", "n3")) == [4, 4, 4]


def test_small_differences_move_nothing() -> None:
    """Measured costs vary, and three sources on two machines are never even: neither is a reason to interrupt a source."""
    costs = {"a": Cost(0.10, 0.0), "b": Cost(0.13, 0.0), "c": Cost(0.09, 0.0)}
    assert next_move([slot("n1"), slot("n2")], {"a": "n1", "b": "n1", "c": "n2"}, costs, {}) is None


def test_a_source_that_is_bound_or_moving_does_not_move() -> None:
    """The constraint holds for moves too."""
    costs = dict.fromkeys("abcd", SMALL)
    placed = dict.fromkeys("abcd", "n1")
    bound = dict.fromkeys("abc", "n1")
    assert next_move([slot("n1"), slot("n2")], placed, costs, bound) == Move("d", "n1", "n2")
    assert next_move([slot("n1"), slot("n2")], placed, costs, bound, frozenset("d")) is None


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=40), st.lists(st.floats(0.5, 16.0), min_size=1, max_size=6))
def test_every_source_without_a_constraint_is_placed_and_moves_end(cores: list[float], sizes: list[float]) -> None:
    """Any costs and machines: everything is placed, each move lowers the fullest machine or empties it, and the moves come to an end."""
    costs = {f"s{number}": Cost(value, value / 4) for number, value in enumerate(cores)}
    slots = [slot(f"n{number}", size) for number, size in enumerate(sizes)]
    placed = place(costs, slots, {}, costs, {})
    assert set(placed) == set(costs)
    for _ in range(4 * len(costs)):
        move = next_move(slots, placed, costs, {})
        if move is None:
            return
        placed[move.source] = move.target
    raise AssertionError(placed)
