"""Computes the losses that VSCG and the baselines are trained with, behind one function.

Equation numbers refer to the VSCG paper unless another paper is named. Data and the optimiser are not handled here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from streamav.errors import SettingsError
from streamav.networks.options import refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamav.networks.heads import LocalizerOutput
    from streamav.networks.options import Supervision
    from streamav.training.fit.targets import Targets

__all__ = ["LossName", "LossOptions", "LossTerms", "avps_loss", "background_contrast", "loss", "loss_terms", "mean_over", "term_counts"]

LossName = Literal["npf", "ce", "ce_avps", "bce", "smooth", "soft_margin", "cmbs"]
_EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Name of the loss and weights of its terms.

    Raises:
        SettingsError: for an unknown loss or a weight out of range.
    """

    loss: LossName = "npf"
    """npf: negative pair filter. ce: cross-entropy of the segments. ce_avps: PSP-Net's loss. bce and smooth: for weak supervision.
    soft_margin: AVEL's loss. cmbs: CMBS's loss for full supervision."""
    segment_weight: float = 1.0
    """Weight of the per-segment head's cross-entropy in npf; the paper has no such term (0)."""
    avps_weight: float = 100.0
    """Weight of the agreement term in npf and ce_avps; 1 in the authors' npf."""
    smooth_lambda: float = 2.0
    """Weight of BCE(p) against BCE(h) in smooth (Eq. 19)."""
    label_smoothing: float = 0.0
    """Share of every cross-entropy target that is spread over all classes, at least 0 and below 1."""
    contrast_weight: float = 0.0
    """Weight of the background-event contrast; above 0 it needs `VSCGOptions.background_contrast`."""
    contrast_temperature: float = 0.01
    """Temperature of the background-event contrast. Source: Brain-Cog-Lab/CACE-Net CACE/supv_main.py:222."""

    def __post_init__(self) -> None:
        """Check every field."""
        if self.loss not in get_args(LossName):
            msg = f"loss must be one of {', '.join(get_args(LossName))}, got {self.loss!r}"
            raise SettingsError(msg)
        for name in ("segment_weight", "avps_weight", "smooth_lambda", "contrast_weight"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                msg = f"{name} must be at least 0, got {getattr(self, name)}"
                raise SettingsError(msg)
        if not 0.0 <= self.label_smoothing < 1.0 or not 0.0 < self.contrast_temperature < float("inf"):
            msg = (
                "label_smoothing must be at least 0 and below 1 and contrast_temperature above 0, "
                f"got {self.label_smoothing} and {self.contrast_temperature}"
            )
            raise SettingsError(msg)

    @classmethod
    def corrected(cls, supervision: Supervision = "fully") -> LossOptions:
        """Return the loss for the corrected network."""
        return cls() if supervision == "fully" else cls(loss="smooth")

    @classmethod
    def reference(cls, supervision: Supervision = "fully") -> LossOptions:
        """Return the loss of the authors' code. Source: Bravo5542/VSCG fully_supervised_main.py:91-94, weakly_supervised_main.py:96-99."""
        return cls(segment_weight=0.0, avps_weight=1.0) if supervision == "fully" else cls(loss="smooth")

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> LossOptions:
        """Build options from plain values.

        Raises:
            SettingsError: for an unknown key; the message names the nearest option.
        """
        refuse_unknown(values, [field.name for field in fields(cls)], "the loss")
        return cls(**values)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class LossTerms:
    """A loss and its terms."""

    total: Tensor
    """The loss that is minimised, () float32."""
    parts: dict[str, Tensor]
    """Each weighted term by name, detached; they sum to the total."""


def loss(output: LocalizerOutput, targets: Targets, options: LossOptions) -> LossTerms:
    """Compute the loss of a network's output against its targets.

    Raises:
        SettingsError: when the network lacks an output that the loss needs.
    """
    terms = loss_terms(output, targets, options)
    total = torch.stack(list(terms.values())).sum()
    return LossTerms(total, {name: term.detach() for name, term in terms.items()})


def loss_terms(output: LocalizerOutput, targets: Targets, options: LossOptions) -> dict[str, Tensor]:
    """Return each weighted term of the loss, () float32, with its gradient; the terms sum to the loss.

    Raises:
        SettingsError: when the network lacks an output that the loss needs.
    """
    terms = _LOSSES[options.loss](output, targets, options)
    if options.contrast_weight > 0:
        pairs = _need(output.contrast, "contrast (set background_contrast, and train mode)", options)
        terms["contrast"] = options.contrast_weight * background_contrast(pairs, targets.relevance, options.contrast_temperature)
    return terms


def term_counts(targets: Targets) -> Tensor:
    """Return the number of windows of three kinds, (3,): all, those of exactly one class, and those that count for the AVPS term.

    Each term of the loss is a mean over the windows of one of these kinds (see `mean_over`).
    """
    single = targets.window_class.sum(dim=1).round().sum()
    return torch.stack([torch.full_like(single, len(targets.relevance)), single, targets.avps_weight.sum()])


def mean_over(term: str) -> int:
    """Return the index in `term_counts` of the windows that a term of the loss is a mean over."""
    return {"window_class": 1, "modality_class": 1, "avps": 2}.get(term, 0)


def avps_loss(similarity: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the mean squared error of each segment's share of the agreement, over the windows of weight 1; 0 if there is none.

    Args:
        similarity: (B, T), -1 to 1.
        target: (B, T), rows sum to 1.
        weight: (B,), 1 or 0.

    Source: Zhou et al., CVPR 2021 (PSP), Eq. 8-9; Bravo5542/VSCG measure.py:32-41.
    """
    positive = torch.relu(similarity)
    shares = positive / (positive.sum(dim=1, keepdim=True) + _EPS)
    errors = (shares - target).square().mean(dim=1)
    return (errors * weight).sum() / weight.sum().clamp(min=1.0)


def background_contrast(pairs: Tensor, relevance: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss of the segments of each window.

    The positives of an event segment are all event segments in both views. The positive of a background segment is its own other view.

    Args:
        pairs: (2, B, T, D) unit vectors of two views, plain and disturbed.
        relevance: (B, T), 1 for event segments, else 0.
        temperature: above 0; a smaller value sharpens the softmax.

    Source: CACE-Net (ACM MM 2024), Brain-Cog-Lab/CACE-Net CACE/supv_main.py:199-239: minus the log of the mean, over the
    positives, of the softmax over all other vectors of the window.
    """
    views = torch.cat([pairs[0], pairs[1]], dim=1)  # (B, 2T, D)
    logits = torch.bmm(views, views.transpose(1, 2)) / temperature
    length = relevance.shape[1]
    events = torch.cat([relevance, relevance], dim=1)
    same = torch.eye(length, device=logits.device).repeat(2, 2)
    itself = torch.eye(2 * length, device=logits.device)
    positive = ((events.unsqueeze(2) * events.unsqueeze(1) + same) > 0) & (itself == 0)
    others = logits.masked_fill(itself > 0, float("-inf"))
    of_positives = logits.masked_fill(~positive, float("-inf"))
    log_mean = torch.logsumexp(of_positives, dim=2) - positive.sum(dim=2).log()
    return (torch.logsumexp(others, dim=2) - log_mean).mean()


def _npf(output: LocalizerOutput, targets: Targets, options: LossOptions) -> dict[str, Tensor]:
    """Compute the negative pair filter loss (Eq. 17-18), with a term for the per-segment head that the paper does not have."""
    relevance = _need(output.relevance_logits, "relevance_logits", options)
    terms = {
        "relevance": functional.binary_cross_entropy_with_logits(relevance, targets.relevance),
        "window_class": _window_class(_need(output.class_logits, "class_logits", options), targets, options),
    }
    if options.segment_weight > 0:
        terms["segment"] = options.segment_weight * _segment(output, targets, options)
    if options.avps_weight > 0:
        terms["avps"] = _avps(output, targets, options)
    return terms


def _ce(output: LocalizerOutput, targets: Targets, options: LossOptions) -> dict[str, Tensor]:
    """Compute the cross-entropy over C + 1 classes in every segment (Table V)."""
    return {"segment": _segment(output, targets, options)}


def _ce_avps(output: LocalizerOutput, targets: Targets, options: LossOptions) -> dict[str, Tensor]:
    """Compute PSP-Net's loss (Table V). Source: jasongief/PSP_CVPR_2021 fully_supervised_main.py:84-87."""
    return {"segment": _segment(output, targets, options), "avps": _avps(output, targets, options)}


def _bce(output: LocalizerOutput, targets: Targets, options: LossOptions) -> dict[str, Tensor]:
    """Compute the binary cross-entropy of the window's probabilities (Table V, weakly supervised)."""
    return {"video": functional.binary_cross_entropy(_need(output.video_probabilities, "video_probabilities", options), targets.video)}


def _smooth(output: LocalizerOutput, targets: Targets, options: LossOptions) -> dict[str, Tensor]:
    """Compute the smooth loss (Eq. 19-21): lambda BCE(p) + BCE(softmax(p)); the softmax is of the probabilities p, as in the paper."""
    video = _need(output.video_probabilities, "video_probabilities", options)
    return {
        "video": options.smooth_lambda * functional.binary_cross_entropy(video, targets.video),
        "smoothed": functional.binary_cross_entropy(torch.softmax(video, dim=-1), targets.video),
    }


def _soft_margin(output: LocalizerOutput, targets: Targets, options: LossOptions) -> dict[str, Tensor]:
    """Compute the loss of AVEL and of weakly supervised CMBS: multi-label soft margin on probabilities.

    Source: YapengTian/AVE-ECCV18 supervised_main.py:65, weak_supervised_main.py:61; marmot-xy/CMBS weakly_main.py:91.
    """
    if output.video_probabilities is not None:
        return {"video": functional.multilabel_soft_margin_loss(output.video_probabilities, targets.video)}
    segments = torch.softmax(_need(output.segment_logits, "segment_logits", options), dim=-1)
    return {"segment": functional.multilabel_soft_margin_loss(segments, targets.segment_class)}


def _cmbs(output: LocalizerOutput, targets: Targets, options: LossOptions) -> dict[str, Tensor]:
    """Compute CMBS's fully supervised loss. Source: marmot-xy/CMBS supv_main.py:177-183.

    The gate is a product of sigmoids, and its loss applies another sigmoid. This stays as in the authors' code, because Table IV keeps
    the settings of the host network.
    """
    relevance = _need(output.relevance_logits, "relevance_logits", options)
    gate = _need(output.gate, "gate", options)
    return {
        "relevance": functional.binary_cross_entropy_with_logits(relevance, targets.relevance),
        "gate": functional.binary_cross_entropy_with_logits(gate, targets.relevance),
        "window_class": _window_class(_need(output.class_logits, "class_logits", options), targets, options),
        "modality_class": _window_class(_need(output.modality_logits, "modality_logits", options), targets, options),
    }


def _window_class(logits: Tensor, targets: Targets, options: LossOptions) -> Tensor:
    """Compute the cross-entropy of the window's class over the windows that have exactly one; 0 if there is none."""
    each = functional.cross_entropy(logits, targets.window_class, reduction="none", label_smoothing=options.label_smoothing)
    single = targets.window_class.sum(dim=1).round()  # label smoothing would give the other windows a target
    return (each * single).sum() / single.sum().clamp(min=1.0)


def _segment(output: LocalizerOutput, targets: Targets, options: LossOptions) -> Tensor:
    """Compute the cross-entropy over C + 1 classes, as a mean over segments."""
    logits = _need(output.segment_logits, "segment_logits", options)
    return functional.cross_entropy(logits.flatten(0, 1), targets.segment_class.flatten(0, 1), label_smoothing=options.label_smoothing)


def _avps(output: LocalizerOutput, targets: Targets, options: LossOptions) -> Tensor:
    similarity = _need(output.similarity, "similarity", options)
    return options.avps_weight * avps_loss(similarity, targets.avps, targets.avps_weight)


def _need(value: Tensor | None, name: str, options: LossOptions) -> Tensor:
    if value is None:
        msg = f"loss {options.loss} needs the output {name}, which this network does not have; choose another loss or supervision"
        raise SettingsError(msg)
    return value


_LOSSES: dict[LossName, Callable[[LocalizerOutput, Targets, LossOptions], dict[str, Tensor]]] = {
    "npf": _npf,
    "ce": _ce,
    "ce_avps": _ce_avps,
    "bce": _bce,
    "smooth": _smooth,
    "soft_margin": _soft_margin,
    "cmbs": _cmbs,
}
