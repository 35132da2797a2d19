from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rigs.cases import cases
from rigs.roles import FakeClock

from streamav.capture.scene import (
    DEFAULT_SCRIPT,
    KINDS,
    Cue,
    SceneSource,
    Script,
    draw,
    make_script,
    render_frame,
    render_sound,
    sound_blocks,
    synthesize,
)
from streamav.capture.synthesis import ambience
from streamav.errors import SettingsError
from streamav.segmenter import Segmenter, SegmenterOptions
from streamav.types import AudioBlock, VideoFrame


def items(script: Script, speed: str = "max") -> list[AudioBlock | VideoFrame]:
    source = SceneSource(script, picture=(24, 32), speed="max" if speed == "max" else "1")
    return list(source.items())


def test_the_default_scene_has_every_kind_once_and_what_misleads() -> None:
    """The default scene holds one event of each kind, on whole seconds, and single or mismatched sounds and pictures."""
    assert sorted(label for label, _, _ in DEFAULT_SCRIPT.truth) == sorted(KINDS)
    assert all(edge == round(edge) for _, onset, offset in DEFAULT_SCRIPT.truth for edge in (onset, offset))
    cues = DEFAULT_SCRIPT.cues
    alone = [cue for cue in cues if cue.sound is not None and cue.picture is None]
    silent = [cue for cue in cues if cue.picture is not None and cue.sound is None]
    mismatched = [(a.kind, b.kind) for a in alone for b in silent if a.sound == b.picture and a.kind != b.kind]
    assert alone
    assert silent
    assert mismatched
    gaps = [b[1] - a[2] for a, b in zip(DEFAULT_SCRIPT.truth, DEFAULT_SCRIPT.truth[1:], strict=False)]
    assert min(gaps) <= 2.0  # two different events are close together


@given(seconds=st.floats(1.0, 200.0), seed=st.integers(0, 1_000))
@cases(40)
def test_every_script_keeps_to_its_length(seconds: float, seed: int) -> None:
    """Truth lies inside the scene, and events of one kind never overlap."""
    truth = make_script(seconds, seed).truth
    assert all(0.0 <= onset < offset <= seconds for _, onset, offset in truth)
    for kind in KINDS:
        spans = [(onset, offset) for label, onset, offset in truth if label == kind]
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_drawn_and_heard_the_same_from_the_same_seed(kind: str) -> None:
    """Equal generators give equal drawings and sounds; another generator gives another style."""
    first, again, other = (draw(kind, np.random.default_rng(seed), 48, 0.4) for seed in (1, 1, 2))
    assert first.shape == (48, 48, 4)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert 0.1 < float((first[:, :, 3] > 128).mean()) < 0.95
    moments = [draw(kind, np.random.default_rng(1), 48, 0.15 * n) for n in range(8)]
    assert any(not np.array_equal(first, moment) for moment in moments)  # the drawing moves
    sound, same, another = (synthesize(kind, 2.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert sound.shape == (32_000,)
    assert sound.dtype == np.float32
    assert np.array_equal(sound, same)
    assert not np.array_equal(sound, another)


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 10_000), tenths=st.integers(1, 40))
@cases(60)
def test_sounds_stay_in_range_and_are_heard_in_every_second(kind: str, seed: int, tenths: int) -> None:
    """Every synthesized sound is finite, within [-1, 1], and above -40 dBFS in each of its whole seconds."""
    sound = synthesize(kind, tenths / 10, np.random.default_rng(seed))
    assert np.isfinite(sound).all()
    assert float(np.abs(sound).max()) <= 1.0
    seconds = sound[: sound.size // 16_000 * 16_000].reshape(-1, 16_000)
    assert (np.sqrt((seconds**2).mean(axis=1)) > 0.01).all()


def test_what_is_heard_and_seen_follows_the_script() -> None:
    """Sound is loud exactly in its span, and the picture differs from the empty scene exactly in its own span."""
    script = Script(seconds=4.0, cues=(Cue(kind="siren", sound=(1.0, 3.0), picture=(2.0, 4.0)),))
    assert script.truth == [("siren", 2.0, 3.0)]
    sound = render_sound(script)
    levels = np.sqrt((sound.reshape(4, 16_000) ** 2).mean(axis=1))
    assert (levels[[1, 2]] > 0.08).all()
    assert (levels[[0, 3]] < 0.01).all()
    empty = Script(seconds=4.0, cues=())
    differs = [not np.array_equal(render_frame(script, t, (24, 32)), render_frame(empty, t, (24, 32))) for t in (0.5, 1.5, 2.5, 3.5)]
    assert differs == [False, False, True, True]


def whole_sound(script: Script) -> NDArray[np.float32]:
    """Render a scene's sound in one array, as the samples were first defined."""
    sound = ambience(script.seconds, np.random.default_rng([script.seed, 2])) * 0.004
    for number, cue in enumerate(script.cues):
        if cue.sound is not None:
            onset, offset = cue.sound
            part = synthesize(cue.kind, offset - onset, np.random.default_rng([script.seed, 3, number]))
            room = sound[round(onset * 16_000) :][: part.size]
            room += part[: room.size]
    return np.asarray(np.clip(sound, -1.0, 1.0), np.float32)


cues = st.builds(
    lambda kind, onset, length: Cue(kind=kind, sound=(onset, onset + length)),
    st.sampled_from(KINDS),
    st.floats(0.0, 5.0),
    st.floats(0.2, 3.0),
)


@given(
    seconds=st.floats(1.0, 4.0),
    heard=st.lists(cues, max_size=4),
    seed=st.integers(0, 100),
    size=st.sampled_from([700, 1_600, 16_000, 200_000]),
)
@cases(20)
def test_sound_in_blocks_is_the_sound_rendered_at_once(seconds: float, heard: list[Cue], seed: int, size: int) -> None:
    """The blocks equal the sound rendered at once, bit for bit, for any block size and for cues that overlap or exceed the scene."""
    script = Script(seconds=seconds, cues=tuple(heard), seed=seed)
    blocks = list(sound_blocks(script, size))
    assert {block.size for block in blocks[:-1]} <= {size}
    assert np.array_equal(np.concatenate(blocks), whole_sound(script))


def test_the_default_scene_sounds_as_it_always_did() -> None:
    """One minute in blocks equals the minute rendered at once, so that earlier measurements remain valid."""
    assert np.array_equal(render_sound(DEFAULT_SCRIPT), whole_sound(DEFAULT_SCRIPT))


@pytest.mark.slow
def test_a_long_scene_is_not_in_memory_at_once() -> None:
    """An hour takes no more memory than a minute."""
    tracemalloc.start()
    blocks = sound_blocks(make_script(3_600.0), 16_000)
    seconds = sum(1 for _ in itertools.islice(blocks, 90))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds == 90
    assert peak < 100e6  # the samples of an hour alone take 230 MB


def test_the_murmur_of_a_long_scene_has_no_click_where_it_repeats() -> None:
    """The step at the join is as small as between other samples."""
    first, second = sound_blocks(Script(seconds=120.0, cues=()), 60 * 16_000)
    steps = np.abs(np.diff(np.concatenate([first, second])))
    assert np.array_equal(first, second)
    assert steps[60 * 16_000 - 1] < 4 * steps.std()


def test_a_scene_is_a_whole_source() -> None:
    """A scene of 7 s at full speed gives seven whole segments, the same every time."""
    script = make_script(7.0)
    segmenter = Segmenter(SegmenterOptions(frames_per_second=4, picture=(24, 32)))
    played = items(script)
    segments = [segment for item in played for segment in segmenter.push(item)] + segmenter.close()
    assert [segment.index for segment in segments] == list(range(7))
    assert all((segment.quality.missing_samples, segment.quality.repeated_frames) == (0, 0) for segment in segments)
    again = items(script)
    assert all(
        np.array_equal(a.pixels, b.pixels)
        for a, b in zip(played, again, strict=True)
        if isinstance(a, VideoFrame) and isinstance(b, VideoFrame)
    )
    source = SceneSource(script, picture=(24, 32))
    assert (source.live, source.skew_ms) == (False, None)
    assert source.session == SceneSource(script, picture=(48, 48)).session != SceneSource(make_script(7.0, 1), picture=(24, 32)).session


def test_at_its_own_pace_nothing_comes_before_its_time() -> None:
    """With speed 1 every item arrives when it is due by the clock, and the run takes as long as the scene."""
    clock = FakeClock(step_ns=0, now_ns=5_000)
    source = SceneSource(make_script(2.0), picture=(24, 32), speed="1", clock=clock)
    for item in source.items():
        assert clock.now_ns - 5_000 >= item.end_ns
    assert clock.now_ns - 5_000 == pytest.approx(2_000_000_000, abs=1_000)


def test_closing_ends_a_scene() -> None:
    """No item is yielded after close()."""
    source = SceneSource(make_script(5.0), picture=(24, 32), speed="max")
    taken = []
    for item in source.items():
        taken.append(item)
        if len(taken) == 3:
            source.close()
    assert len(taken) == 3


def test_wrong_cues_are_refused() -> None:
    """Unknown kinds, and spans that end before they begin, are refused with an error that names the rule."""
    with pytest.raises(SettingsError, match="one of bird"):
        Cue(kind="unicorn")
    with pytest.raises(SettingsError, match="later offset"):
        Cue(kind="bird", sound=(3.0, 2.0))
    with pytest.raises(SettingsError, match="one of bird"):
        draw("unicorn", np.random.default_rng(0))
    with pytest.raises(SettingsError, match="at least 1 s"):
        make_script(0.5)
