"""Builds the model card of the paper's network: AVE's 28 classes, VGGish and VGG-19 features, imported or trained weights.

It holds the paper's settings and reads no weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.bundle.card import AudioCard, DetectionCard, LocalizerCard, ModelCard, TrainingData, VisualCard
from streamav.bundle.classes import AVE_CLASSES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

__all__ = ["imported_card", "paper_networks"]

AUTHORS_NOTE = (
    "Weights of the authors of VSCG (arXiv 2210.05242), published without a licence: use them for your own research and "
    "do not redistribute them. The encoders are not part of this bundle and have their own licences."
)
_AVE = TrainingData(
    name="AVE",
    source="https://github.com/YapengTian/AVE-ECCV18",
    licence="none stated; YouTube videos (AudioSet)",
    note="as the authors trained it; the published weights were chosen by test accuracy",
)


def paper_networks() -> tuple[AudioCard, VisualCard]:
    """Return the encoders of AVE's published features: VGGish and VGG-19 pool5, both external."""
    audio = AudioCard(network="vggish", log_mel_offset=0.01, size=128, external=True)
    visual = VisualCard(network="vgg19", picture=(224, 224), frames_per_second=16, size=512, grid=7, external=True)
    return audio, visual


def imported_card(name: str, options: Mapping[str, JsonValue], checkpoint_sha256: str) -> ModelCard:
    """Build the card of an imported checkpoint of the authors.

    Args:
        name: name of the bundle.
        options: `VSCGOptions.reference(...)` as a dictionary.
        checkpoint_sha256: SHA-256 of the imported file; its first 12 digits become part of the version.
    """
    audio, visual = paper_networks()
    # 0.7 is the paper's threshold on relevance (section III-E); the other values are not tuned on streams. No event of AVE is shorter
    # than 2 s, so two segments confirm an event.
    fully = options.get("supervision") == "fully"
    detection = DetectionCard(on=0.7 if fully else 0.5, off=0.5 if fully else 0.3, min_segments=2, gap_segments=1, latency_segments=1)
    return ModelCard(
        name=name,
        version=f"authors-{options.get('supervision')}-{checkpoint_sha256[:12]}",
        profile="paper",
        classes=AVE_CLASSES,
        audio=audio,
        visual=visual,
        localizer=LocalizerCard(options=dict(options)),
        detection=detection,
        training_data=(_AVE,),
        licence_note=AUTHORS_NOTE,
    )
