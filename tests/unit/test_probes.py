"""Tests the training of a model's probes: what they find, and the command with real pictures and the starter's encoder."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from rigs.composite_material import write_material, write_picture

from streamav.errors import DataError
from streamav.evidence import probe_logits
from streamav.training.starter import probes
from streamav.training.starter.probe_examples import covered_cells, read_faces
from streamav.training.starter.probes import fit_cells, fit_means, fit_pictures
from streamav.training.starter.teachers import read_probes

GRID, SIZE = 3, 8


def rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1.0, 0.3, (count, GRID, GRID, SIZE)).astype(np.float32)


def test_cells_are_covered_as_boxes_lie() -> None:
    """A box over the left third of a picture covers the first column of cells; two boxes over one cell cover it once."""
    covered = covered_cells([(0, 0, 10, 30), (0, 0, 10, 30)], (30, 30), GRID)
    np.testing.assert_allclose(covered, [[1, 0, 0]] * 3, atol=1e-6)
    np.testing.assert_allclose(covered_cells([(5, 0, 10, 5)], (30, 30), GRID)[0], [0.25, 0.25, 0.0], atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_probe_of_cells_finds_the_cell(seed: int) -> None:
    """What marks one cell of a picture is found in that cell of new pictures; pictures without it stay below."""

    def marked(count: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        grid, covered = rows(count, number), np.zeros((count, GRID, GRID), np.float32)
        grid[: count // 2, 1, 2, :3] += 4.0
        covered[: count // 2, 1, 2] = 1.0
        return grid, covered

    probe = fit_cells(*marked(3000, seed), seed)
    new = marked(40, 9)[0] @ probe.weight[0] + probe.bias[0]
    assert (new[:20].reshape(20, -1).argmax(axis=1) == 5).all()
    assert new[:20, 1, 2].min() > new[20:].max()


def test_a_probe_of_pictures_needs_no_places() -> None:
    """Labels of whole pictures are enough for a thing that fills one cell, wherever it is."""
    rng = np.random.default_rng(3)
    grid, truth = rows(4000, 4), np.zeros((4000, 2), np.bool_)
    for number in range(2000):
        kind = number % 2
        grid[number, *rng.integers(0, GRID, 2), 4 * kind : 4 * kind + 3] += 4.0
        truth[number, kind] = True
    new = np.arange(4000) % 4 > 1
    probe = fit_pictures(grid[~new], truth[~new])
    found = np.stack([probe_logits(one, probe.weight, probe.bias) for one in grid[new]])
    for kind in (0, 1):
        held = truth[new, kind]
        assert np.median(found[held, kind]) > np.quantile(found[~held, kind], 0.95)


def test_drawings_are_told_by_the_mean() -> None:
    """Pictures whose mean differs are told apart, on the scale of the features."""
    shown, others = rows(60, 5).mean(axis=(1, 2)), rows(300, 6).mean(axis=(1, 2))
    shown[:, 0] += 1.0
    probe = fit_means(shown, others)
    assert (shown @ probe.weight[0] + probe.bias[0]).min() > (others @ probe.weight[0] + probe.bias[0]).max()


def test_a_wrong_table_of_faces_is_told_with_its_row(tmp_path: Path) -> None:
    """A picture that is missing and a box without size are named; a row without a box is a picture without faces."""
    write_picture(tmp_path / "a.png", (90, 90, 90))
    table = tmp_path / "faces.csv"
    table.write_text("file,x,y,width,height\na.png,,,,\n", encoding="utf-8")
    assert not read_faces(tmp_path, GRID)[0].covered.any()  # type: ignore[union-attr] # faces were looked for
    for row, told in (
        ("b.png,,,,", "b.png must be in"),
        ("a.png,1,1,0,4", "row 2: width and height must be above 0"),
        ("a.png,x,1,1,1", "row 2"),
    ):
        table.write_text(f"file,x,y,width,height\n{row}\n", encoding="utf-8")
        with pytest.raises(DataError, match=told):
            read_faces(tmp_path, GRID)


@pytest.mark.slow
def test_the_command_writes_probes_that_the_fusion_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From pictures, marks and material the command writes the arrays that fusion reads; a second call gives the same."""
    faces, pictures = tmp_path / "faces", tmp_path / "pictures"
    faces.mkdir()
    pictures.mkdir()
    for number in range(6):
        write_picture(faces / f"{number}.png", (40 * number, 90, 90))
        write_picture(pictures / f"{number}.png", (90, 30 * number, 90))
    lines = [
        "file,x,y,width,height",
        *(f"{number}.png,{8 * number},4,16,16" for number in range(3)),
        *(f"{number}.png,,,," for number in range(3, 6)),
    ]
    (faces / "faces.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "material").mkdir()
    write_material(tmp_path / "material", ("fire", "cat"))
    out = tmp_path / "probes.npz"
    command = ["probes", "--model", "starter", "--faces", faces, "--material", tmp_path / "material", "--pictures", pictures]
    command += ["--drawings", 12, "--work", tmp_path / "work", "--out", out]
    monkeypatch.setattr(sys, "argv", [str(one) for one in command])
    probes.main()
    with np.load(out, allow_pickle=False) as found:
        assert found["names"].tolist() == ["face", "helicopter", "mandolin", "fire"]
        assert found["drawn.weight"].shape == (1, 256)
    assert read_probes(out).weight.shape == (4, 256)
    first = out.read_bytes()
    probes.main()
    assert out.read_bytes() == first
