"""Fuzzes what comes from outside: MQTT commands and events, files of settings, addresses, cards of models, questions over HTTP.

Each input is a stored seed with some changes, or plain bytes. `make fuzz` does the same guided by coverage.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.cases import cases
from rigs.fuzz_targets import SEEDS, TARGETS, seeds

EDITS = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 40), st.binary(max_size=12)), max_size=4)
"""Place, how many bytes are replaced there, and by what."""
TELLING = st.sampled_from(
    [b"", b"-", b"0", b"1e999", b"NaN", b"null", b'"', b"[", b"{", b"\x00", b"\xff", b"9" * 400, "\u0663".encode(), b"/", b"%"]
)


def test_every_target_has_seeds_and_every_seed_a_target() -> None:
    """A target without seeds would only see noise."""
    assert {path.name for path in SEEDS.iterdir()} == set(TARGETS)
    assert all(seeds(name) for name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_no_seed_breaks_anything(name: str) -> None:
    """Good inputs, and inputs that once failed, are answered with a value or with an error of ours."""
    for data in seeds(name):
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@cases(150)
@given(data=st.data())
def test_nothing_from_outside_breaks_anything(name: str, data: st.DataObject) -> None:
    """Changed seeds and plain bytes are answered with a value or with an error of ours, never with another exception."""
    found = bytearray(data.draw(st.sampled_from(seeds(name)) | st.binary(max_size=200)))
    for place, length, other in data.draw(EDITS):
        at = place % (len(found) + 1)
        found[at : at + length] = data.draw(st.just(other) | TELLING)
    TARGETS[name](bytes(found))
