"""Tests of the reports of trainings: LaTeX, Table I with its published rows, and Markdown as HTML."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from streamav.training.experiments.ablations import PUBLISHED_ONLY
from streamav.training.experiments.latex import latex_table, latex_text
from streamav.training.experiments.report import write_table
from streamav.view.markdown_page import markdown_body, write_beside


def outcome(name: str, published: float, seeds: int, classes: int = 28, *, test_selected: bool = False) -> SimpleNamespace:
    """Return what a table reads of a training."""
    experiment = SimpleNamespace(
        name=name,
        published=published,
        network=SimpleNamespace(supervision="fully", classes=classes),
        train=SimpleNamespace(test_selected=test_selected),
    )
    spread = math.nan if seeds == 1 else 0.01
    scores = dict.fromkeys(("accuracy", "macro_f1", "background_recall"), (0.771, spread))
    return SimpleNamespace(experiment=experiment, seeds=[None] * seeds, summary=lambda: scores)


@pytest.mark.parametrize("seeds", [1, 5])
def test_table_one_has_its_own_and_the_published_rows(tmp_path: Path, seeds: int) -> None:
    """Table I lists what was trained, then the methods that cannot be trained here with their published figures only; n = 1 is told."""
    write_table(tmp_path / "table-I-fully.md", "I", [outcome("PSP", 77.8, seeds), outcome("VSCG", 79.7, seeds)], "streamav train")  # type: ignore[list-item]
    text = (tmp_path / "table-I-fully.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == ["PSP", "VSCG", *(name for name, *_ in PUBLISHED_ONLY)]
    assert (rows[1][2], rows[1][-1]) == ("n = 1" if seeds == 1 else "5", "79.7")
    assert rows[2][2:] == ["-", "-", "-", "-", "72.6"]
    assert ("n = 1: a single seed" in text) == (seeds == 1)
    latex = (tmp_path / "table-I-fully.tex").read_text(encoding="utf-8")
    assert latex.count(r"\midrule") == 2
    assert latex.count(r" \\") == 1 + len(rows)
    assert all(line.count("&") == len(rows[0]) - 1 for line in latex.splitlines() if line.endswith(r"\\"))


@pytest.mark.parametrize(("classes", "test_selected"), [(24, True), (28, False)])
def test_a_table_says_what_its_published_figures_are_worth(tmp_path: Path, classes: int, test_selected: bool) -> None:
    """On data that are not AVE the table says so; a table with the test-selected column does not say that the test split is read once."""
    one = outcome("VSCG", 79.7, 1, classes, test_selected=test_selected)
    one.seeds = [SimpleNamespace(test_selected=0.8)]
    write_table(tmp_path / "t.md", "V", [one], "streamav train")  # type: ignore[list-item]
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert ("24 classes and are not AVE" in text) == (classes == 24)
    assert ("read once" in text) == (not test_selected)


def test_latex_has_no_bare_special_character() -> None:
    """Every character with a meaning in LaTeX is escaped, and a table is whole."""
    assert latex_text("50 % of a_b & {c} ± ~^\\") == (r"50 \% of a\_b \& \{c\} $\pm$ \textasciitilde{}\textasciicircum{}\textbackslash{}")
    table = latex_table(["row", "x"], [["a", "1"]], caption="c_d", label="tab:x")
    assert table.count(r"\begin{") == table.count(r"\end{") == 2
    assert r"\caption{c\_d}" in table


def test_a_long_head_of_a_column_stands_in_several_lines() -> None:
    """A table of many columns with long heads fits a page of LaTeX."""
    table = latex_table(["", "streams: accuracy at latency 10, %"], [["a", "1"]], caption="c", label="tab:x")
    assert r" & \shortstack[r]{streams:\\accuracy at\\latency 10, \%} \\" in table


def test_markdown_becomes_a_document_with_its_pictures_inside(tmp_path: Path) -> None:
    """Tables and pictures are kept, parts can be unfolded, HTML in names is text, and no address is loaded."""
    (tmp_path / "curves.png").write_bytes(b"\x89PNG")
    report = tmp_path / "report.md"
    report.write_text(
        "# <script>alert(1)</script>\n\nlead <b>x</b>\n\n## Part & one\n\n![curves](curves.png)\n![gone](gone.png)\n![far](https://example.org/x.png)\n\n"
        "| a | b |\n|---|---|\n| <img src=x onerror=1> | 2 |\n\n## Two\n\ntext\n",
        encoding="utf-8",
    )
    body = markdown_body(report.read_text(encoding="utf-8"), tmp_path)
    assert "<script>" not in body
    assert "<b>" not in body
    assert "<img src=x" not in body
    assert 'src="data:image/png;base64,iVBORw=="' in body
    assert body.count("<details") == 2
    assert body.count("<table>") == 1
    assert "<summary>Part &amp; one</summary>" in body
    text = write_beside(report).read_text(encoding="utf-8")
    assert "img-src data:" in text
    assert "<title>&lt;script&gt;" in text
