"""Runs `streamav train` on own clips: learns their labels on top of a model that keeps its own, checks them, and writes the bundle.

It shows progress; `streamav.training.clips` does the work.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import typer

from streamav.cli.json_output import print_json
from streamav.cli.own_clips import clips_of, say
from streamav.cli.predicting import of_recordings
from streamav.evaluation.predictions import write_predictions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streamav.bundle import Bundle
    from streamav.cli.own_clips import OwnClips
    from streamav.training.clips.own_checks import Check
    from streamav.training.clips.own_labels import Learned

__all__ = ["train_own_labels"]


def train_own_labels(asked: OwnClips, base: Bundle) -> None:
    """Learn the labels of own clips, and write a bundle with them and all labels of the base model.

    Raises:
        DataError: when the table or a clip is wrong.
        ModelError: when the bundle cannot be written.
    """
    from streamav.training.clips.own_bundle import write_own_bundle
    from streamav.training.clips.own_checks import checked
    from streamav.training.clips.own_labels import learn
    from streamav.training.clips.recorded import own_recordings
    from streamav.training.experiments.run import check_out

    check_out(asked.plan.out, force=asked.plan.force)
    table, places = clips_of(asked, base)
    recordings = own_recordings(table, places, base)
    learned = learn(recordings, table.labels, base.card, base.weights("evidence"))
    _say_what_was_learned(learned, base.card.slugs)
    say("checking each recording with labels that were learned from the others")
    check = checked(recordings, table.labels, base.card, base.weights("evidence"))
    made = write_own_bundle(asked.plan.out, base, learned, check, clips=len(recordings), command=asked.command, replace=asked.plan.force)
    _tell(asked, learned, check)
    if asked.plan.predictions is not None:
        _keep_predictions(asked.plan.predictions, made.card.name, check)
    outside = " --weights FOLDER" if base.card.audio.external or base.card.visual.external else ""
    fresh = len(made.card.classes) - len(base.card.classes)
    say(f"model: {asked.plan.out}, the {len(base.card.classes)} labels of {base.card.name} and {fresh} of yours")
    say(f"try it: streamav run --model {asked.plan.out}{outside} --source FILE")


def _tell(asked: OwnClips, learned: Learned, check: Check) -> None:
    """Print the verdict, the only result of the command, to standard output."""
    from streamav.training.clips.own_checks import verdict

    lines = verdict(check)
    if not asked.as_json:
        typer.echo("\n".join(lines))
        return
    measured = {one.label: asdict(one) for one in check.labels}
    labels = [{**entry.model_dump(mode="json"), "check": measured[entry.slug]} for entry in learned.entries]
    tree = {"out": str(asked.plan.out), "labels": labels, "right": check.right, "always_background": check.background, "verdict": lines}
    print_json(tree)


def _keep_predictions(path: Path, model: str, check: Check) -> None:
    """Write what labels that were learned from other recordings found in each clip."""
    slugs = [one.label for one in check.labels if one.measured]
    if not slugs or not check.judged:
        say(f"no predictions were written to {path}: no label is in clips of two recordings whose times are known")
        return
    rest = [np.maximum(1.0 - scores.sum(axis=1, keepdims=True), 0.0) for scores in check.scores]
    scores = [np.concatenate(both, axis=1) for both in zip(check.scores, rest, strict=True)]
    write_predictions(path, of_recordings(model, slugs, check.judged, check.judged, scores))


def _say_what_was_learned(learned: Learned, known: Sequence[str]) -> None:
    """Print each label with its lists, and where they come from."""
    for entry, lists in zip(learned.entries, learned.found, strict=True):
        origin = "a label of the model, now with your clips" if entry.slug in known else "a new label"
        say(f"{entry.slug}: {origin}")
        for sense, names in (("hear", entry.hear), ("see", entry.see)):
            if names or (sense == "see" and entry.kind != "sound"):
                say(f"  {sense}s {_listed(names)} ({'found in the clips' if sense in lists else 'by its name'})")


def _listed(names: Sequence[str]) -> str:
    most = 6
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more if names else "nothing in common"
