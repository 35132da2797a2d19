from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamav.errors import DataError
from streamav.training.data.feature_set import FeatureSet
from streamav.training.data.pairing import PairedBatches
from streamav.training.data.presence import Presence
from streamav.training.options import TrainOptions

C, T, CLIPS, QUIET = 3, 10, 12, 2


def _batches(seed: int = 0, *, noise: float = 0.0, quiet: bool = True) -> PairedBatches:
    """Make clips whose features encode class and row: channel 0 the class heard or seen, channel 1 the row."""
    rng = np.random.default_rng(1)
    count = CLIPS + QUIET
    own = np.arange(count) % C
    heard, seen = (np.where(rng.random((count, T)) < 0.7, own[:, None], C) for _ in range(2))
    heard[CLIPS:], seen[CLIPS:] = C, C
    labels = np.where(heard == seen, heard, C)
    audio = np.zeros((count, T, 2), np.float32)
    visual = np.zeros((count, T, 2, 2, 2), np.float32)
    audio[..., 0], visual[..., 0] = heard + 1, (seen + 1)[:, :, None, None]
    audio[..., 1], visual[..., 1] = np.arange(count)[:, None] + 1, (np.arange(count) + 1)[:, None, None, None]
    tags = np.eye(C + 1, dtype=np.float32)[own]
    whole = FeatureSet(audio=audio, visual=visual, labels=labels, tags=tags, rows=np.arange(count))
    return PairedBatches(
        train=whole.select(np.arange(CLIPS), "train"),
        presence=Presence(heard=heard, seen=seen),
        options=TrainOptions(batch=8, seed=seed, input_noise=noise),
        background=whole.select(np.arange(CLIPS, count), "quiet") if quiet else None,
    )


@given(seed=st.integers(0, 1000), epoch=st.integers(1, 50), quiet=st.booleans())
def test_a_second_is_an_event_exactly_where_both_classes_agree(seed: int, epoch: int, quiet: bool) -> None:
    """In every window, a segment's label is the class heard if it equals the class seen, and background otherwise."""
    for batch in _batches(seed, quiet=quiet)(epoch):
        heard, seen = batch.audio[..., 0].long() - 1, batch.visual[:, :, 0, 0, 0].long() - 1
        known = (heard >= 0) & (seen >= 0)  # -1: zeros, used if there are no quiet clips
        expected = torch.where(known & (heard == seen), heard, C)
        assert torch.equal(batch.labels, expected)


def test_an_epoch_is_the_same_whenever_it_is_asked_for() -> None:
    """Seed and epoch number alone decide an epoch's windows, noise included; another epoch has other windows."""
    batches = _batches(noise=0.2)
    first, again, other = (next(iter(batches(epoch))) for epoch in (3, 3, 4))
    assert torch.equal(first.audio, again.audio)
    assert torch.equal(first.visual, again.visual)
    assert not torch.equal(first.audio, other.audio)


def test_new_pairs_are_made() -> None:
    """Events occur with sound and picture of one clip and of two clips of one class; pairs of different classes occur too."""
    kinds = {"same clip": 0, "new pair": 0, "disagree": 0}
    for batch in _batches()(1):
        sound, picture = batch.audio[..., 1], batch.visual[:, :, 0, 0, 1]
        event = batch.labels < C
        kinds["same clip"] += int((event & (sound == picture)).sum())
        kinds["new pair"] += int((event & (sound != picture)).sum())
        both = (batch.audio[..., 0] <= C) & (batch.visual[:, :, 0, 0, 0] <= C)
        kinds["disagree"] += int((~event & both).sum())
    assert all(kinds.values()), kinds


def test_an_epoch_has_as_many_windows_as_clips() -> None:
    """Twelve clips in batches of eight give two batches."""
    assert len(list(_batches()(1))) == 2


def test_presence_that_contradicts_the_labels_is_refused(tmp_path: pytest.TempPathFactory) -> None:
    """One file without the other, a wrong shape, a class outside the list and an event that is not seen each raise an error."""
    from pathlib import Path

    import h5py

    from streamav.training.data.presence import read_presence

    folder = Path(str(tmp_path))
    labels = np.array([[0, C], [1, 1]])

    def write(name: str, values: list[list[int]]) -> None:
        with h5py.File(folder / name, "w") as file:
            file["avadataset"] = np.array(values, np.int16)

    assert read_presence(folder, labels, C) is None
    write("heard.h5", [[0, 2], [1, 1]])
    with pytest.raises(DataError, match="or neither"):
        read_presence(folder, labels, C)
    write("seen.h5", [[0, 9], [1, 1]])
    with pytest.raises(DataError, match=r"seen\.h5, row 0"):
        read_presence(folder, labels, C)
    write("seen.h5", [[0, 0], [1, 2]])
    with pytest.raises(DataError, match="row 1"):
        read_presence(folder, labels, C)
    write("seen.h5", [[0, 0, 0]])
    with pytest.raises(DataError, match="2 segments"):
        read_presence(folder, labels, C)
    write("seen.h5", [[0, 0], [1, 1]])
    found = read_presence(folder, np.vstack([labels, [[C, C]]]), C)
    assert found is not None
    assert found.heard.tolist() == [[0, 2], [1, 1], [C, C]]
