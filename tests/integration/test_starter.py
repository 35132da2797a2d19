"""Tests of the models in the package, as a user gets them."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import numpy as np
import pytest
from rigs.found_spans import FoundSpans

from streamav import app
from streamav.bundle import find_bundle
from streamav.capture.scene import make_script
from streamav.config import ModelSettings, Settings, SourceSettings
from streamav.engines import open_engine
from streamav.evaluation.recordings import read_labels
from streamav.features.audio import patches
from streamav.features.logmel import log_mel_options
from streamav.offline import segments_of

pytestmark = pytest.mark.slow  # loads the real networks

REAL = ("clip_011.mp4", "clip_081.mp4", "clip_100.mp4", "clip_117.mp4", "clip_153.mp4", "clip_167.mp4")
"""Six recordings: helicopter, speech, train, car engine, dog, bird."""


def test_the_bundle_is_whole_and_small() -> None:
    """The packaged model is complete, takes at most 12 MB, and its card names the training data and the permitted use."""
    bundle = find_bundle("starter")

    size = sum(file.stat().st_size for file in Path(bundle.path).iterdir())
    assert size <= 12_000_000
    assert all(bundle.weights(part) for part in ("audio", "visual", "localizer"))
    assert len(bundle.card.classes) == 24
    assert bundle.card.training_data
    assert "non-commercial" in bundle.card.licence_note


def test_edge_is_a_localizer_alone() -> None:
    """The packaged edge model is complete and small, names its public encoders without holding them, and names the permitted use."""
    bundle = find_bundle("edge")

    assert sum(file.stat().st_size for file in Path(bundle.path).iterdir()) <= 8_000_000
    assert bundle.card.profile == "edge"
    assert (bundle.card.audio.network, bundle.card.visual.network) == ("yamnet", "efficientnet_lite0")
    assert bundle.card.audio.external
    assert bundle.card.visual.external
    assert not bundle.weights("audio")
    assert bundle.weights("localizer")
    assert bundle.card.slugs == find_bundle("starter").card.slugs
    assert "non-commercial" in bundle.card.licence_note


def test_the_embedded_scene_is_understood() -> None:
    """Every event of the embedded scene is found with its label over at least half of its time, and no other event is found."""
    found = FoundSpans()
    settings = Settings(source=SourceSettings(scene=True, speed="max", duration_s=60.0), model=ModelSettings(name="starter"))

    asyncio.run(app.run(app.build(settings, [found])))

    truth = make_script(60.0).truth
    assert [span.label for span in found.spans] == [label for label, _, _ in truth]
    for span, (_, onset_s, offset_s) in zip(found.spans, truth, strict=True):
        both = min(span.offset_s, offset_s) - max(span.onset_s, onset_s)
        assert both >= 0.5 * (max(span.offset_s, offset_s) - min(span.onset_s, onset_s))


@pytest.mark.parametrize("bars", ["640:640:0:140", "1138:360:249:0"])
def test_bars_around_a_real_recording_change_little(bars: str, shared_data: Path, tmp_path: Path) -> None:
    """A recording that someone put on a square, or on a much wider screen has the event that it has without the bars, and no other."""
    barred = tmp_path / "barred.mp4"
    pad = f"scale=640:360,pad={bars}:black"
    encoding = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "20", "-c:a", "copy")
    source = shared_data / "clips" / "clip_117.mp4"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(source), "-vf", pad, *encoding, str(barred)], check=True)
    found = FoundSpans()
    settings = Settings(source=SourceSettings(uri=str(barred), speed="max"), model=ModelSettings(name="starter"))
    asyncio.run(app.run(app.build(settings, [found])))
    assert {span.label for span in found.spans} == {"car_engine"}


def test_int8_from_drawn_samples_hears_real_recordings(shared_data: Path) -> None:
    """Drawn samples are as loud and as full as real sound: an int8 engine made from them gives the features of float32 on recordings."""
    bundle = find_bundle("starter")
    files = [shared_data / "clips" / name for name in ("clip_081.mp4", "clip_100.mp4", "clip_117.mp4")]
    segments = [segment for file in files for segment in segments_of(str(file), bundle.card, bundle.card.visual.frames_per_second)]
    sounds = patches(segments, log_mel_options(bundle.card.audio))
    exact, coarse = (
        open_engine(bundle, ModelSettings(name="starter", engine="cpu", precision=precision)).network("audio")(sounds)
        for precision in ("fp32", "int8")
    )
    for one, other in zip(exact, coarse, strict=True):
        assert np.linalg.norm(one - other) < 0.15 * np.linalg.norm(one)


def test_edge_names_what_is_heard_and_seen_on_real_recordings(shared_data: Path) -> None:
    """Composite training does not replace what the encoders know: edge names most real clips and invents no event."""
    clips = shared_data / "clips"
    truth = read_labels(clips / "labels.csv")
    named = false = 0
    for name in REAL:
        found = FoundSpans()
        model = ModelSettings(name="edge", weights_dir=shared_data / "weights")
        settings = Settings(source=SourceSettings(uri=str(clips / name), speed="max"), model=model)
        asyncio.run(app.run(app.build(settings, [found])))
        named += any(
            span.label == one.label and span.onset_s <= one.onset_s + 2.0 and span.offset_s > one.onset_s
            for span in found.spans
            for one in truth[name]
        )
        false += sum(span.label not in {one.label for one in truth[name]} for span in found.spans)
    assert named >= len(REAL) - 1
    assert false <= 1
