"""`streamav recordings`: runs a model over labelled recordings, as `streamav run` does, and reports how much of the truth it found.

It reads labels and options, runs `streamav.offline` over each file, and prints what `streamav.evaluation` counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.bundle import AUTO, choose_bundle
from streamav.cli.json_output import print_json
from streamav.cli.markdown_output import print_markdown
from streamav.cli.model_options import EngineOption, PrecisionOption, WeightsOption
from streamav.cli.predicting import check_predictions_file, of_recordings
from streamav.cli.progress import progress
from streamav.config import DetectionSettings, ModelSettings
from streamav.errors import DataError, SettingsError
from streamav.evaluation.counting import said_events
from streamav.evaluation.predictions import write_predictions
from streamav.evaluation.recorded import JudgedRecording
from streamav.evaluation.recorded_report import Answer, markdown, tree_of
from streamav.evaluation.recordings import NO_LABEL, Span, read_groups, read_labels, read_off_screen
from streamav.evaluation.untrained import RECIPE, SOUND, LabelClasses, recipe_scores, sound_scores
from streamav.types import SEGMENT_NS, WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streamav.bundle import Bundle, ModelCard
    from streamav.evaluation.predictions import Predictions
    from streamav.thresholds import Thresholds
    from streamav.types import Event, SegmentFeatures

__all__ = ["labelled", "predicted", "recordings"]

_MOST_NAMED = 10
"""Most files that an error names."""
_ALWAYS, _SOUND, _RECIPE = "always background", "sound alone", "untrained recipe"


def recordings(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder with the recordings and labels.csv (file, label, onset_s, offset_s; group and notes if wanted)."),
    ],
    model: Annotated[str, typer.Option("--model", help="Name of a model, or the folder of a bundle.")] = AUTO,
    weights: WeightsOption = None,
    latency: Annotated[
        str | None,
        typer.Option("--latency", help="Seconds until a score is final, as in streamav run; several as 1,2,10. Default: the model's own."),
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="Compare with always background, sound alone, and the encoders' own classes without training."),
    ] = False,
    background: Annotated[
        bool, typer.Option("--background", help="The folder needs no labels.csv: no recording in it or below it holds an event.")
    ] = False,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", help="Also write the answer for every second, with the truth, at the first latency: .npz or .csv."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Run a model over labelled recordings and print, as Markdown, what it named, what was false, and how many seconds were right.

    Exit status: 0 done, 2 an option is wrong, 3 a recording cannot be read, 4 model, 6 engine, 7 labels.csv is wrong.
    """
    latencies = _latencies(latency)
    check_predictions_file(predictions)
    truths = _background(folder) if background else labelled(folder)
    _check(folder, truths)
    bundle = choose_bundle(model, weights).bundle
    card = bundle.card
    settings = ModelSettings(name=model, weights_dir=weights, engine=engine, precision=precision)
    left_out = [span.label for one in truths for span in one.truth if span.label not in {*card.slugs, NO_LABEL}]
    known = [replace(one, truth=tuple(span for span in one.truth if span.label in card.slugs)) for one in truths]
    scores: list[NDArray[np.float32]] = []
    answers = _answers(folder, known, bundle, settings, (latencies or (card.detection.latency_segments,), baselines), scores)
    if not sum(one.seconds for one in answers[0].recordings):
        msg = f"at least one recording in {folder} must last a segment of one second, got {len(truths)} shorter ones; add longer recordings"
        raise DataError(msg)
    if predictions is not None:
        write_predictions(predictions, of_recordings(answers[0].by, card.slugs, truths, answers[0].recordings, scores))
    if as_json:
        print_json(tree_of(answers, left_out))
    else:
        print_markdown(markdown(answers, left_out))
    if baselines and card.evidence is None:
        typer.echo(f"{_SOUND} and {_RECIPE} are left out: the encoders of {card.name} do not score classes of their own.", err=True)


def predicted(folder: Path, bundle: Bundle, settings: ModelSettings, latency: int | None) -> Predictions:
    """Return the answer of a model for every second of labelled recordings.

    Args:
        folder: the recordings and labels.csv.
        bundle: the model.
        settings: its name, engine, precision and encoders.
        latency: segments; None for the model's own.

    Raises:
        DataError: when the table is wrong.
        CaptureError: when a recording cannot be read.
    """
    truths = labelled(folder)
    scores: list[NDArray[np.float32]] = []
    (answer,) = _answers(folder, truths, bundle, settings, ((latency or bundle.card.detection.latency_segments,), False), scores)
    return of_recordings(answer.by, bundle.card.slugs, truths, answer.recordings, scores)


def _latencies(text: str | None) -> tuple[int, ...]:
    """Return the latencies that were asked for, in rising order, or nothing.

    Raises:
        SettingsError: when one is not a number from 1 to 10.
    """
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if any(not (part.isascii() and part.isdigit() and 1 <= int(part) <= WINDOW_SEGMENTS) for part in parts):
        msg = f"--latency must be numbers from 1 to {WINDOW_SEGMENTS} with commas between, such as 1,2,10; got {text!r}"
        raise SettingsError(msg)
    return tuple(sorted({int(part) for part in parts}))


def labelled(folder: Path) -> list[JudgedRecording]:
    """Return the recordings of labels.csv with their truth.

    Raises:
        DataError: when the table is wrong or a file is missing.
    """
    table = folder / "labels.csv"
    truth = read_labels(table)
    if missing := sorted(name for name in truth if not (folder / name).is_file()):
        msg = f"{table} must name files in {folder}, and {len(missing)} are missing: {', '.join(missing[:_MOST_NAMED])}"
        raise DataError(msg)
    groups, off_screen = read_groups(table), read_off_screen(table)
    return [JudgedRecording(name, groups[name], 0, tuple(truth[name]), (), name in off_screen) for name in sorted(truth)]


def _check(folder: Path, truths: Sequence[JudgedRecording]) -> None:
    """Read the beginning of every recording before the model runs over the first.

    Raises:
        CaptureError: when one is damaged.
    """
    from streamav.offline import check_readable

    check_readable([folder / one.file for one in truths])


def _background(folder: Path) -> list[JudgedRecording]:
    """Return all recordings in a folder and below it, without truth.

    Raises:
        DataError: when there is none.
    """
    from streamav.offline import find_recordings

    names = [str(Path(file).relative_to(folder)) for file in find_recordings([str(folder)])]
    return [JudgedRecording(name, name, 0, (), ()) for name in names]


def _answers(
    folder: Path,
    known: Sequence[JudgedRecording],
    bundle: Bundle,
    settings: ModelSettings,
    asked: tuple[Sequence[int], bool],
    scores: list[NDArray[np.float32]],
) -> list[Answer]:
    """Run the model over every recording once; return its answer at each latency, and those of the baselines.

    Args:
        folder: where the recordings are.
        known: the recordings with the truth that the model can know.
        bundle: the model.
        settings: engine, precision and weights.
        asked: the latencies, and whether baselines are wanted.
        scores: receives the final probabilities of every segment of each recording at the first latency.
    """
    from streamav.app import label_options, localizer_head
    from streamav.offline import OfflineRun

    latencies, wanted = asked
    card = bundle.card
    name_of_model = card.name if settings.name == AUTO else Path(settings.name).name or card.name
    run = OfflineRun(bundle, settings, localizer_head(card), latencies[0])
    labels = label_options(card, DetectionSettings())
    untrained = _Untrained(card) if wanted and card.evidence is not None else None
    found: dict[tuple[str, int | None], list[JudgedRecording]] = {}
    for one in _shown(known):
        events = run.events(str(folder / one.file), labels, latencies, None if untrained is None else untrained.take)
        scores.append(events.scores[latencies[0]])
        for latency in latencies:
            said = tuple(_span(event) for event in events.events[latency])
            found.setdefault((name_of_model, latency), []).append(replace(one, seconds=events.seconds, found=said))
        for name, spans in _compared(untrained, wanted=wanted):
            found.setdefault((name, None), []).append(replace(one, seconds=events.seconds, found=spans))
    return [Answer(name, latency, tuple(judged)) for (name, latency), judged in found.items()]


def _span(event: Event) -> Span:
    return Span(event.label, event.start_ns / SEGMENT_NS, (event.end_ns or event.newest_end_ns) / SEGMENT_NS, event.top_score)


def _shown(known: Sequence[JudgedRecording]) -> Iterator[JudgedRecording]:
    """Yield the recordings and show the progress."""
    with progress("recordings") as show:
        for number, one in enumerate(known):
            show(number, len(known), one.file)
            yield one


def _compared(untrained: _Untrained | None, *, wanted: bool) -> Iterable[tuple[str, tuple[Span, ...]]]:
    """Return what each baseline finds in the recording that was run last."""
    if not wanted:
        return ()
    return ((_ALWAYS, ()), *(() if untrained is None else untrained.found()))


@dataclass(slots=True, init=False)
class _Untrained:
    """Collects the class scores of one recording after another for the baselines."""

    classes: LabelClasses
    labels: tuple[str, ...]
    heard: list[NDArray[np.float32]]
    seen: list[NDArray[np.float32]]

    def __init__(self, card: ModelCard) -> None:
        probes = () if card.evidence is None else card.evidence.probes
        self.classes = LabelClasses([(one.hear, one.see) for one in card.classes], probes)
        self.labels = card.slugs
        self.heard, self.seen = [], []

    def take(self, features: SegmentFeatures) -> None:
        """Keep the scores of one segment."""
        if features.heard is not None and features.seen is not None:
            self.heard.append(self.classes.heard(features.heard))
            self.seen.append(self.classes.seen(features.seen))

    def found(self) -> tuple[tuple[str, tuple[Span, ...]], ...]:
        """Return what each baseline finds in the segments that were kept, and forget them."""
        import numpy as np

        shape = (-1, len(self.labels))
        heard, seen = np.array(self.heard, np.float32).reshape(shape), np.array(self.seen, np.float32).reshape(shape)
        self.heard, self.seen = [], []
        return (_SOUND, self._spans(sound_scores(heard), SOUND)), (_RECIPE, self._spans(recipe_scores(heard, seen), RECIPE))

    def _spans(self, scores: NDArray[np.float32], thresholds: Thresholds) -> tuple[Span, ...]:
        import numpy as np

        events = said_events(np.concatenate([scores, np.zeros((len(scores), 1), np.float32)], axis=1), thresholds)
        peaks = [float(scores[event.start : event.end, event.label].max()) for event in events]
        return tuple(
            Span(self.labels[event.label], float(event.start), float(event.end), peak) for event, peak in zip(events, peaks, strict=True)
        )
