"""The front end and the evidence as torch modules, so that they can be exported as ONNX beside the four networks.

`features.logmel` and `evidence` are what a run computes; these modules compute the same, and a test compares both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from streamav.evidence import (
    CAUTION,
    FAINT_HEARD,
    FAINT_SEEN,
    HEARD_FROM,
    HEARD_STEP,
    LARGEST_LOGIT,
    LEAST_ANSWER,
    LEAST_HEARD,
    LEAST_SEEN,
    MOST_ANSWER,
    MOST_CORRECTED,
    MOST_SENSED,
    OWN_ARRAY,
    TWO_VIEWS,
    EvidenceParts,
    LabelEvidence,
)
from streamav.features.level import MOST_GAIN_DB
from streamav.features.logmel import FFT_SAMPLES, FRAME_SAMPLES, HOP_SAMPLES, PATCH_FRAMES, LogMelOptions, hann, mel_bank
from streamav.features.motion import BLOCKS, CELLS, FAINT_MOTION, MOVING_CELLS, USUAL_MOTION

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Evidence", "LogMel", "Motion"]

_NOTHING = -1e30
"""Stands for the logits of classes that a label does not use: never the largest."""


class LogMel(nn.Module):
    """Computes the log-mel patch of a segment; the Fourier transform is a convolution, which every runtime has."""

    def __init__(self, options: LogMelOptions) -> None:
        super().__init__()
        self.options = options
        turns = 2.0 * np.pi * np.outer(np.arange(FFT_SAMPLES // 2 + 1), np.arange(FRAME_SAMPLES)) / FFT_SAMPLES
        waves = np.concatenate([np.cos(turns) * hann(), np.sin(turns) * hann()])
        self.register_buffer("waves", torch.tensor(waves[:, None], dtype=torch.float32))
        self.register_buffer("bank", torch.tensor(mel_bank(), dtype=torch.float32))

    def forward(self, samples: Tensor) -> Tensor:
        """Return the patches (B, 96, 64) of samples (B, 16000)."""
        both = nn.functional.conv1d(samples[:, None], self.get_buffer("waves"), stride=HOP_SAMPLES)[..., :PATCH_FRAMES]
        real, imaginary = both.chunk(2, dim=1)
        magnitude = torch.sqrt(real * real + imaginary * imaginary).transpose(1, 2)
        mel = magnitude @ self.get_buffer("bank")
        return torch.log(mel * self._gain(samples) + self.options.offset)

    def _gain(self, samples: Tensor) -> Tensor:
        """Return what `features.level.gain_of` returns, shape (B, 1, 1), or (1,) without a least level."""
        if self.options.least_dbfs is None:
            return torch.ones(1)
        # Any factor leaves silence as it is, so its power must only not be 0.
        power = (samples * samples).mean(-1)[:, None, None].clamp_min(torch.finfo(torch.float32).tiny)
        missing: Tensor = 10.0 ** (self.options.least_dbfs / 20.0) / torch.sqrt(power)
        return missing.clamp(1.0, 10.0 ** (MOST_GAIN_DB / 20.0))


class Motion(nn.Module):
    """Computes the motion inside segments (`features.motion`) of two pictures or more, at least 28 pixels high and wide."""

    def __init__(self, picture: tuple[int, int]) -> None:
        """Take height and width of the pictures: sizes of windows must be known when the file is written."""
        super().__init__()
        self.block = picture[0] // BLOCKS, picture[1] // BLOCKS

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the motion (B,) of pictures (B, F, h, w, 3), uint8."""
        tall, wide = self.block
        cut = pictures[:, :, : BLOCKS * tall, : BLOCKS * wide].float().mean(-1)
        grey = nn.functional.avg_pool2d(cut, (tall, wide))
        moved = torch.abs(grey[:, 1:] - grey[:, :-1]).mean(1, keepdim=True)
        cells = nn.functional.avg_pool2d(moved, BLOCKS // CELLS).flatten(1)
        ranked = torch.topk(cells, CELLS * CELLS, dim=-1).values
        most, usual = ranked[:, :MOVING_CELLS].mean(-1), ranked[:, CELLS * CELLS // 2]
        return torch.log((most + FAINT_MOTION) / (usual + FAINT_MOTION)) - USUAL_MOTION


class Evidence(nn.Module):
    """Computes the probabilities of the labels from the encoders' class scores and the network's answer, for windows of T segments."""

    def __init__(self, evidence: LabelEvidence, heard: int, seen: int) -> None:
        """Take the parts of the formula; *heard* and *seen* are the numbers of the encoders' classes."""
        super().__init__()
        parts = evidence.parts
        self.card, self.sounds = parts.card, torch.tensor(parts.sound)
        self.columns = parts.columns
        arrays = {name: torch.tensor(parts.arrays[name]) for name in ("probes.weight", "probes.bias", "drawn.weight", "drawn.bias")}
        tables = {
            "heard": _mask(parts.heard, heard),
            "seen": _mask(parts.seen, seen),
            "probed": _mask(parts.probed, len(parts.arrays["probes.bias"])),
            "offsets": torch.tensor(parts.offsets),
            "shares": torch.tensor(parts.shares, dtype=torch.float32),
            "means": torch.tensor([[0.0 if one is None else one.mean for one in pair] for pair in parts.views]),
            "deviations": torch.tensor([[1.0 if one is None else one.deviation for one in pair] for pair in parts.views]),
            "there": torch.tensor([[0.0 if one is None else 1.0 for one in pair] for pair in parts.views]),
            "corrections": torch.tensor(_rows(parts, heard + seen + 1)),
        }
        self.own, self.twins = list(parts.own), parts.twins
        for name, value in {**{key.replace(".", "_"): one for key, one in arrays.items()}, **tables}.items():
            self.register_buffer(name, value)

    def forward(self, heard: Tensor, seen: Tensor, grid: Tensor, motion: Tensor, answer: Tensor) -> Tensor:
        """Return the probabilities (B, T, columns + 1), background last.

        Args:
            heard: class scores of the sound, 0 to 1, shape (B, T, H).
            seen: class scores of the picture, 0 to 1, shape (B, T, K).
            grid: visual features, shape (B, T, G, G, V).
            motion: motion inside the segments, shape (B, T).
            answer: segment logits of localize_window, shape (B, T, C + 1).
        """
        card, network = self.card, torch.softmax(answer, dim=-1)
        labels = self._heard(heard)
        before, after = torch.cat([labels[:, :1], labels[:, :-1]], 1), torch.cat([labels[:, 1:], labels[:, -1:]], 1)
        peak = torch.maximum(labels, torch.maximum(before, after))
        sound, mean = card.heard * labels + card.heard_peak * peak, _smoothed(self._seen(seen, grid))
        picture = card.seen * mean + card.motion * _smoothed(motion[..., None])
        both = card.bias + sound + picture + card.heard_and_seen * _heard_and_seen(labels, mean)
        alone = card.sound_bias + card.sound_scale * sound
        logits = torch.where(self.sounds, alone, both) + self.get_buffer("offsets")
        if self.own:
            logits = logits + self._corrections(heard, seen)
        logs = torch.log(torch.clamp(network, min=float(LEAST_ANSWER)))
        network_logits = torch.clamp(logs[..., :-1] - logs[..., -1:], -float(MOST_ANSWER), float(MOST_ANSWER))
        logits = logits + float(card.network) * network_logits @ self._takers(network.shape[-1] - 1)
        return self._probabilities(logits, network, self._drawn(grid))

    def _takers(self, classes: int) -> Tensor:
        """Return which labels take the network's answer for which class, shape (C, labels)."""
        takers = torch.eye(classes, len(self.sounds))
        for place, label in self.twins:
            if label < classes:
                takers[label, place] = 1.0
        return torch.where(self.sounds, 0.0, takers)

    def _corrections(self, heard: Tensor, seen: Tensor) -> Tensor:
        """Return what own labels learned from clips, shape (B, T, labels)."""
        tones = torch.cat([torch.log(heard + FAINT_HEARD), torch.log(seen + FAINT_SEEN)], -1)
        weights = self.get_buffer("corrections")
        found = torch.clamp(_smoothed(tones @ weights[:, :-1].T + weights[:, -1]), -MOST_CORRECTED, MOST_CORRECTED)
        return found @ torch.eye(len(self.sounds))[self.own]

    def _heard(self, scores: Tensor) -> Tensor:
        clipped = torch.clamp(scores, LEAST_HEARD, 1.0 - LEAST_HEARD)
        logits = torch.log(clipped) - torch.log1p(-clipped)
        return torch.amax(torch.where(self.get_buffer("heard"), logits[..., None, :], _NOTHING), -1)

    def _seen(self, scores: Tensor, grid: Tensor) -> Tensor:
        cells = grid.flatten(2, 3) @ self.get_buffer("probes_weight").T + self.get_buffer("probes_bias")
        probes = torch.amax(torch.where(self.get_buffer("probed"), torch.amax(cells, 2)[..., None, :], _NOTHING), -1)
        classes = torch.log(scores @ self.get_buffer("seen").to(scores.dtype).T + LEAST_SEEN)
        there = self.get_buffer("there")
        views = (torch.stack([classes, probes], -1) - self.get_buffer("means")) / self.get_buffer("deviations")
        total = torch.where(there > 0, views, 0.0).sum(-1)
        return total / torch.where(there.sum(-1) > 1, TWO_VIEWS, 1.0)

    def _drawn(self, grid: Tensor) -> Tensor:
        return torch.sigmoid(grid.mean((2, 3)) @ self.get_buffer("drawn_weight")[0] + self.get_buffer("drawn_bias")[0])

    def _probabilities(self, logits: Tensor, network: Tensor, drawn: Tensor) -> Tensor:
        odds = torch.exp(torch.clamp(logits, -LARGEST_LOGIT, LARGEST_LOGIT))
        shares = odds[..., self.columns] / (1.0 + odds @ self.get_buffer("shares"))
        classes = network.shape[-1] - 1
        untaught = torch.tensor([label in self.own and label >= classes for label in self.columns])
        part = torch.where(self.sounds[self.columns] | untaught, 0.0, drawn[..., None])
        lowered = network[..., :-1] * float(np.exp(-CAUTION))
        careful = torch.cat([lowered, network[..., -1:]], -1)
        careful = careful / torch.clamp(careful.sum(-1, keepdim=True), min=float(LEAST_ANSWER))
        taught = torch.cat([careful[..., :-1], torch.zeros_like(careful[..., :1])], -1)
        shares = (1.0 - part) * shares + part * taught[..., [min(label, classes) for label in self.columns]]
        seen = sorted({label for label in self.columns if not bool(self.sounds[label])})
        relevance = odds[..., seen].sum(-1) / (1.0 + (odds * (~self.sounds).to(odds.dtype)).sum(-1))
        relevance = (1.0 - drawn) * relevance + drawn * (1.0 - careful[..., -1])
        return torch.clamp(torch.cat([shares, torch.clamp(1.0 - relevance, min=0.0)[..., None]], -1), max=1.0)


def _rows(parts: EvidenceParts, width: int) -> NDArray[np.float32]:
    """Return the weights of own labels' corrections, shape (own labels, width); no row where there is none."""
    return parts.arrays[OWN_ARRAY][list(parts.own.values())] if parts.own else np.zeros((0, width), np.float32)


def _mask(places: list[tuple[int, ...]], size: int) -> Tensor:
    """Return which of *size* classes belong to each label, shape (labels, size)."""
    mask = torch.zeros(len(places), size, dtype=torch.bool)
    for row, some in enumerate(places):
        mask[row, list(some)] = True
    return mask


def _heard_and_seen(heard: Tensor, seen: Tensor) -> Tensor:
    """Return what `streamav.evidence.heard_and_seen` returns."""
    return torch.clamp((heard - HEARD_FROM) / HEARD_STEP, 0.0, MOST_SENSED) * torch.clamp(seen, 0.0, MOST_SENSED)


def _smoothed(rows: Tensor) -> Tensor:
    """Return the mean over each segment and its neighbours; a segment at an end has one."""
    around = nn.functional.avg_pool1d(rows.transpose(1, 2), 3, stride=1, padding=1, count_include_pad=False)
    return around.transpose(1, 2)
