"""Tests that damaged media files end in segments or in one sentence, never in a traceback, a crash or a hang."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rigs.mutants import mutant, read_mutants, write_originals

if TYPE_CHECKING:
    from pathlib import Path


def test_damaged_files_end_in_segments_or_one_sentence(tmp_path: Path) -> None:
    """33 damages of 11 formats, three of each; `make mutate` reads a thousand."""
    outcomes = list(read_mutants(tmp_path, write_originals(tmp_path / "originals"), range(33)))
    assert len(outcomes) == 33
    assert [outcome for outcome in outcomes if outcome.bad] == []
    assert {"segments", "refused"} == {outcome.what for outcome in outcomes}


def test_a_seed_gives_the_same_damage_again(tmp_path: Path) -> None:
    """A finding can be repeated from its seed."""
    original = bytes(range(256)) * 40
    assert mutant(original, 5) == mutant(original, 5) != mutant(original, 6)
