"""Promises of the shares of a training step that several processes take; `test_train_processes` uses real processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamav.errors import SettingsError
from streamav.networks.baselines import BaselineOptions, make_baseline
from streamav.networks.options import VSCGOptions
from streamav.networks.vscg import VSCG
from streamav.training.data.feature_set import Batch, FeatureSet
from streamav.training.data.windows import ClipBatches
from streamav.training.fit.distributed import shares
from streamav.training.fit.losses import LossName, LossOptions, loss_terms, mean_over, term_counts
from streamav.training.fit.targets import TargetMaker
from streamav.training.options import TrainOptions
from streamav.training.workers import ALONE, Workers, open_workers

SEGMENTS, CLASSES = 10, 3


def clips(count: int) -> FeatureSet:
    random = np.random.default_rng(count)
    labels = np.full((count, SEGMENTS), CLASSES, dtype=np.int64)
    for clip in range(0, count, 2):  # every other clip has an event
        labels[clip, 2:7] = clip % CLASSES
    tags = np.zeros((count, CLASSES + 1), dtype=np.float32)
    tags[np.arange(count), labels.min(axis=1)] = 1.0
    return FeatureSet(
        audio=random.normal(size=(count, SEGMENTS, 5)).astype(np.float32),
        visual=random.normal(size=(count, SEGMENTS, 2, 2, 6)).astype(np.float32),
        labels=labels,
        tags=tags,
        rows=np.arange(count),
    )


def real(batch: Batch, rank: int) -> torch.Tensor:
    """Return the audio features of the clips of a share that count for the loss."""
    return batch.audio if rank < batch.whole else batch.audio[:0]


@given(count=st.integers(1, 17), size=st.integers(2, 5), batch=st.integers(1, 6), shifted=st.sampled_from([0.0, 0.5, 1.0]))
def test_the_shares_make_up_the_batches_of_one_process(count: int, size: int, batch: int, shifted: float) -> None:
    """For all sizes, each clip of each batch is in exactly one share, at its place, and each share holds the size of the whole batch."""
    data, options = clips(count), TrainOptions(batch=batch, shifted_share=shifted)
    whole = list(ClipBatches(train=data, options=options)(3))
    parts = [list(ClipBatches(train=data, options=options, workers=Workers(rank, size))(3)) for rank in range(size)]
    for step, expected in enumerate(whole):
        assert {share[step].whole for share in parts} == {len(expected)}
        together = torch.zeros_like(expected.audio)
        for rank, share in enumerate(parts):
            together[rank::size] = real(share[step], rank)
        assert torch.equal(together, expected.audio)


@given(count=st.integers(1, 9), size=st.integers(2, 4))
def test_a_batch_made_on_the_fly_is_shared_the_same_way(count: int, size: int) -> None:
    """Batches of a callable are divided into the shares that `ClipBatches` would read; a share is not divided again."""
    batch = clips(count).gather(np.arange(count))
    parts = [next(iter(shares([batch], Workers(rank, size)))) for rank in range(size)]
    assert torch.equal(batch.labels[::size], parts[0].labels)
    assert sum(len(real(part, rank)) for rank, part in enumerate(parts)) == count
    assert next(iter(shares([parts[0]], Workers(1, size)))) is parts[0]


@pytest.mark.parametrize("name", ["npf", "ce", "ce_avps", "bce", "smooth", "soft_margin", "cmbs"])
def test_every_loss_is_a_mean_that_shares_can_be_put_together_to(name: LossName) -> None:
    """Each term of a loss over a batch is the mean of its values over two unequal shares, weighted by the counts that `mean_over` names."""
    sizes = {"audio_size": 5, "visual_size": 6, "grid": 2, "classes": CLASSES}
    torch.manual_seed(0)
    supervision = "weakly" if name in {"bce", "smooth"} else "fully"
    if name == "cmbs":
        network: torch.nn.Module = make_baseline(BaselineOptions.from_dict({"network": "cmbs", "supervision": "fully", **sizes}))
    else:
        network = VSCG(VSCGOptions.from_dict({"supervision": supervision, **sizes}))
    network.eval()
    batch, options = clips(7).gather(np.arange(7)), LossOptions(loss=name)

    def terms(part: slice) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        targets = TargetMaker(CLASSES)(batch.labels[part], batch.tags[part])
        return loss_terms(network(batch.audio[part], batch.visual[part]), targets, options), term_counts(targets)

    with torch.inference_mode():
        (whole, counts), parts = terms(slice(None)), [terms(slice(0, 2)), terms(slice(2, None))]
    assert whole
    for term, value in whole.items():
        over = mean_over(term)
        sums = sum(float(own[term] * count[over]) for own, count in parts)
        assert sums / max(1.0, float(counts[over])) == pytest.approx(float(value), rel=1e-5)


def test_without_torchrun_one_process_works_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torchrun, no process group is opened, and the only process computes results itself."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with open_workers("cpu") as workers:
        assert workers == ALONE
        assert not torch.distributed.is_initialized()
        assert workers.from_first(lambda: 3) == 3


def test_a_wrong_variable_of_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A WORLD_SIZE that is not a number raises a SettingsError that names the variable."""
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(SettingsError, match="WORLD_SIZE"), open_workers("cpu"):
        pass
