"""Makes the targets of a batch of labelled windows: the right answer for each output of a network.

Labels are integers, one for each segment; C is background. Files and networks are not handled here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from streamav.errors import DataError

__all__ = ["AvpsTarget", "TargetMaker", "TargetOptions", "Targets", "WeakTarget"]

AvpsTarget = Literal["clean", "stale"]
WeakTarget = Literal["mil", "proportion"]


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """How targets are made from labels."""

    avps_target: AvpsTarget = "clean"
    """clean: 0 on background segments. stale: as in the authors' code, with leftovers of earlier batches (bug B1)."""
    weak_target: WeakTarget = "mil"
    """mil: the tags of the window. proportion: the share of each class in the window, which reveals the events' durations (bug B15)."""
    multi_label: bool = False
    """True spreads the target of a clip that is annotated with several classes evenly over these classes."""

    @classmethod
    def reference(cls) -> TargetOptions:
        """Return the options that make the targets of the authors' code."""
        return cls(avps_target="stale", weak_target="proportion")


@dataclass(frozen=True, eq=False, kw_only=True)
class Targets:
    """The right answers for B windows of T segments and C classes; all float32."""

    relevance: Tensor
    """(B, T): 1 where the segment is an event, else 0."""
    window_class: Tensor
    """(B, C): distribution of the window's event class, rows sum to 1; all 0 for a window without exactly one class."""
    segment_class: Tensor
    """(B, T, C + 1): distribution of each segment's class, background last, rows sum to 1."""
    avps: Tensor
    """(B, T): share of the window's agreement that each segment should have; clean rows sum to 1, or to 0 without an event."""
    avps_weight: Tensor
    """(B,): 1 for windows that count for the AVPS term, else 0."""
    video: Tensor
    """(B, C + 1): classes of the whole window, for the weakly supervised losses; each entry 0 to 1."""


class TargetMaker:
    """Makes the targets of one batch after another; it keeps a state only if `avps_target` is stale."""

    def __init__(self, classes: int, options: TargetOptions | None = None) -> None:
        """Set the number of classes C and the options (None for the defaults)."""
        self.classes = classes
        self.options = TargetOptions() if options is None else options
        self.leftover = torch.zeros(0, 0)
        """AVPS targets of earlier batches if `avps_target` is stale; not saved: the trainer makes a new `TargetMaker` in each epoch."""

    def __call__(self, labels: Tensor, tags: Tensor | None = None) -> Targets:
        """Return the targets of one batch.

        Args:
            labels: (B, T) int64, 0 to C, where C is background.
            tags: (B, C + 1), above 0 for every class the clip is tagged with; None derives them from the labels.

        Raises:
            DataError: when a label is out of range or the shapes do not fit.
        """
        self._check(labels, tags)
        classes = self.classes
        segment_class = functional.one_hot(labels, classes + 1).float()
        relevance = (labels < classes).float()
        present = segment_class.amax(dim=1)[:, :classes]  # (B, C): 1 for every class with a segment
        video = self._video(segment_class, relevance, tags)
        single = (present.sum(dim=1, keepdim=True) == 1).float()
        window_class = present * single
        if self.options.multi_label and tags is not None:
            spread = ((present + tags[:, :classes].float()) > 0).float()
            spread = spread / spread.sum(dim=1, keepdim=True).clamp(min=1.0)
            window_class = spread * single
            shared = torch.cat([spread, torch.zeros_like(spread[:, :1])], dim=1).unsqueeze(1) * relevance.unsqueeze(2)
            # Only for clips with a single event class: segments of clips with several classes already have their own labels.
            segment_class = torch.where((single.unsqueeze(2) * relevance.unsqueeze(2)) > 0, shared, segment_class)
        events = relevance.sum(dim=1, keepdim=True)
        avps, weight = relevance / events.clamp(min=1.0), (events.squeeze(1) > 0).float()
        if self.options.avps_target == "stale":
            avps, weight = self._leftover(avps, events), torch.ones_like(weight)
            # For a window without an event, the authors' code uses class 0.
            window_class = torch.where(events > 0, window_class, functional.one_hot(torch.zeros_like(labels[:, 0]), classes).float())
        return Targets(
            relevance=relevance, window_class=window_class, segment_class=segment_class, avps=avps, avps_weight=weight, video=video
        )

    def _video(self, segment_class: Tensor, relevance: Tensor, tags: Tensor | None) -> Tensor:
        """Return the target of the whole window, (B, C + 1)."""
        if self.options.weak_target == "proportion":
            return segment_class.mean(dim=1)
        if tags is not None:
            return (tags > 0).float()
        present = segment_class.amax(dim=1)
        background = 1.0 - relevance.amax(dim=1, keepdim=True)  # tagged as background only without any event
        return torch.cat([present[:, : self.classes], background], dim=1)

    def _leftover(self, avps: Tensor, events: Tensor) -> Tensor:
        """Write the batch into the buffer as the authors' loader does, and return it: only event segments are written (bug B1).

        Source: Bravo5542/VSCG dataloader.py:51-66. A window without an event writes 1 / T to all segments.
        """
        if self.leftover.shape[0] < avps.shape[0] or self.leftover.shape[1] != avps.shape[1]:
            self.leftover = torch.zeros_like(avps)
        rows = self.leftover[: avps.shape[0]]
        written = torch.where(events > 0, avps, torch.full_like(avps, 1.0 / avps.shape[1]))
        rows.copy_(torch.where(written > 0, written, rows))
        return rows.clone()

    def _check(self, labels: Tensor, tags: Tensor | None) -> None:
        """Raise DataError unless labels and tags have the right type, shape and range."""
        if labels.ndim != 2 or labels.dtype != torch.int64:  # noqa: PLR2004 - B, T
            msg = f"labels must be int64 (B, T), got {labels.dtype} {tuple(labels.shape)}"
            raise DataError(msg)
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high > self.classes:
            msg = f"labels must lie in 0 to {self.classes} ({self.classes} is background), got {low} to {high}"
            raise DataError(msg)
        if tags is not None and tuple(tags.shape) != (labels.shape[0], self.classes + 1):
            msg = f"tags must be ({labels.shape[0]}, {self.classes + 1}), got {tuple(tags.shape)}"
            raise DataError(msg)
