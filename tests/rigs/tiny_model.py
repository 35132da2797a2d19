"""Writes a bundle of the compact networks with random weights and a narrow localizer, in a short time."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from streamav.bundle import AudioCard, Bundle, ClassEntry, DetectionCard, LocalizerCard, ModelCard, VisualCard, write_bundle

__all__ = ["make_tiny_bundle"]


def make_tiny_bundle(folder: Path, supervision: str) -> Bundle:
    """Write the bundle; *supervision* is "fully" or "weakly"."""
    import torch

    from streamav.networks.compact import CompactAudio, CompactVisual
    from streamav.networks.options import VSCGOptions
    from streamav.networks.vscg import VSCG

    torch.manual_seed(1)
    options = VSCGOptions.corrected(
        "weakly" if supervision == "weakly" else "fully",
        audio_size=16, visual_size=24, grid=7, classes=3, hidden=16, attention_size=16, front_size=16, head_size=16,
    )  # fmt: skip
    modules = {"audio": CompactAudio(16), "visual": CompactVisual(24), "localizer": VSCG(options)}
    tensors = {
        f"{part}.{name}": value.numpy()
        for part, module in modules.items()
        for name, value in module.state_dict().items()
        if value.is_floating_point()
    }
    card = ModelCard(
        name="tiny",
        version="1",
        profile="custom",
        classes=tuple(ClassEntry(slug=slug, name=slug) for slug in ("bark", "bell", "train")),
        audio=AudioCard(network="compact_audio", log_mel_offset=0.001, size=16),
        visual=VisualCard(network="compact_visual", picture=(112, 112), frames_per_second=4, size=24, grid=7),
        localizer=LocalizerCard(options=asdict(options)),
        detection=DetectionCard(on=0.5, off=0.5),
        licence_note="Random numbers.",
    )
    return write_bundle(folder, card, tensors)
