"""Tests of predictions of segments on disk, and of the comparison of two models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamav.cli import main
from streamav.errors import DataError, SettingsError
from streamav.evaluation.bootstrap import bootstrap, paired_ratios
from streamav.evaluation.comparison import compare, in_words
from streamav.evaluation.predictions import Predictions, read_predictions, write_predictions

LABELS = ("bark", "bird")


def predictions(clips: int = 6, *, right: float = 1.0, seed: int = 0, name: str = "a", labels: tuple[str, ...] = LABELS) -> Predictions:
    """Return clips of ten segments with one event each; a share of the segments is decided right, the others as background."""
    truth = np.full((clips, 10), len(labels), dtype=np.int64)
    for clip in range(clips):
        truth[clip, 2 + clip % 3 : 8] = clip % len(labels)
    random = np.random.default_rng(seed)
    decided = np.where(random.random(truth.shape) < right, truth, len(labels))
    scores = random.random((clips * 10, len(labels) + 1)).astype(np.float32)
    names = tuple(f"clip {number},é.mp4" for number in range(clips))
    return Predictions(
        model=name, labels=labels, clips=names, groups=names, lengths=np.full(clips, 10), truth=truth.reshape(-1),
        decided=decided.reshape(-1), probabilities=scores,
    )  # fmt: skip


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
@pytest.mark.parametrize("scored", [True, False])
def test_what_is_written_is_read(tmp_path: Path, suffix: str, scored: bool) -> None:
    """Both layouts give the same predictions back, with and without probabilities, with commas and accents in names."""
    made = predictions(right=0.5)
    made = made if scored else replace(made, probabilities=None)
    write_predictions(tmp_path / f"p{suffix}", made)
    read = read_predictions(tmp_path / f"p{suffix}")
    assert (read.labels, read.clips, read.groups) == (made.labels, made.clips, made.groups)
    for name in ("lengths", "truth", "decided"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
    assert (read.probabilities is not None) == scored
    if read.probabilities is not None and made.probabilities is not None:
        np.testing.assert_allclose(read.probabilities, made.probabilities, rtol=1e-5)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    """An NPZ file whose array holds objects is refused, and no code in it runs."""

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    np.savez(tmp_path / "p.npz", schema=np.array("streamav.predictions/1"), clips=np.array([Trap()], dtype=object))
    with pytest.raises(DataError, match=r"p\.npz must be a file of predictions"):
        read_predictions(tmp_path / "p.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.npz", b"PK nonsense", "must be a file of predictions"),
        ("p.csv", b"clip,group\na,b\n", "must have the columns"),
        ("p.csv", b"clip,group,segment,truth,decided\na,a,0,bark,bark\na,a,2,bark,bark\n", "must follow one another"),
        ("p.csv", b"clip,group,segment,truth,decided,p:bark,p:background\na,a,0,bird,bark,1,0\n", "bird"),
        ("p.csv", b"clip,group,segment,truth,decided,p:bark,p:background\na,a,0,bark,bark,x,0\n", "numbers"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    """A file that holds no predictions, or inconsistent ones, is refused with its name and what is wrong."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read_predictions(tmp_path / name)
    assert name in str(caught.value)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    """Only .npz and .csv are written."""
    with pytest.raises(SettingsError, match=r"\.npz or \.csv"):
        write_predictions(tmp_path / "p.json", predictions())


def test_a_model_against_itself_differs_by_nothing() -> None:
    """Every difference is 0, its interval is [0, 0] and p is 1."""
    made = predictions(right=0.7)
    found = compare(made, replace(made, model="b"), draws=500)
    for one in (found.accuracy, found.event_f1, *(one for pair in found.of_label.values() for one in pair)):
        assert (one.difference, one.low, one.high, one.p) == (0.0, 0.0, 0.0, 1.0)
    assert "may be chance" in in_words(found)[0]


def test_a_better_model_is_found_and_the_sign_is_second_minus_first() -> None:
    """A model that is right everywhere beats one that is right half the time, on accuracy, event-F1 and each label."""
    found = compare(predictions(40, right=0.5, name="weak"), predictions(40, name="good"), draws=2000)
    truth = predictions(40)
    assert found.accuracy.difference == pytest.approx(1.0 - (predictions(40, right=0.5).decided == truth.truth).mean())
    assert found.accuracy.low is not None
    assert found.accuracy.low > 0
    assert found.accuracy.p == pytest.approx(2 / 2001)
    assert found.event_f1.second == 1.0
    assert set(found.of_label) == set(LABELS)
    assert in_words(found)[0].startswith("Accuracy: good is better than weak by ")
    assert compare(predictions(40, right=0.5), predictions(40), seed=0, draws=300) == compare(
        predictions(40, right=0.5), predictions(40), seed=0, draws=300
    )


def test_chance_alone_rarely_looks_like_a_difference() -> None:
    """Two models of the same quality, compared 60 times: p lies below 0.05 in at most 8 of them."""
    small = sum(
        (compare(predictions(30, right=0.6, seed=2 * one), predictions(30, right=0.6, seed=2 * one + 1), draws=400).accuracy.p or 0) < 0.05
        for one in range(60)
    )
    assert small <= 8


def test_the_ratio_bootstrap_agrees_with_that_of_means() -> None:
    """With the same denominators the interval is that of the mean of the differences."""
    random = np.random.default_rng(3)
    a, b = random.random(50), random.random(50)
    ones = np.ones(50)
    ratio = paired_ratios(np.stack([a, ones], 1), np.stack([b, ones], 1), draws=20_000)
    mean = bootstrap(b - a, ones, draws=20_000)
    assert ratio.difference == pytest.approx(mean.mean)
    assert ratio.low == pytest.approx(mean.low, abs=0.01)
    assert ratio.high == pytest.approx(mean.high, abs=0.01)


def test_clips_of_one_source_are_drawn_together() -> None:
    """With all clips from two sources the interval is wider than with independent clips, and one source gives none."""
    a, b = predictions(20, right=0.5, seed=1), predictions(20, right=0.6, seed=2, name="b")
    alone = compare(a, b, draws=2000).accuracy
    groups = ("x",) * 10 + ("y",) * 10
    pair = compare(replace(a, groups=groups), replace(b, groups=groups), draws=2000)
    assert pair.groups == 2
    assert "only 2 independent" in in_words(pair)[-1]
    single = compare(replace(a, groups=("x",) * 20), replace(b, groups=("x",) * 20), draws=100).accuracy
    assert alone.difference == pytest.approx(pair.accuracy.difference)
    assert single.low is None
    assert single.p is None


def test_different_test_sets_are_refused() -> None:
    """Other clips, another length or another truth is refused, and the message names the clip."""
    a = predictions()
    other = a.truth.copy()
    other[3] = 2
    cases = {
        "clip 5": predictions(5),
        "the truth of clip 0": replace(a, truth=other),
        "another order": replace(a, clips=a.clips[::-1]),
    }
    for says, b in cases.items():
        with pytest.raises(DataError, match=says):
            compare(a, b)


def test_labels_that_one_model_lacks_count() -> None:
    """A label that only one model has is compared too: the other one never finds it."""
    a, b = predictions(12), predictions(12, labels=("bark", "bird"))
    lacking = replace(
        b, labels=("bird", "bark"), truth=np.array([1, 0, 2])[b.truth], decided=np.where(b.decided == 0, 1, 2), probabilities=None
    )
    found = compare(a, lacking, draws=200)
    assert found.of_label["bark"][1].difference == 0.0
    assert found.of_label["bird"][1].second == 0.0


def test_the_command_compares_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two files of predictions give sentences and a table, or JSON; files of different test sets give status 7."""
    write_predictions(tmp_path / "a.npz", predictions(30, right=0.5, name="same"))
    write_predictions(tmp_path / "b.csv", predictions(30, name="same"))
    write_predictions(tmp_path / "c.csv", predictions(5))
    assert main(["compare", str(tmp_path / "a.npz"), str(tmp_path / "b.csv"), "--draws", "500"]) == 0
    text = capsys.readouterr().out
    assert "b is better than same by" in text
    assert all(len(line) <= 120 for line in text.splitlines()[3:])
    assert main(["compare", str(tmp_path / "a.npz"), str(tmp_path / "b.csv"), "--json", "--draws", "500"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["accuracy"]["low"] > 0
    assert tree["of_label"]["bark"][1]["second"] == 1.0
    assert main(["compare", str(tmp_path / "a.npz"), str(tmp_path / "c.csv")]) == 7
    assert "same test set" in capsys.readouterr().err
    assert main(["compare", "starter", str(tmp_path / "c.csv")]) == 2
    assert "--data must name" in capsys.readouterr().err
    assert main(["compare", "starter", "starter", "--data", str(tmp_path)]) == 7
    assert "labels.csv" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.npz", "a.csv"])
def test_a_missing_file_is_told_with_what_writes_it(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is said to be missing, in words, with the option that writes such files."""
    assert main(["compare", str(tmp_path / name), str(tmp_path / f"b{name}")]) == 7
    said = capsys.readouterr().err
    assert f"{name} must be a file of predictions" in said
    assert "got no such file; check the path, or write it with --predictions" in said
    assert "Errno" not in said
