"""The VSCG network against its specification and against an independent run of the authors' code."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import get_args

import pytest
import torch
from rigs import golden_numbers
from safetensors.torch import load_file

from streamav.errors import ModelError, ShapeError
from streamav.networks.files.reference_keys import DEAD_KEYS, REFERENCE_KEYS, load_reference_state, recognise
from streamav.networks.heads import decide, segment_probabilities
from streamav.networks.options import Prior, Supervision, VSCGOptions
from streamav.networks.vscg import VSCG

SMALL = {"audio_size": 6, "visual_size": 10, "grid": 3, "classes": 5, "hidden": 4, "attention_size": 12, "front_size": 9, "head_size": 7}
GOLDEN = Path(__file__).parent.parent / "golden"
SUPERVISIONS: tuple[Supervision, ...] = ("fully", "weakly")


def _small(supervision: Supervision = "fully", **switches: object) -> VSCG:
    torch.manual_seed(0)
    return VSCG(VSCGOptions.from_dict({"supervision": supervision, **SMALL, **switches})).eval()


def _inputs(batch: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch * 100 + length)
    return torch.rand(batch, length, 6, generator=generator), torch.rand(batch, length, 3, 3, 10, generator=generator)


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _shapes(model: VSCG) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the authors' tensors by their names, unused tensors included."""
    own, supervision = model.state_dict(), model.options.supervision
    return {theirs: tuple(own[ours].shape) for theirs, ours in REFERENCE_KEYS[supervision].items()} | DEAD_KEYS[supervision]


@pytest.mark.parametrize("supervision", SUPERVISIONS)
@pytest.mark.parametrize("length", golden_numbers.WINDOW_LENGTHS)
def test_reference_form_answers_as_the_authors_network(supervision: Supervision, length: int) -> None:
    """With the authors' weights, every output equals theirs within 1e-5, and sound and picture are not swapped."""
    model = VSCG(VSCGOptions.reference(supervision)).eval()
    load_reference_state(model, golden_numbers.weights(supervision, _shapes(model)))
    golden = {
        key.split(".")[1]: value
        for key, value in load_file(GOLDEN / f"vscg_{supervision}.safetensors").items()
        if key.startswith(f"{length}.")
    }
    with torch.inference_mode():
        output = model(*golden_numbers.inputs(length))
    got = {**output._asdict(), "smoothed_probabilities": None if supervision == "fully" else torch.softmax(output.video_probabilities, -1)}
    assert len(golden) == (4 if supervision == "fully" else 3)
    for name, wanted in golden.items():
        difference = float((got[name] - wanted).abs().max())
        assert difference <= 1e-5, name


@pytest.mark.parametrize(
    ("form", "supervision", "count"),
    [
        ("corrected", "fully", 2_526_606),
        ("reference", "fully", 2_526_606),
        ("corrected", "weakly", 2_355_470),
        ("reference", "weakly", 2_257_166),
    ],
)
def test_parameter_counts_are_the_published_ones(form: str, supervision: str, count: int) -> None:
    """Every variant has the expected number of parameters."""
    assert _parameters(VSCG(getattr(VSCGOptions, form)(supervision))) == count


def test_parameter_counts_of_the_components_table() -> None:
    """The variants of Table III have the right numbers of parameters without the segment head.

    Full model 2,508,366; w/o ESCM 1,537,870; w/o ISCE, Avg, Max 2,262,350; non-shared 2,754,382.
    """

    def count(**switches: object) -> int:
        model = VSCG(VSCGOptions.from_dict(switches))
        return _parameters(model) - _parameters(model.heads.segment)  # type: ignore[arg-type]

    assert count() == 2_508_366
    assert count(escm=False) == 1_537_870
    assert {prior: count(prior=prior) for prior in ("zero", "avg", "max")} == dict.fromkeys(("zero", "avg", "max"), 2_262_350)
    assert count(prior="unshared") == 2_754_382


@pytest.mark.parametrize(("supervision", "tensors", "values"), [("fully", 76, 2_629_226), ("weakly", 67, 2_397_006)])
def test_reference_layout_holds_every_tensor_of_the_authors(supervision: Supervision, tensors: int, values: int) -> None:
    """Used and unused tensors together are the content of the authors' checkpoints."""
    shapes = _shapes(VSCG(VSCGOptions.reference(supervision)))
    assert (tensors, values) == (len(shapes), sum(prod(shape) for shape in shapes.values()))
    assert recognise(shapes) == supervision


def test_wrong_reference_states_are_refused_and_change_nothing() -> None:
    """The error names a missing, unknown or wrongly shaped tensor, and the network keeps its weights."""
    model = VSCG(VSCGOptions.reference("weakly"))
    state = golden_numbers.weights("weakly", _shapes(model))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    broken = [
        ({key: value for key, value in state.items() if key != "W3.weight"}, "W3.weight"),
        ({**state, "extra": torch.zeros(1)}, "extra"),
        ({**state, "W1.weight": torch.zeros(1, 255)}, "W1.weight"),
        ({**state, "L1.weight": torch.zeros(64, 256, dtype=torch.int64)}, "L1.weight"),
    ]
    for wrong, named in broken:
        with pytest.raises(ModelError, match=named):
            load_reference_state(model, wrong)
    with pytest.raises(ModelError, match="reference"):
        load_reference_state(VSCG(VSCGOptions.corrected("weakly")), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_swapped_checkpoint_also_fits_branches_named_rightly() -> None:
    """The documented renaming converts a fully supervised checkpoint for a network without the swap."""
    swapped = VSCG(VSCGOptions.reference("fully")).eval()
    load_reference_state(swapped, golden_numbers.weights("fully", _shapes(swapped)))
    clean = VSCG(VSCGOptions.from_dict({"psp_threshold": 0.099, "pool": "floor"})).eval()
    renamed = {
        "lstm.audio": "lstm.visual",
        "psp.visual_first": "psp.audio_second",
        "psp.visual_second": "psp.audio_first",
        "psp.visual_project": "psp.audio_project",
        "escm.audio_gru": "escm.visual_gru",
        "escm.audio_project": "escm.visual_project",
    }
    renamed |= {theirs: ours for ours, theirs in renamed.items()}
    state = swapped.state_dict()
    clean.load_state_dict({key: state[_renamed(key, renamed)] for key in state})
    inputs = golden_numbers.inputs(10)
    with torch.inference_mode():
        for one, other in zip(clean(*inputs), swapped(*inputs), strict=True):
            if one is not None:
                torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def _renamed(key: str, renamed: dict[str, str]) -> str:
    for prefix, other in renamed.items():
        if key.startswith(prefix + "."):
            return other + key.removeprefix(prefix)
    return key


@pytest.mark.slow
@pytest.mark.parametrize("supervision", SUPERVISIONS)
@pytest.mark.parametrize("prior", get_args(Prior))
def test_every_window_length_gives_finite_answers_of_the_right_shape(supervision: Supervision, prior: str) -> None:
    """With adaptive pooling any T is possible, and a batch of one keeps its axis (bugs B6, B7)."""
    model = _small(supervision, prior=prior)
    for length in range(1, 31):
        with torch.inference_mode():
            output = model(*_inputs(1, length))
        wanted = {"similarity": (1, length), "attention": (1, length, 3, 3), "segment_logits": (1, length, 6)}
        wanted |= (
            {"relevance_logits": (1, length), "class_logits": (1, 5)}
            if supervision == "fully"
            else {"video_probabilities": (1, 6), "segment_scores": (1, length, 6)}
        )
        got = {name: value for name, value in output._asdict().items() if value is not None}
        assert wanted == {name: tuple(value.shape) for name, value in got.items()}
        assert all(bool(value.isfinite().all()) for value in got.values())


@pytest.mark.parametrize("supervision", SUPERVISIONS)
@pytest.mark.parametrize("swap_av", [False, True])
def test_segment_by_segment_equals_the_whole_window(supervision: Supervision, swap_av: bool) -> None:
    """Encoding each segment once and localizing the vectors gives the same outputs as one pass over the window."""
    model = _small(supervision, swap_av=swap_av)
    audio, visual = _inputs(3, 10)
    with torch.inference_mode():
        whole = model(audio, visual)
        seconds = [model.encode_segment(audio[:, t], visual[:, t]) for t in range(10)]
        heard, seen, attention = (torch.stack(parts, dim=1) for parts in zip(*seconds, strict=True))
        parts = model.localize_window(heard, seen)._replace(attention=attention)
    for name, wanted in whole._asdict().items():
        if wanted is not None:
            torch.testing.assert_close(getattr(parts, name), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_windows_of_a_batch_do_not_touch_each_other(supervision: Supervision) -> None:
    """A window has the same scores in a batch and alone."""
    model = _small(supervision)
    audio, visual = _inputs(4, 10)
    with torch.inference_mode():
        together, alone = model(audio, visual), model(audio[2:3], visual[2:3])
    torch.testing.assert_close(together.segment_logits[2:3], alone.segment_logits, rtol=0, atol=1e-6)


def test_wrong_shapes_are_named() -> None:
    """Sound and picture of different lengths or sizes are refused; the error states the shapes."""
    model = _small()
    audio, visual = _inputs(2, 10)
    with pytest.raises(ShapeError, match=r"visual \(B, T, 3, 3, 10\)"):
        model(audio, visual[:, :9])
    with pytest.raises(ShapeError, match=r"audio must be \(B, T, 6\)"):
        model(audio[..., :5], visual)


def test_the_weak_gate_never_closes_below_half_unless_asked() -> None:
    """sigmoid(ReLU(x)) keeps at least half of every score; without the ReLU the gate can keep less."""
    audio, visual = _inputs(8, 10)
    closed = []
    for gate_relu in (True, False):
        model = _small("weakly", weak_gate_relu=gate_relu)
        torch.nn.init.constant_(model.heads.gate.weight, -50.0)  # type: ignore[union-attr, arg-type]
        with torch.inference_mode():
            scores = model(audio, visual).segment_scores
        closed.append(float(scores.abs().min()))
    assert closed[1] < closed[0]


def test_probabilities_and_labels_agree_with_each_other() -> None:
    """Soft scores are distributions with background last, and labels follow the two decision rules."""
    with torch.inference_mode():
        output = _small()(*_inputs(4, 10))
    for decision in ("two_stage", "argmax29"):
        probabilities = segment_probabilities(output, decision)
        assert probabilities.shape == (4, 10, 6)
        torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(4, 10))
    assert torch.equal(decide(output, "argmax29"), segment_probabilities(output, "argmax29").argmax(dim=-1))
    assert torch.equal(decide(output, "two_stage", 1.0), torch.full((4, 10), 5))
    assert torch.equal(decide(output, "two_stage", 0.0), output.class_logits.argmax(dim=-1, keepdim=True).expand(4, 10))
    with torch.inference_mode():
        weak = _small("weakly")(*_inputs(4, 10))
    with pytest.raises(ShapeError, match="relevance_logits"):
        decide(weak, "two_stage")


def test_training_extras_are_silent_in_evaluation() -> None:
    """Feature noise changes no output outside training, and contrast pairs exist in training only."""
    noisy = _small(feature_noise=0.5, background_contrast=True)
    inputs = _inputs(2, 10)
    assert torch.equal(noisy(*inputs).class_logits, noisy(*inputs).class_logits)
    assert noisy(*inputs).contrast is None
    noisy.train()
    pairs = noisy(*inputs).contrast
    assert pairs.shape == (2, 2, 10, 8)
    assert not torch.equal(noisy(*inputs).class_logits, noisy(*inputs).class_logits)
