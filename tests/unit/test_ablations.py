"""Tests of the rows of the paper's tables."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from streamav.errors import SettingsError
from streamav.networks.baselines import BaselineOptions
from streamav.networks.options import VSCGOptions
from streamav.training.experiments.ablations import SCHEDULES, TABLES, Row, find_rows, make_network, tables
from streamav.training.experiments.experiment import experiment_of, planned
from streamav.training.fit.losses import loss
from streamav.training.fit.targets import TargetMaker

ALL_ROWS = [(table, form, row) for form in (False, True) for table, rows in tables(compatible=form).items() for row in rows]


def test_tables_have_the_rows_of_the_paper() -> None:
    """The tables hold six components, seven hosts, and three fully and two weakly supervised losses for two networks, with numbers."""
    assert {name: len(rows) for name, rows in TABLES.items()} == {"I": 8, "III": 12, "IV": 14, "V": 10}
    published = {(table, row.supervision, row.name): row.published for table, rows in TABLES.items() for row in rows}
    assert published["III", "fully", "w/o ISCE"] == 76.4
    assert (published["I", "fully", "PSP"], published["I", "weakly", "CMBS"]) == (77.8, 74.2)
    assert published["III", "weakly", "ISCE w/ CERE"] == 74.8
    assert published["IV", "weakly", "AVEL"] == 66.7
    assert published["V", "fully", "PSP negative pair filter"] == 77.5
    assert published["V", "weakly", "VSCG smooth"] == 74.8


@pytest.mark.parametrize("rows", TABLES.values(), ids=TABLES.keys())
def test_keys_name_one_row_each_and_make_good_file_names(rows: tuple[Row, ...]) -> None:
    """Two rows of a table never have the same key, and every key is a valid file name."""
    keys = [row.key for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(key.replace("-", "").isalnum() for key in keys)


@pytest.mark.slow
@pytest.mark.parametrize(("table", "form", "row"), ALL_ROWS, ids=[f"{table}-{form}-{row.key}" for table, form, row in ALL_ROWS])
def test_every_row_can_take_a_training_step(table: str, form: bool, row: Row) -> None:
    """Network, targets and loss of each row fit together: one step gives a finite loss and gradients."""
    torch.manual_seed(0)
    sizes = {"audio_size": 6, "visual_size": 12, "grid": 3, "classes": 5, "hidden": 8}
    more = {"attention_size": 12} if isinstance(row.options, VSCGOptions) else {}
    network = make_network(type(row.options).from_dict({**asdict(row.options), **sizes, **more})).train()
    labels = torch.tensor([[1] * 6 + [5] * 4, [5] * 10, [5] * 2 + [4] * 8])
    terms = loss(network(torch.rand(3, 10, 6), torch.rand(3, 10, 3, 3, 12)), TargetMaker(5, row.targets)(labels), row.loss)
    terms.total.backward()  # type: ignore[no-untyped-call]
    assert bool(terms.total.isfinite())
    assert any(parameter.grad is not None for parameter in network.parameters())
    assert row.train.decision == row.options.decision


SIZES = {"audio_size": 6, "visual_size": 12, "grid": 3, "classes": 5}


@pytest.mark.parametrize(("table", "form", "row"), ALL_ROWS, ids=[f"{table}-{form}-{row.key}" for table, form, row in ALL_ROWS])
def test_a_row_and_the_same_network_alone_are_trained_alike(table: str, form: bool, row: Row) -> None:
    """`--table`, and `--network` with the row's part, plug-in and loss, use the same network, loss, targets and schedule."""
    changes: dict[str, dict[str, object]] = {"loss": {"loss": row.loss.loss, "segment_weight": 0.0}, "train": {}, "targets": {}}
    if isinstance(row.options, VSCGOptions):
        changes["network"] = {"escm": row.options.escm, "prior": row.options.prior}
        if row.loss.loss == "npf":  # the paper does not train the per-segment head; `--network` does
            changes["network"]["segment_head"] = "untrained"
    else:
        changes["network"] = {"plugin": row.options.plugin}
    alone = planned(row.network, row.supervision, SIZES, changes, compatible=form)
    expected = experiment_of(row, SIZES, {})
    assert alone.train == expected.train
    assert (alone.network, alone.losses, alone.targets) == (expected.network, expected.losses, expected.targets)


def test_every_network_has_one_schedule() -> None:
    """Without options, `--network` uses the schedule of the network's rows; CMBS has its authors' schedule (200, 64, 7e-4)."""
    for (network, supervision), known in SCHEDULES.items():
        alone = planned(network, supervision, SIZES, {}).train
        assert replace(known, decision=alone.decision, threshold=alone.threshold) == alone
    cmbs = planned("cmbs", "fully", SIZES, {}).train
    assert (cmbs.epochs, cmbs.batch, cmbs.learning_rate) == (200, 64, 7e-4)


def test_the_compatible_form_keeps_the_authors_choices() -> None:
    """Only the compatible rows have the authors' bugs; both forms have the host's lambda of 100."""
    ours, theirs = tables(), tables(compatible=True)
    full = {form: next(row for row in rows["III"] if row.key == "fully-isce-w-cere") for form, rows in (("ours", ours), ("theirs", theirs))}
    assert full["theirs"].options == VSCGOptions.reference("fully")
    assert (full["theirs"].loss.avps_weight, full["theirs"].loss.segment_weight, full["theirs"].targets.avps_target) == (1.0, 0.0, "stale")
    assert (full["ours"].loss.avps_weight, full["ours"].loss.segment_weight, full["ours"].targets.avps_target) == (100.0, 0.0, "clean")
    weak = next(row for row in theirs["III"] if row.key == "weakly-isce-w-cere")
    assert weak.options == VSCGOptions.reference("weakly")
    assert weak.targets.weak_target == "proportion"
    hosts = {row.loss.avps_weight for row in theirs["IV"] if row.loss.loss == "ce_avps"}
    assert hosts == {100.0}
    assert all(isinstance(row.options, BaselineOptions) for row in theirs["IV"])


def test_rows_are_found_by_table_and_supervision() -> None:
    """`find_rows` returns the rows of one supervision, and raises an error for an unknown table."""
    assert [row.supervision for row in find_rows("V", supervision="weakly")] == ["weakly"] * 4
    with pytest.raises(SettingsError, match="I, III, IV, V"):
        find_rows("VI")
