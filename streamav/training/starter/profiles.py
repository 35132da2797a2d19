"""Makes the models starter and edge from composite material, each with one command.

    python -m streamav.training.starter.profiles starter --data composite24 --work runs/profiles --out streamav/models/starter

The stages: encoders (starter: trained here, on the features and then on the class scores of public ones; edge: public ones), features
of composite clips in AVE's form, one VSCG for each seed with the same experiment as `streamav train`, thresholds on val streams, and
figures on test streams. The encoders and the features are kept in the work folder, and a stage is skipped if its result exists.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from streamav.bundle.catalogue import encoder_file
from streamav.errors import DataError, SettingsError
from streamav.evaluation.bootstrap import mean_and_deviation
from streamav.training.composite.folder import ClipCounts, FrozenEncoders, compose
from streamav.training.data.folder import AveOptions, open_ave
from streamav.training.experiments.experiment import Trained, planned, run_experiment, tested
from streamav.training.starter.card import MadeProfile, write_profile
from streamav.training.starter.components import components_of, lengthened, shortened
from streamav.training.starter.encoders import (
    PARTS,
    EncoderPlan,
    ScoreTeachers,
    held_encoders,
    make_encoders,
    score_teachers,
    state_file,
    teach_scores,
)
from streamav.training.starter.plans import PROFILES
from streamav.training.starter.profile_encoders import frozen_encoders
from streamav.training.streams.judge import StreamPlan, judge_on_streams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamav.networks.vscg import VSCG
    from streamav.training.data.folder import AveData
    from streamav.training.experiments.experiment import Experiment
    from streamav.training.fit.run_state import EpochRecord, StepReport

__all__ = ["ProfileRun", "make_profile", "score_teachers"]

_log = logging.getLogger(__name__)

CARD_ALARMS_PER_HOUR = 12.0
"""False alarms an hour of background that the card's thresholds may cause on val streams. Two thirds of the background there is
misleading on purpose; a camera at home has little such background. Figures are also given for the lower limit of the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRun:
    """Folders and amounts for making a profile; the defaults are those of the models in the package."""

    data: Path
    """Folder with index.csv."""
    out: Path
    """Folder of the bundle; replaced."""
    teachers: Path | None = None
    """Folder with yamnet.safetensors and mobilenetv2.safetensors; None for `weights` beside the data."""
    work: Path | None = None
    """Folder for intermediate results, about 12 GB; None for the bundle's folder with `.work` at its end."""
    score: ScoreTeachers | None = None
    """What the starter's encoders learn class scores from; None for encoders that know features only."""
    seeds: int = 5
    """Number of localizers to train; the best on val clips is kept, all are reported."""
    encoders: EncoderPlan = field(default_factory=EncoderPlan)
    """How the starter's encoders are made."""
    clips: ClipCounts = field(default_factory=ClipCounts)
    plain: ClipCounts = field(default_factory=lambda: ClipCounts(train=24, drawn=0, plain=True))
    """Clips without rooms, night, blur and similar changes, for more figures; the few training clips among them are not used."""
    changes: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Settings other than the profile's, by section: network, loss, train."""
    streams: StreamPlan = field(default_factory=StreamPlan)
    """Streams on which the profile is judged."""

    @property
    def folders(self) -> tuple[Path, Path]:
        """Return the teachers' folder and the work folder."""
        beside = self.out.with_name(f"{self.out.name}.work")
        return self.data.parent / "weights" if self.teachers is None else self.teachers, beside if self.work is None else self.work


def make_profile(profile: str, run: ProfileRun) -> None:
    """Make a profile's bundle; a stage is skipped if its result is in the work folder.

    Raises:
        DataError: when the index or the teachers' weights are missing.
        ModelError: when EfficientNet-Lite0's weights are missing, which teach the starter class scores.
        SettingsError: when there is no such profile.
    """
    if profile not in PROFILES:
        msg = f"a profile made of composite material must be one of {', '.join(PROFILES)}, got {profile!r}"
        raise SettingsError(msg)
    teachers, work = run.folders
    _need_teachers(profile, teachers, work, run.score)
    if profile == "starter":
        make_encoders(run.data, teachers, work, run.encoders)
        if run.score is not None:
            teach_scores(run.data, teachers, work, run.score, run.encoders)
    frozen = frozen_encoders(profile, teachers, work)
    folder = _composed(run, frozen, work / f"features-{profile}", run.clips)
    plain = _composed(run, frozen, work / f"features-{profile}-plain", run.plain)
    basis = components_of(folder, PROFILES[profile].components) if PROFILES[profile].components else None
    if basis is not None:
        folder, plain = shortened(folder, basis), shortened(plain, basis)
    experiment = _experiment(profile, folder, run.changes)
    outcome = run_experiment(folder, experiment, range(run.seeds), watcher=lambda _: _Log())
    judged = [judge_on_streams(one.network, folder, run.streams) for one in outcome.seeds]
    network = cast("VSCG", outcome.chosen.network)  # `_experiment` asks for a VSCG
    shipped = judge_on_streams(network, folder, replace(run.streams, alarms_per_hour=CARD_ALARMS_PER_HOUR))
    figures = {f"hard_streams_card_{name}": value for name, value in shipped.figures.items()}
    figures |= _over_seeds("hard_clips", [one.scores.to_dict() for one in outcome.seeds])
    figures |= _over_seeds("hard_streams", [one.figures for one in judged])
    trained = [Trained(seed=one.seed, network=one.network, result=one.result) for one in outcome.seeds]
    figures |= _over_seeds("plain_clips", [one.scores.to_dict() for one in tested(plain, experiment, trained).seeds])
    figures |= _over_seeds("plain_streams", [judge_on_streams(one.network, plain, run.streams).figures for one in outcome.seeds])
    _log.info("thresholds %s figures %s", shipped.thresholds, figures)
    held = held_encoders(work) if profile == "starter" else {}
    made = MadeProfile(
        profile=profile,
        audio=frozen.audio,
        visual=frozen.visual,
        encoders=held,
        network=network if basis is None else lengthened(network, basis),
        labels=[entry.slug for entry in folder.classes],
        thresholds=shipped.thresholds,
        latency_segments=shipped.latency,
        command=f"python -m streamav.training.starter.profiles {profile}",
        figures=figures,
    )
    write_profile(run.out, made)


def _experiment(profile: str, data: AveData, changes: Mapping[str, Mapping[str, object]]) -> Experiment:
    """Build the experiment from the profile's settings and the changes."""
    audio, visual = data.train.audio.shape, data.train.visual.shape
    sizes = {"audio_size": audio[2], "visual_size": visual[4], "grid": visual[2], "classes": len(data.classes)}
    plan = PROFILES[profile]
    settings = {name: {**getattr(plan, name), **changes.get(name, {})} for name in ("network", "loss", "train")}
    return planned("vscg", "fully", sizes, settings)


def _need_teachers(profile: str, teachers: Path, work: Path, score: ScoreTeachers | None) -> None:
    """Raise DataError or ModelError if the public weights are needed and missing."""
    made = profile == "starter" and all((work / "runs" / f"{name}.safetensors").exists() for name in ("audio", "visual"))
    for name in () if made else ("yamnet.safetensors", "mobilenetv2.safetensors"):
        if not (teachers / name).is_file():
            msg = f"the {profile} profile needs the public weights {name}, which must be in {teachers}, got no such file"
            raise DataError(msg)
    taught = all(state_file(work, part, scored=True).exists() for part in PARTS)
    if profile == "starter" and score is not None and score.picture is None and not taught:
        encoder_file("efficientnet_lite0", teachers)


def _composed(run: ProfileRun, frozen: FrozenEncoders, features: Path, clips: ClipCounts) -> AveData:
    """Compose a folder of clips if it is missing or incomplete, and open it."""
    compose(run.data, features, frozen, run.folders[1], clips, seed=0, progress=_say_clips)
    return open_ave(features, AveOptions())


def _over_seeds(prefix: str, figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return mean and standard deviation over the seeds, for each figure."""
    found: dict[str, float] = {}
    for name in figures[0]:
        mean, deviation = mean_and_deviation([one[name] for one in figures])
        found |= {f"{prefix}_{name}": mean, f"{prefix}_{name}_sd": deviation}
    return found


def _say_clips(done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        _log.info("composed %d of %d clips", done, total)


class _Log:
    """Logs every epoch."""

    def step(self, report: StepReport) -> None:
        """Log nothing for single steps."""

    def epoch(self, record: EpochRecord) -> None:
        """Log the loss, and the accuracy on the validation clips if it was measured."""
        scores = "" if record.validation is None else f" accuracy={record.validation['accuracy']:.4f} best={record.best}"
        _log.info("epoch=%d loss=%.3f%s", record.epoch, record.loss, scores)


def main() -> None:
    """Read the command line, and make the profile or one encoder; log to standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", choices=sorted(PROFILES))
    parser.add_argument("--data", type=Path, required=True, help="folder with index.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--teachers", type=Path, help="folder with yamnet.safetensors and mobilenetv2.safetensors")
    parser.add_argument("--probes", type=Path, help="starter: .npz file of probes on EfficientNet-Lite0's grid")
    parser.add_argument("--further", type=Path, help="starter: folder of further pictures and sounds, without labels")
    parser.add_argument("--work", type=Path, help="folder for intermediate results, about 12 GB")
    parser.add_argument("--seeds", type=int, default=5, help="number of localizers to train; the best on val is kept")
    parser.add_argument("--only", choices=PARTS, help="make one encoder and stop, so that two processes can make both at the same time")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(given.threads)
    score = score_teachers(given.probes, given.further) if given.profile == "starter" else None
    run = ProfileRun(data=given.data, out=given.out, teachers=given.teachers, work=given.work, score=score, seeds=given.seeds)
    if given.only is not None:
        make_encoders(run.data, *run.folders, parts=(given.only,))
        if score is not None:
            teach_scores(run.data, *run.folders, score, parts=(given.only,))
        return
    make_profile(given.profile, run)


if __name__ == "__main__":
    main()
