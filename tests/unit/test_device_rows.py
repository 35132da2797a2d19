"""Promises of features kept on a device; these tests use the CPU as the device, except the test marked gpu."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from streamav.errors import DataError
from streamav.networks.options import VSCGOptions
from streamav.networks.vscg import VSCG
from streamav.training.data.feature_set import Batch, FeatureSet, GatheredRows, SegmentRows
from streamav.training.data.folder import AveData
from streamav.training.data.windows import ClipBatches
from streamav.training.fit.device_rows import DeviceRows, fits, held, on_device
from streamav.training.fit.trainer import Recipe, fit
from streamav.training.options import TrainOptions

CPU = torch.device("cpu")
CLIPS, SEGMENTS, AUDIO, GRID, VISUAL, CLASSES = 70, 10, 5, 2, 6, 3


def features(dtype: str = "float32") -> FeatureSet:
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES + 1, (CLIPS, SEGMENTS))
    return FeatureSet(
        audio=random.normal(size=(CLIPS, SEGMENTS, AUDIO)).astype(dtype),
        visual=random.normal(size=(CLIPS, SEGMENTS, GRID, GRID, VISUAL)).astype(dtype),
        labels=labels,
        tags=np.eye(CLASSES + 1, dtype=np.float32)[labels[:, 0]],
        rows=np.arange(CLIPS),
    )


def data(whole: FeatureSet) -> AveData:
    splits = {"train": np.arange(40), "val": np.arange(40, 50), "test": np.arange(50, 60)}
    train, val, test = (whole.select(rows, name) for name, rows in splits.items())
    return AveData(
        train=train,
        val=val,
        test=test,
        background=whole.select(np.arange(60, 70), "background"),
        classes=(),
        repeated=np.empty(0, dtype=np.int64),
    )


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, name).cpu(), getattr(other, name).cpu()) for name in ("audio", "visual", "labels", "tags"))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_batch_gathered_on_the_device_is_the_batch_gathered_from_rows(dtype: str) -> None:
    """Whole clips, and windows cut at any phase with silence in them, are equal bit for bit; float64 is stored as float32."""
    plain = features(dtype)
    there = replace(plain, audio=DeviceRows(plain.audio, CPU), visual=DeviceRows(plain.visual, CPU))
    assert isinstance(there.visual, GatheredRows)
    assert same(plain.gather(np.array([69, 3, 3])), there.gather(np.array([69, 3, 3])))
    random = np.random.default_rng(1)
    rows, seconds = random.integers(-1, CLIPS, (2, 8, SEGMENTS)), random.integers(0, SEGMENTS, (2, 8, SEGMENTS))
    cut = SegmentRows(
        audio_rows=rows[0],
        audio_segments=seconds[0],
        visual_rows=rows[1],
        visual_segments=seconds[1],
        labels=random.integers(0, CLASSES + 1, (8, SEGMENTS)),
    )
    assert (rows < 0).any()
    assert same(plain.gather_segments(cut), there.gather_segments(cut))


def test_plain_arrays_gather_row_by_row() -> None:
    """A numpy array, which also has a method `take`, is not treated as rows on a device."""
    assert not isinstance(features().visual, GatheredRows)


def test_every_split_shares_one_copy() -> None:
    """All splits share one copy of the features, and the batches of an epoch are unchanged."""
    before = data(features())
    after = held(before, CPU)
    assert after.background is not None
    assert len({id(split.visual) for split in (after.train, after.val, after.test, after.background)}) == 1
    options = TrainOptions(batch=16, shifted_share=0.5)
    pairs = zip(
        ClipBatches(train=before.train, options=options, background=before.background)(3),
        ClipBatches(train=after.train, options=options, background=after.background)(3),
        strict=True,
    )
    assert all(same(one, other) for one, other in pairs)


def test_nan_is_refused_with_its_row() -> None:
    """A NaN in the features is found while the features are copied, and the error names its row."""
    values = np.zeros((40, SEGMENTS, AUDIO), dtype=np.float32)
    values[37, 2, 1] = np.nan
    with pytest.raises(DataError, match="row 37"):
        DeviceRows(values, CPU)


def test_what_does_not_fit_is_left_where_it_is() -> None:
    """Features fit only if there is also memory for a step; on a CPU the data are returned unchanged."""
    given = data(features())
    need = CLIPS * SEGMENTS * (AUDIO + GRID * GRID * VISUAL) * 4 + 3 * 2**30
    assert fits(given, need)
    assert not fits(given, need - 1)
    assert on_device(given, CPU) is given


@pytest.mark.gpu
def test_training_on_a_gpu_reads_the_features_there_in_mixed_precision() -> None:
    """Batches are on the GPU, and the loss falls in bfloat16 and in float16."""
    given = on_device(data(features()), torch.device("cuda"))
    assert given.train.gather(np.arange(2)).visual.is_cuda
    for precision in ("bfloat16", "float16"):
        torch.manual_seed(0)
        network = VSCG(
            VSCGOptions.corrected(
                audio_size=AUDIO, visual_size=VISUAL, grid=GRID, classes=CLASSES, hidden=8, attention_size=8, front_size=8, head_size=8
            )
        ).cuda()
        options = TrainOptions.from_dict({"epochs": 20, "batch": 20, "learning_rate": 0.01, "precision": precision})
        result = fit(network, given.train, given.val, Recipe(classes=CLASSES, options=options))
        assert result.history[-1].loss < result.history[0].loss
