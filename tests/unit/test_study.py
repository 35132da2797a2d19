from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from streamav.bundle import ClassEntry
from streamav.errors import SettingsError
from streamav.training.data.feature_set import FeatureSet
from streamav.training.data.folder import AveData
from streamav.training.data.presence import Presence
from streamav.training.experiments.study import ROWS, Study, run_study, study_table, write_study
from streamav.training.starter.components import components_of, lengthened, shortened
from streamav.training.streams.judge import StreamPlan, judge_on_streams

if TYPE_CHECKING:
    from pathlib import Path

C, T, CLIPS = 2, 10, 18
PLAN = StreamPlan(streams=1, minutes=0.7, seeds=(0,))
TRAIN = {"epochs": 1, "batch": 6, "decay_epochs": [1]}


def _data(visual: int = 6) -> AveData:
    """Build clips of two classes that are easy to tell apart."""
    rng = np.random.default_rng(0)
    own = np.arange(CLIPS) % C
    heard, seen = (np.where(rng.random((CLIPS, T)) < 0.8, own[:, None], C) for _ in range(2))
    labels = np.where(heard == seen, heard, C)
    labels[:, 0], heard[:, 0], seen[:, 0] = own, own, own
    sounds, looks = np.eye(C + 1, 8)[heard], np.eye(C + 1, visual)[seen]
    audio = (sounds + 0.05 * rng.normal(size=sounds.shape)).astype(np.float32)
    grids = (looks[:, :, None, None] + 0.05 * rng.normal(size=(CLIPS, T, 2, 2, visual))).astype(np.float32)
    whole = FeatureSet(audio=audio, visual=grids, labels=labels, tags=np.eye(C + 1, dtype=np.float32)[own], rows=np.arange(CLIPS))
    parts = {name: whole.select(np.arange(start, start + 6), name) for start, name in ((0, "train"), (6, "val"), (12, "test"))}
    classes = tuple(ClassEntry(slug=slug, name=slug) for slug in ("bark", "siren"))
    presence = Presence(heard=heard, seen=seen)
    return AveData(**parts, background=None, classes=classes, repeated=np.empty(0, np.int64), presence=presence)


def _study(seeds: int = 2) -> Study:
    return Study(data=_data(), seeds=range(seeds), train=TRAIN, plan=PLAN)


def _result(name: str, accuracy: float, alarms: float = 0.0) -> dict[str, object]:
    """Return the result of a row with one seed."""
    shares = {"clips_accuracy": accuracy, "accuracy_at_0": accuracy, "accuracy_at_1": accuracy, "accuracy_at_9": accuracy}
    others = {"event_f1": 0.0, "event_f1_collar_2": 0.0, "background_false_alarms_per_hour": alarms}
    constant = {"clips_always_background": 0.471, "always_background": 0.809}
    return {"name": name, "figures": {key: [value] for key, value in {**shares, **others, **constant}.items()}}


def test_rows_that_are_alike_share_the_first_place(tmp_path: Path) -> None:
    """The lead names no row as better than one with the same figure, and the table ends with the answer that needs no network."""
    write_study(tmp_path, [_result("first", 0.8, 3.0), _result("second", 0.8004, 3.0), _result("third", 0.5, 3.0)], "streamav study", 1)
    text = (tmp_path / "study.md").read_text(encoding="utf-8")
    assert "- clips: accuracy, %: **first**, **second**, 80.0; then third, 50.0" in text
    assert "- false alarms an hour of background: 3.0, in all 3 rows" in text
    assert text.rstrip().endswith("| always background | 47.1 | 80.9 | 80.9 | 80.9 | 0.00 | 0.00 | 0.0 |")
    rows = (tmp_path / "study.tex").read_text(encoding="utf-8").split("\\midrule")
    assert rows[-1].strip().startswith("always background & 47.1")


def test_the_table_begins_with_its_head(tmp_path: Path) -> None:
    """Who watches a study sees what the figures of a row are, also before the first row is done."""
    told: list[str] = []
    assert run_study(_study(1), [], tmp_path, told.append) == []
    assert told == study_table([]).splitlines()
    assert "clips: accuracy, %" in told[0]


@pytest.mark.slow
@pytest.mark.parametrize("key", [row.key for row in ROWS])
def test_every_row_trains_and_is_judged(key: str, tmp_path: Path) -> None:
    """Each row gives one figure for each seed, for clips and streams, and a line of the table."""
    row = next(row for row in ROWS if row.key == key)
    result = run_study(_study(1), [row], tmp_path, lambda _: None)[0]
    figures = result["figures"]
    assert isinstance(figures, dict)
    assert {"clips_accuracy", "accuracy_at_1", "event_f1", "background_false_alarms_per_hour"} <= set(figures)
    assert all(len(values) == 1 for values in figures.values())
    assert row.name in study_table([result])
    write_study(tmp_path, [result], "streamav study", 1)
    assert "n = 1" in (tmp_path / "study.md").read_text(encoding="utf-8").split("## ")[0]
    assert r"\toprule" in (tmp_path / "study.tex").read_text(encoding="utf-8")
    assert (tmp_path / "study.html").is_file()


@pytest.mark.slow
def test_rows_that_are_there_are_not_run_again_and_others_are_refused(tmp_path: Path) -> None:
    """A second call reads the results; with other settings it raises an error that says what to do."""
    rows = [ROWS[0]]
    first = run_study(_study(), rows, tmp_path, lambda _: None)
    written = (tmp_path / "reference.json").stat().st_mtime_ns
    again = run_study(_study(), rows, tmp_path, lambda _: None)
    assert json.dumps(again) == json.dumps(first)  # as text: some figures of a model without events are NaN, and NaN is not equal to NaN
    assert (tmp_path / "reference.json").stat().st_mtime_ns == written
    with pytest.raises(SettingsError, match="choose another --out"):
        run_study(_study(1), rows, tmp_path, lambda _: None)


def test_thresholds_come_from_val_and_figures_from_test() -> None:
    """An untrained network gets valid thresholds, and figures within their ranges."""
    import torch

    from streamav.networks.options import VSCGOptions
    from streamav.networks.vscg import VSCG

    torch.manual_seed(0)
    sizes = _study().sizes
    judged = judge_on_streams(VSCG(VSCGOptions.corrected("fully", **sizes, hidden=4)).eval(), _data(), PLAN)
    assert 0.0 < judged.thresholds.off <= judged.thresholds.on < 1.0
    assert {name for name in judged.figures if name.startswith("accuracy")} == {"accuracy_at_0", "accuracy_at_1", "accuracy_at_9"}
    assert 0.0 <= judged.figures["accuracy_at_1"] <= 1.0


def test_shortened_features_keep_what_varies() -> None:
    """All components keep every distance; fewer components give shorter features; zero and too many are refused."""
    data = _data()
    whole = shortened(data, components_of(data, 6))
    before, after = (
        np.stack([np.asarray(part.train.visual[row], np.float64) for row in range(6)]).reshape(-1, 6) for part in (data, whole)
    )
    distances = [np.linalg.norm(cells[:, None] - cells[None], axis=2) for cells in (before[:50], after[:50])]
    np.testing.assert_allclose(distances[0], distances[1], atol=0.01)
    few = shortened(data, components_of(data, 2))
    assert few.test.visual.shape == (CLIPS, T, 2, 2, 2)
    for size in (0, 7):
        with pytest.raises(SettingsError, match="1 to 6"):
            components_of(data, size)


@pytest.mark.parametrize("front", ["fa_fv", "linear_v"])
def test_a_network_of_shortened_features_takes_whole_ones(front: str) -> None:
    """The lengthened network gives the same outputs on whole features as before on shortened ones; a basis of another size is refused."""
    import torch

    from streamav.networks.options import VSCGOptions
    from streamav.networks.vscg import VSCG

    torch.manual_seed(0)
    basis = components_of(_data(), 3)
    sizes = {"audio_size": 8, "visual_size": 3, "grid": 2, "classes": C, "hidden": 8, "attention_size": 5, "front_size": 4}
    network = VSCG(VSCGOptions.from_dict({**sizes, "front": front})).eval()
    audio, visual = torch.randn(2, T, 8), torch.randn(2, T, 2, 2, 6)
    short = network(audio, visual @ torch.from_numpy(basis))
    whole = lengthened(network, basis)(audio, visual)
    torch.testing.assert_close(whole.segment_logits, short.segment_logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(whole.attention, short.attention, atol=1e-5, rtol=1e-4)
    with pytest.raises(SettingsError, match="3 numbers, got 6"):
        lengthened(lengthened(network, basis), basis)
