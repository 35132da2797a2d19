"""Builds the four torch modules of a bundle with their weights: the float32 reference from which every engine is made.

The modules are on the CPU, in evaluation mode, and compute no gradients. This module depends on no engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, nn

from streamav.bundle.catalogue import encoder_file
from streamav.errors import ModelError, SettingsError
from streamav.networks.compact import CompactAudio, CompactVisual
from streamav.networks.efficientnet_lite import EfficientNetLite
from streamav.networks.encoders import load_encoder
from streamav.networks.mobilenetv2 import MobileNetV2
from streamav.networks.options import VSCGOptions
from streamav.networks.state import load_arrays
from streamav.networks.vgg19 import VGG19
from streamav.networks.vggish import VGGish
from streamav.networks.vscg import VSCG
from streamav.networks.yamnet import Yamnet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamav.bundle import AudioCard, Bundle, VisualCard

__all__ = ["FLOAT32_ALWAYS", "EncodeSegment", "LocalizeWindow", "ScoringEncoder", "build_localizer", "build_modules", "make_encoder"]

_ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "compact_audio": CompactAudio,
    "yamnet": Yamnet,
    "vggish": VGGish,
    "compact_visual": CompactVisual,
    "mobilenetv2": MobileNetV2,
    "efficientnet_lite0": EfficientNetLite,
    "vgg19": VGG19,
}
FLOAT32_ALWAYS = (MobileNetV2,)
"""Encoders that are too inaccurate in half precision.

MobileNetV2 with its public weights, encoders emulated on a CPU, the samples of `samples.py`: relative L2 error of its grid
0.04 to 0.05 in fp16 and 0.23 to 0.34 in bf16, single cells off by half and by all of the largest value, with or without
batch norms folded. Most of the error comes from rounding the weights, so TF32 would not help. The network is small: 0.6 GFLOP a
picture (0.3 G multiply-adds, arXiv 1801.04381, Table 4), and tensor cores do not speed up its depthwise layers.
"""
_SIZED = frozenset({"compact_audio", "compact_visual"})
"""Encoders that take their feature size as an argument."""


class ScoringEncoder(nn.Module):
    """An encoder that returns, beside its features, the scores of the classes that it was trained on."""

    def __init__(self, encoder: Yamnet | EfficientNetLite | CompactAudio | CompactVisual) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and the class scores (B, H or K), range 0 to 1."""
        features = self.encoder(inputs)
        return features, self.encoder.scores(features)


class EncodeSegment(nn.Module):
    """Computes the localizer's part for one segment alone."""

    def __init__(self, localizer: VSCG) -> None:
        super().__init__()
        self.localizer = localizer

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a (B, D), v (B, D) and attention (B, G, G) of audio (B, A) and visual (B, G, G, V)."""
        return self.localizer.encode_segment(audio, visual)


class LocalizeWindow(nn.Module):
    """Computes the localizer's part for a whole window; the four outputs are the same for every kind of supervision."""

    def __init__(self, localizer: VSCG) -> None:
        super().__init__()
        self.localizer = localizer

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return relevance_logits (B, T), class_logits (B, C), segment_logits (B, T, C + 1), similarity (B, T) of a, v (B, T, D).

        A weakly supervised network has no heads for the first two. They follow from its segment scores: the relevance is the
        probability of any class but background, the window's class has the probabilities of the window without background.

        Raises:
            ModelError: when the localizer returns no segment logits or no similarity.
        """
        output = self.localizer.localize_window(audio, visual)
        segments, similarity = output.segment_logits, output.similarity
        if segments is None or similarity is None:
            msg = "the localizer must return segment logits and similarity; this one does not"
            raise ModelError(msg)
        relevance, classes = output.relevance_logits, output.class_logits
        if relevance is None:
            relevance = torch.logsumexp(segments[..., :-1], dim=-1) - segments[..., -1]
        if classes is None:
            classes = segments.mean(dim=1)[..., :-1]
        return relevance, classes, segments, similarity


def build_modules(bundle: Bundle, weights_dir: Path | None = None) -> dict[str, nn.Module]:
    """Build "visual", "audio", "encode_segment" and "localize_window" of a bundle.

    Args:
        bundle: card and weights.
        weights_dir: folder with external encoders; None for the user's own.

    Raises:
        ModelError: when weights are missing or do not fit the networks that the card names.
    """
    card = bundle.card
    localizer = build_localizer(bundle)
    modules: dict[str, nn.Module] = {
        "visual": _encoder(bundle, "visual", card.visual, weights_dir),
        "audio": _encoder(bundle, "audio", card.audio, weights_dir),
        "encode_segment": EncodeSegment(localizer),
        "localize_window": LocalizeWindow(localizer),
    }
    for module in modules.values():
        module.eval().requires_grad_(requires_grad=False)
    return modules


def build_localizer(bundle: Bundle) -> VSCG:
    """Build the localizer of a bundle with its weights, in training mode (torch's default).

    Raises:
        ModelError: when its options are wrong or its weights do not fit.
    """
    try:
        localizer = VSCG(VSCGOptions.from_dict(bundle.card.localizer.options))
    except SettingsError as exc:
        msg = f"the localizer's options in the card of {bundle.path} are wrong: {exc}"
        raise ModelError(msg) from exc
    load_arrays(localizer, bundle.weights("localizer"), f"the localizer of {bundle.path}")
    return localizer


def _encoder(bundle: Bundle, part: str, card: AudioCard | VisualCard, weights_dir: Path | None) -> nn.Module:
    if card.external:
        module = load_encoder(card.network, encoder_file(card.network, weights_dir))
    else:
        module = make_encoder(card)
        load_arrays(module, bundle.weights(part), f"the {part} encoder of {bundle.path}")
    return ScoringEncoder(module) if _scores(module) else module


def _scores(module: nn.Module) -> TypeGuard[Yamnet | EfficientNetLite | CompactAudio | CompactVisual]:
    """Return whether an encoder scores the classes that it was trained on; a compact encoder may have no class scores."""
    if isinstance(module, (CompactAudio, CompactVisual)):
        return module.classifier is not None
    return isinstance(module, (Yamnet, EfficientNetLite))


def make_encoder(card: AudioCard | VisualCard) -> nn.Module:
    """Build the encoder that a card names, with fresh random weights, in evaluation mode.

    Raises:
        ModelError: when the card's options are not arguments of the network.
    """
    options = dict(card.options)
    if card.network in _SIZED:
        options.setdefault("size", card.size)
    try:
        return _ENCODERS[card.network](**options).eval()
    except TypeError as exc:
        msg = f"the options of {card.network} in a model card must be its arguments, got {options}: {exc}"
        raise ModelError(msg) from exc
