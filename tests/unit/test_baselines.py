"""Tests of the baselines of Tables IV and V."""

from __future__ import annotations

import pytest
import torch

from streamav.networks.baselines import BaselineOptions, make_baseline
from streamav.networks.heads import LocalizerOutput, decide

SMALL = {"audio_size": 6, "visual_size": 12, "grid": 3, "classes": 5, "hidden": 8}
HEADS = {
    ("avel", "fully"): {"segment_logits"},
    ("avel", "weakly"): {"segment_logits", "video_probabilities", "segment_scores"},
    ("pspnet", "fully"): {"segment_logits"},
    ("pspnet", "weakly"): {"segment_logits", "video_probabilities", "segment_scores"},
    ("cmbs", "fully"): {"relevance_logits", "class_logits", "gate", "modality_logits"},
    ("cmbs", "weakly"): {"segment_logits", "video_probabilities", "segment_scores", "gate"},
}


def _answer(batch: int = 2, length: int = 10, **options: object) -> LocalizerOutput:
    torch.manual_seed(0)
    network = make_baseline(BaselineOptions.from_dict({**SMALL, **options})).eval()
    with torch.inference_mode():
        output: LocalizerOutput = network(torch.rand(batch, length, 6), torch.rand(batch, length, 3, 3, 12))
    return output


@pytest.mark.parametrize(
    ("network", "supervision", "count"),
    [
        ("avel", "fully", 1_335_246),
        ("avel", "weakly", 1_335_246),
        ("pspnet", "fully", 1_548_657),
        ("pspnet", "weakly", 1_253_902),
        ("cmbs", "fully", 13_544_537 - 4_344_064),
        ("cmbs", "weakly", 14_789_439 - 5_393_921),
    ],
)
def test_parameter_counts_are_those_of_the_authors_live_layers(network: str, supervision: str, count: int) -> None:
    """Each baseline has as many parameters as the authors' code without its unused layers."""
    made = make_baseline(BaselineOptions(network=network, supervision=supervision))  # type: ignore[arg-type]
    assert sum(parameter.numel() for parameter in made.parameters()) == count


@pytest.mark.slow
@pytest.mark.parametrize(("network", "supervision"), HEADS)
@pytest.mark.parametrize("plugin", ["none", "psp", "escm"])
@pytest.mark.parametrize(("batch", "length"), [(1, 10), (2, 3)])
def test_every_baseline_answers_in_the_common_form(network: str, supervision: str, plugin: str, batch: int, length: int) -> None:
    """With any plug-in, a baseline returns finite outputs of its own heads, and no others, for any batch and window length."""
    output = _answer(batch, length, network=network, supervision=supervision, plugin=plugin)
    given = {name: value for name, value in output._asdict().items() if value is not None}
    assert given.keys() == HEADS[network, supervision] | {"similarity", "attention"}
    assert all(value.shape[0] == batch and bool(value.isfinite().all()) for value in given.values())
    assert given["similarity"].shape == (batch, length)
    assert given["attention"].shape == (batch, length, 3, 3)
    torch.testing.assert_close(given["attention"].sum(dim=(2, 3)), torch.ones(batch, length))
    labels = decide(output, "two_stage" if (network, supervision) == ("cmbs", "fully") else "argmax29")
    assert labels.shape == (batch, length)


@pytest.mark.parametrize("network", ["avel", "pspnet"])
def test_negative_pair_filter_heads_are_added_on_request(network: str) -> None:
    """With npf_heads, PSP-Net and AVEL have the heads that VSCG's loss needs (Table V)."""
    output = _answer(network=network, npf_heads=True)
    assert output.relevance_logits is not None
    assert output.class_logits is not None
    assert output.segment_logits is not None
    assert output.relevance_logits.shape == (2, 10)
    assert output.class_logits.shape == (2, 5)


@pytest.mark.parametrize(("network", "supervision"), HEADS)
def test_the_plugin_changes_the_answer_and_learns(network: str, supervision: str) -> None:
    """ESCM at the end is trained: its layers get gradients."""
    torch.manual_seed(0)
    made = make_baseline(BaselineOptions.from_dict({**SMALL, "network": network, "supervision": supervision, "plugin": "escm"}))
    output = made(torch.rand(2, 10, 6), torch.rand(2, 10, 3, 3, 12))
    torch.stack([value.square().mean() for value in output if value is not None]).sum().backward()  # type: ignore[no-untyped-call]
    gradients = {name: parameter.grad for name, parameter in made.named_parameters() if name.startswith("plugin.")}
    assert gradients
    assert all(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients.values())
