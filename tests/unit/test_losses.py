"""Promises of targets and losses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamav.errors import DataError, SettingsError
from streamav.networks.heads import LocalizerOutput
from streamav.training.fit.losses import LossOptions, avps_loss, background_contrast, loss
from streamav.training.fit.targets import TargetMaker, TargetOptions

CLASSES = 4
BACKGROUND = CLASSES


@st.composite
def label_batches(draw: st.DrawFn) -> torch.Tensor:
    """Generate labels (B, T) with any mixture of classes and background."""
    length = draw(st.integers(1, 12))
    rows = draw(st.lists(st.lists(st.integers(0, CLASSES), min_size=length, max_size=length), min_size=1, max_size=6))
    return torch.tensor(rows, dtype=torch.int64)


def _answer(batch: int, length: int, seed: int = 0) -> LocalizerOutput:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    scores = draw(batch, length, CLASSES + 1)
    return LocalizerOutput(
        relevance_logits=draw(batch, length),
        class_logits=draw(batch, CLASSES),
        segment_logits=scores,
        similarity=torch.tanh(draw(batch, length)),
        gate=torch.sigmoid(draw(batch, length)),
        modality_logits=draw(batch, CLASSES),
    )


def _weak_answer(batch: int, length: int) -> LocalizerOutput:
    scores = torch.randn(batch, length, CLASSES + 1, generator=torch.Generator().manual_seed(1)).requires_grad_()
    return LocalizerOutput(segment_logits=scores, segment_scores=scores, video_probabilities=scores.mean(dim=1).softmax(dim=-1))


@settings(deadline=None)  # the first call into torch is slow
@given(batches=st.lists(label_batches(), min_size=1, max_size=4), multi_label=st.booleans())
def test_clean_agreement_target_is_zero_on_background_in_every_batch(batches: list[torch.Tensor], multi_label: bool) -> None:
    """With the clean target, rows sum to 1, or to 0 without an event, and background segments get 0 in every batch (no bug B1)."""
    make = TargetMaker(CLASSES, TargetOptions(multi_label=multi_label))
    for labels in batches:
        targets = make(labels)
        events = labels != BACKGROUND
        assert bool((targets.avps[~events] == 0).all())
        torch.testing.assert_close(targets.avps.sum(dim=1), events.any(dim=1).float())
        assert torch.equal(targets.avps_weight, events.any(dim=1).float())
        assert torch.equal(targets.relevance, events.float())


@settings(deadline=None)  # the first call into torch is slow
@given(labels=label_batches(), tagged=st.booleans(), multi_label=st.booleans())
def test_class_targets_are_distributions(labels: torch.Tensor, tagged: bool, multi_label: bool) -> None:
    """Each segment has one class; a window has a class only if exactly one event class occurs in it."""
    tags = torch.zeros(len(labels), CLASSES + 1)
    tags[:, 0] = tags[:, 1] = 1.0
    targets = TargetMaker(CLASSES, TargetOptions(multi_label=multi_label))(labels, tags if tagged else None)
    torch.testing.assert_close(targets.segment_class.sum(dim=-1), torch.ones(labels.shape))
    single = torch.tensor([len(set(row.tolist()) - {BACKGROUND}) == 1 for row in labels])
    torch.testing.assert_close(targets.window_class.sum(dim=1), single.float())
    assert torch.equal(targets.segment_class[..., BACKGROUND], (labels == BACKGROUND).float())


def test_weak_targets_say_what_or_how_long() -> None:
    """The tags of a window do not depend on the events' durations; the proportions do (bug B15)."""
    labels = torch.tensor([[1, 1, 4, 4], [4, 4, 4, 4], [0, 1, 4, 4]])
    mil = TargetMaker(CLASSES)(labels).video
    assert mil.tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 0, 1], [1, 1, 0, 0, 0]]
    proportion = TargetMaker(CLASSES, TargetOptions(weak_target="proportion"))(labels).video
    assert proportion.tolist() == [[0, 0.5, 0, 0, 0.5], [0, 0, 0, 0, 1], [0.25, 0.25, 0, 0, 0.5]]
    tags = torch.tensor([[0.0, 0, 3, 0, 0]] * 3)
    assert TargetMaker(CLASSES)(labels, tags).video.tolist() == [[0, 0, 1, 0, 0]] * 3


def test_twice_annotated_clips_share_their_target() -> None:
    """With multi_label, the target of a clip labelled 1 and tagged 1 and 3 is half for each, on its event segments only."""
    labels, tags = torch.tensor([[1, 4]]), torch.tensor([[0.0, 1, 0, 1, 0]])
    targets = TargetMaker(CLASSES, TargetOptions(multi_label=True))(labels, tags)
    assert targets.window_class.tolist() == [[0, 0.5, 0, 0.5]]
    assert targets.segment_class.tolist() == [[[0, 0.5, 0, 0.5, 0], [0, 0, 0, 0, 1]]]


def test_the_stale_target_keeps_what_earlier_batches_left() -> None:
    """With the stale target, the second batch has leftovers of the first batch on its background segments (bug B1)."""
    make = TargetMaker(CLASSES, TargetOptions(avps_target="stale"))
    first = make(torch.tensor([[0, 0, 4, 4]])).avps
    second = make(torch.tensor([[4, 4, 1, 4]])).avps
    assert first.tolist() == [[0.5, 0.5, 0, 0]]
    assert second.tolist() == [[0.5, 0.5, 1, 0]]
    empty = make(torch.tensor([[4, 4, 4, 4]]))
    assert empty.avps.tolist() == [[0.25] * 4]
    assert empty.window_class.tolist() == [[1, 0, 0, 0]]
    assert first.tolist() == [[0.5, 0.5, 0, 0]], "a returned batch must not change later"


@pytest.mark.parametrize("labels", [torch.tensor([[5]]), torch.tensor([[-1]]), torch.tensor([[0.0]]), torch.tensor([0])])
def test_impossible_labels_are_refused(labels: torch.Tensor) -> None:
    """A label outside 0 to C, a float label or a one-dimensional tensor raises a DataError."""
    with pytest.raises(DataError, match="labels must"):
        TargetMaker(CLASSES)(labels)


def test_npf_is_its_formula_by_hand() -> None:
    """The npf loss is BCE of relevance, CE of the class of single-class windows, 29-way CE, and AVPS, each with its weight."""
    labels = torch.tensor([[1, 1, 4], [4, 4, 4], [0, 2, 4]])
    output, targets = _answer(3, 3), TargetMaker(CLASSES)(labels)
    terms = loss(output, targets, LossOptions(segment_weight=0.5, avps_weight=10.0))
    assert output.relevance_logits is not None
    assert output.class_logits is not None
    assert output.segment_logits is not None
    assert output.similarity is not None
    bce = torch.nn.BCEWithLogitsLoss()(output.relevance_logits, (labels != 4).float())
    window = torch.nn.CrossEntropyLoss()(output.class_logits[:1], torch.tensor([1]))
    segment = torch.nn.CrossEntropyLoss()(output.segment_logits.permute(0, 2, 1), labels)
    shares = output.similarity.relu() / (output.similarity.relu().sum(dim=1, keepdim=True) + 1e-8)
    wanted = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0]])
    avps = torch.nn.MSELoss()(shares[[0, 2]], wanted)
    expected = {"relevance": bce, "window_class": window, "segment": 0.5 * segment, "avps": 10.0 * avps}
    assert terms.parts.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms.parts[name], value.detach())
    torch.testing.assert_close(terms.total, torch.stack(list(expected.values())).sum())
    terms.total.backward()  # type: ignore[no-untyped-call]
    assert not terms.parts["avps"].requires_grad


def test_smooth_loss_cannot_fall_below_its_floor() -> None:
    """The second term of the smooth loss uses a softmax of probabilities: a perfect answer gives 0.1156 at 29 classes."""
    perfect = torch.zeros(1, 29)
    perfect[0, 3] = 1.0
    targets = TargetMaker(28)(torch.full((1, 10), 3))
    parts = loss(LocalizerOutput(video_probabilities=perfect), targets, LossOptions.corrected("weakly")).parts
    assert parts["video"] == 0.0
    assert math.isclose(float(parts["smoothed"]), 0.1156, abs_tol=1e-4)


def test_smooth_lambda_weighs_the_plain_term() -> None:
    """Lambda multiplies BCE(p) and does not change BCE(h)."""
    output, targets = _weak_answer(2, 5), TargetMaker(CLASSES)(torch.tensor([[1, 1, 4, 4, 4], [4, 4, 4, 4, 4]]))
    plain = loss(output, targets, LossOptions(loss="bce")).parts["video"]
    parts = loss(output, targets, LossOptions(loss="smooth", smooth_lambda=3.0)).parts
    torch.testing.assert_close(parts["video"], 3.0 * plain)


@pytest.mark.parametrize("name", ["npf", "ce", "ce_avps", "soft_margin", "cmbs"])
@pytest.mark.parametrize("labels", [[[4, 4, 4]], [[0, 1, 2]], [[3, 3, 3]], [[4, 2, 4]]])
def test_fully_supervised_losses_are_finite_with_any_window(name: str, labels: list[list[int]]) -> None:
    """A window without an event, with several events, or filled by one event gives a finite loss and finite gradients."""
    output = _answer(1, 3)
    terms = loss(output, TargetMaker(CLASSES)(torch.tensor(labels)), LossOptions(loss=name, label_smoothing=0.1))  # type: ignore[arg-type]
    terms.total.backward()  # type: ignore[no-untyped-call]
    assert bool(terms.total.isfinite())
    assert output.segment_logits is not None
    for tensor in (output.relevance_logits, output.class_logits, output.segment_logits):
        assert tensor is not None
        assert tensor.grad is None or bool(tensor.grad.isfinite().all())


def test_windows_without_a_single_class_do_not_pull_the_class_head() -> None:
    """Background-only windows and windows with two classes give the window's class no gradient, even with label smoothing."""
    output = _answer(2, 3)
    targets = TargetMaker(CLASSES)(torch.tensor([[4, 4, 4], [0, 1, 4]]))
    loss(output, targets, LossOptions(label_smoothing=0.2)).total.backward()  # type: ignore[no-untyped-call]
    assert output.class_logits is not None
    assert output.class_logits.grad is not None
    assert output.class_logits.grad.abs().sum() == 0


def test_agreement_is_best_where_the_event_is() -> None:
    """The AVPS term is 0 for agreement on event segments only, and grows with the share on background segments."""
    target = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    right, even, wrong = (torch.tensor([row]) for row in ([0.8, 0.8, -0.5, 0.0], [0.5] * 4, [0.0, 0.0, 0.5, 0.5]))
    errors = [float(avps_loss(row, target, torch.ones(1))) for row in (right, even, wrong)]
    assert errors[0] < 1e-12 < errors[1] < errors[2]


def test_contrast_is_small_when_events_lie_together() -> None:
    """Vectors with all events on one axis and each background segment on its own reach the minimum: log of the number of positives."""
    relevance = torch.tensor([[1.0, 1, 0, 0]])
    axes = torch.eye(4)
    good = torch.stack([axes[[0, 0, 1, 2]]] * 2).unsqueeze(1)
    bad = torch.stack([axes[[0, 1, 0, 0]]] * 2).unsqueeze(1)
    floor = math.log(3) / 2  # an event segment has three positives, a background segment one
    assert math.isclose(float(background_contrast(good, relevance, 0.1)), floor, abs_tol=0.01)
    assert float(background_contrast(bad, relevance, 0.1)) > floor + 1.0


def test_a_loss_the_network_cannot_serve_is_named() -> None:
    """A loss that needs an output which the network lacks is refused, and the message names this output."""
    targets = TargetMaker(CLASSES)(torch.tensor([[0, 4]]))
    with pytest.raises(SettingsError, match="loss npf needs the output relevance_logits"):
        loss(_weak_answer(1, 2), targets, LossOptions())
    with pytest.raises(SettingsError, match="loss smooth needs the output video_probabilities"):
        loss(_answer(1, 2), targets, LossOptions(loss="smooth"))
    with pytest.raises(SettingsError, match="loss npf needs the output contrast"):
        loss(_answer(1, 2), targets, LossOptions(contrast_weight=1.0))


@pytest.mark.parametrize(
    "values", [{"loss": "hinge"}, {"avps_weight": -1.0}, {"avps_weight": math.nan}, {"label_smoothing": 1.0}, {"contrast_temperature": 0.0}]
)
def test_impossible_weights_are_refused(values: dict[str, object]) -> None:
    """An unknown loss or a value out of range, NaN included, is refused when the options are built."""
    with pytest.raises(SettingsError, match=next(iter(values))):
        LossOptions.from_dict(values)
