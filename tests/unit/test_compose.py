from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from rigs.composite_material import write_material

from streamav.bundle import AudioCard, VisualCard
from streamav.errors import DataError
from streamav.training.composite.clips import draw_clips
from streamav.training.composite.drawn import KINDS, drawn_clip
from streamav.training.composite.folder import ClipCounts, FrozenEncoders, compose
from streamav.training.composite.material import Material
from streamav.training.composite.scene import parse_scenes
from streamav.training.data.folder import open_ave

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

COUNTS = ClipCounts(train=4, val=2, test=2, quiet_share=0.5, drawn=2)


def _encoders(size: int = 3) -> FrozenEncoders:
    def hear(patches: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.repeat(patches.mean(axis=(1, 2))[:, None], 2, axis=1)

    def look(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.broadcast_to(pictures.mean(axis=(1, 2))[:, None, None, :size], (len(pictures), 7, 7, size)).astype(np.float32)

    return FrozenEncoders(
        audio=AudioCard(network="compact_audio", log_mel_offset=0.001, size=2),
        visual=VisualCard(network="compact_visual", picture=(32, 32), frames_per_second=4, size=size, grid=7),
        hear=hear,
        look=look,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    write_material(folder, ("bark", "siren"))
    return folder


def _made(root: Path, out: Path, **changes: object) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    arguments: dict[str, object] = {"counts": COUNTS, "seed": 0, "encoders": _encoders()} | changes
    compose(root, out, cache=out.parent / "cache", progress=lambda *now: told.append(now), **arguments)  # type: ignore[arg-type]
    return told


def test_composites_open_as_any_other_data(root: Path, tmp_path: Path) -> None:
    """The folder has splits, classes, background clips, and the classes heard and seen; a segment is an event if both are its class."""
    told = _made(root, tmp_path / "features")

    data = open_ave(tmp_path / "features")
    assert [len(part) for part in (data.train, data.val, data.test)] == [4, 2, 2]
    assert [entry.slug for entry in data.classes] == ["bark", "siren"]
    assert data.background is not None
    assert len(data.background) == 4
    assert data.presence is not None
    assert (data.train.labels[data.train.rows] < 2).any(axis=1).all()
    both = np.where(data.presence.heard == data.presence.seen, data.presence.heard, 2)
    np.testing.assert_array_equal(data.train.labels, both)
    assert told[-1] == (12, 12)


@pytest.mark.slow  # composes three folders
def test_the_same_seed_makes_the_same_features_and_another_other_ones(root: Path, tmp_path: Path) -> None:
    """Two calls with one seed give equal features; another seed gives others."""
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        _made(root, tmp_path / name, seed=seed)
    one, two, other = (open_ave(tmp_path / name) for name in ("one", "two", "other"))
    assert all(np.array_equal(one.train.visual[row], two.train.visual[row]) for row in range(8))
    assert not all(np.array_equal(one.train.visual[row], other.train.visual[row]) for row in range(8))


@pytest.mark.slow
def test_a_second_call_goes_on_where_the_first_stopped(root: Path, tmp_path: Path) -> None:
    """A split with an order file is not made again, a split without one is; the features equal those of one call."""
    _made(root, tmp_path / "whole")
    _made(root, tmp_path / "cut")
    (tmp_path / "cut" / "test_order.h5").unlink()
    told = _made(root, tmp_path / "cut")
    assert len(told) == 2 + 3 + 1  # train and val at once, then the three clips of test, then its end
    whole, cut = open_ave(tmp_path / "whole"), open_ave(tmp_path / "cut")
    assert all(np.array_equal(whole.test.visual[row], cut.test.visual[row]) for row in whole.test.rows)


@pytest.mark.slow
def test_another_plan_does_not_mix_into_a_folder(root: Path, tmp_path: Path) -> None:
    """Another seed or other encoders raise an error that says what to do."""
    _made(root, tmp_path / "features")
    with pytest.raises(DataError, match="choose another --out"):
        _made(root, tmp_path / "features", seed=1)
    with pytest.raises(DataError, match=r"encoders\.json"):
        _made(root, tmp_path / "features", encoders=_encoders(2))


def test_val_and_test_share_no_source(root: Path, tmp_path: Path) -> None:
    """Files of one origin are in one half only, and both halves together are the whole."""
    first, second, whole = (Material(root, "val", tmp_path / "cache", half) for half in ("first", "second", "whole"))
    assert not {item.origin for item in first.items} & {item.origin for item in second.items}
    assert len(first.items) + len(second.items) == len(whole.items)
    assert first.labels == second.labels == whole.labels


@pytest.mark.slow
def test_the_manifest_of_a_split_makes_its_clips_again(root: Path, tmp_path: Path) -> None:
    """The manifest beside the features is the list of the scenes that were drawn."""
    _made(root, tmp_path / "features")
    scenes = parse_scenes((tmp_path / "features" / "scenes-val.jsonl").read_text(encoding="utf-8"))
    events, quiet = draw_clips(Material(root, "val", tmp_path / "cache", "first"), 2, 1, 1)
    assert scenes == [*events, *quiet]


def test_events_share_two_seconds_of_sound_and_picture(root: Path, tmp_path: Path) -> None:
    """For any stretches, the class is heard and seen together for at least two seconds; quiet clips show and play nothing."""
    events, quiet = draw_clips(Material(root, "train", tmp_path / "cache"), 40, 5, 3)
    for scene in events:
        shown, played = scene.shown[0], scene.played[0]
        assert shown.label == played.label
        assert min(shown.offset_s, played.offset_s) - max(shown.onset_s, played.onset_s) >= 2.0
    assert not any(scene.shown or scene.played for scene in quiet)


def test_a_drawn_clip_tells_its_truth() -> None:
    """A drawn clip has ten segments, and in each segment with an event its class is heard and seen."""
    labels = sorted(KINDS)
    clip = drawn_clip(labels, 3, 32, 2)
    assert clip.samples.shape == (10, 16_000)
    assert clip.pictures.shape == (10, 2, 32, 32, 3)
    event = clip.labels < len(labels)
    assert event.any()
    assert (clip.heard[event] == clip.labels[event]).all()
    assert (clip.seen[event] == clip.labels[event]).all()
