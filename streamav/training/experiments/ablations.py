"""Defines the rows of the paper's Tables I, III, IV and V as settings, and the training schedule of every network.

One command trains a whole table. This module trains nothing itself. Published numbers are accuracies in percent on AVE's test split;
the paper selected its models on that split.

Source: VSCG section IV-B, Table I, and section IV-C, Tables III-V. The stars that the paper prints at some baselines' numbers are
left out here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from streamav.errors import SettingsError
from streamav.networks.baselines import BaselineName, BaselineOptions, Plugin, make_baseline
from streamav.networks.options import REFERENCE_PSP_THRESHOLD, Prior, Supervision, VSCGOptions
from streamav.slugs import slug
from streamav.training.fit.losses import LossName, LossOptions
from streamav.training.fit.targets import TargetOptions
from streamav.training.options import DECAY_EPOCHS_FULLY, DECAY_EPOCHS_WEAKLY, TrainOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

__all__ = [
    "PUBLISHED_ONLY",
    "SCHEDULES",
    "TABLES",
    "Row",
    "TableName",
    "avps_weight",
    "baseline_row",
    "find_rows",
    "make_network",
    "schedule",
    "tables",
    "vscg_options",
]

TableName = Literal["I", "III", "IV", "V"]

PUBLISHED_ONLY: tuple[tuple[str, float, float], ...] = (
    ("AVSDN", 72.6, 67.3),
    ("CMAN", 73.3, 70.4),
    ("DAM", 74.5, float("nan")),
    ("AVRB", 74.8, 68.9),
    ("AVIN", 75.2, 69.4),
    ("CSA", 76.5, 70.2),
    ("AVT", 76.8, 70.2),
    ("CMRAN", 77.4, 72.9),
    ("DCA", 79.0, float("nan")),
    ("DMIN", 79.6, 74.3),
)
"""Methods of Table I that this program cannot train, with their published accuracies, fully and weakly supervised; NaN: none given."""

PSP_WEAK_THRESHOLD = 0.095
"""Source: jasongief/PSP_CVPR_2021 README.md:33 (at T = 10)."""
_SUPERVISIONS: tuple[Supervision, ...] = ("fully", "weakly")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table under one supervision: all settings of a training run."""

    name: str
    """Name of the row in the paper."""
    network: Literal["vscg", "avel", "pspnet", "cmbs"]
    supervision: Supervision
    options: VSCGOptions | BaselineOptions
    loss: LossOptions
    targets: TargetOptions
    train: TrainOptions
    published: float
    """Accuracy in percent as published in the paper."""

    @property
    def key(self) -> str:
        """Return the name for files and logs, such as "fully-isce-w-cere"."""
        return f"{self.supervision}-{slug(self.name, '-')}"


def make_network(options: VSCGOptions | BaselineOptions) -> nn.Module:
    """Build the network that *options* describe, with new random weights."""
    if isinstance(options, BaselineOptions):
        return make_baseline(options)
    from streamav.networks.vscg import VSCG

    return VSCG(options)


def tables(*, compatible: bool = False) -> dict[TableName, tuple[Row, ...]]:
    """Return all rows of Tables I, III, IV and V that can be trained here, fully supervised rows first.

    Args:
        compatible: True for the authors' networks, losses and targets, with their bugs; False for the corrected ones, with the
            paper's losses (no term for the per-segment head), the clean agreement target and the clip's tags.
    """
    make = _Maker(compatible=compatible)
    return {"I": make.methods(), "III": make.components(), "IV": make.plugins(), "V": make.losses()}


@dataclass(frozen=True)
class _Maker:
    """Builds rows in the compatible or the corrected form."""

    compatible: bool

    def methods(self) -> tuple[Row, ...]:
        """Build the rows of Table I that can be trained: other methods as their authors published them, and VSCG."""
        rows: list[tuple[str, BaselineName, tuple[float, float]]] = [
            ("AVEL", "avel", (72.7, 66.7)),
            ("PSP", "pspnet", (77.8, 73.5)),
            ("CMBS", "cmbs", (79.3, 74.2)),
        ]
        found: list[Row] = []
        for supervision, index in zip(_SUPERVISIONS, (0, 1), strict=True):
            found += [self._baseline(name, network, supervision, given[index]) for name, network, given in rows]
            found.append(self._vscg("VSCG", supervision, (79.7, 74.8)[index]))
        return tuple(found)

    def components(self) -> tuple[Row, ...]:
        """Build Table III: parts of the event semantic consistency module."""
        rows: list[tuple[str, Prior | None, tuple[float, float]]] = [
            ("w/o ESCM", None, (77.9, 72.9)),
            ("w/o ISCE", "zero", (76.4, 71.9)),
            ("ISCE w/ Avg", "avg", (77.8, 73.0)),
            ("ISCE w/ Max", "max", (78.2, 73.4)),
            ("ISCE w/ non-shared CERE", "unshared", (77.2, 72.8)),
            ("ISCE w/ CERE", None, (79.7, 74.8)),
        ]
        return tuple(
            self._vscg(name, supervision, published[index], prior=prior, escm=name != "w/o ESCM")
            for index, supervision in enumerate(_SUPERVISIONS)
            for name, prior, published in rows
        )

    def plugins(self) -> tuple[Row, ...]:
        """Build Table IV: the module at the end of other networks, each with its own loss and schedule."""
        rows: list[tuple[str, BaselineName, Plugin, tuple[float, float]]] = [
            ("AVEL", "avel", "none", (72.7, 66.7)),
            ("AVEL w/ PSP", "avel", "psp", (76.6, 72.9)),
            ("AVEL w/ ESCM", "avel", "escm", (77.5, 72.9)),
            ("PSP-Net", "pspnet", "none", (76.6, 72.9)),
            ("PSP-Net w/ ESCM", "pspnet", "escm", (78.8, 73.8)),
            ("CMBS", "cmbs", "none", (79.2, 73.3)),
            ("CMBS w/ ESCM", "cmbs", "escm", (79.6, 73.4)),
        ]
        return tuple(
            self._baseline(name, network, supervision, published[index], plugin=plugin)
            for index, supervision in enumerate(_SUPERVISIONS)
            for name, network, plugin, published in rows
        )

    def losses(self) -> tuple[Row, ...]:
        """Build Table V: losses, for VSCG and for PSP-Net."""
        fully: list[tuple[str, LossName, tuple[float, float]]] = [
            ("CE", "ce", (78.1, 76.3)),
            ("CE + AVPS", "ce_avps", (78.8, 76.6)),
            ("negative pair filter", "npf", (79.7, 77.5)),
        ]
        weakly: list[tuple[str, LossName, tuple[float, float]]] = [("BCE", "bce", (73.8, 72.9)), ("smooth", "smooth", (74.8, 73.0))]
        found: list[Row] = []
        for supervision, losses in zip(_SUPERVISIONS, (fully, weakly), strict=True):
            found += [self._vscg(f"VSCG {name}", supervision, given[0], loss=loss) for name, loss, given in losses]
            found += [self._baseline(f"PSP {name}", "pspnet", supervision, given[1], loss=loss) for name, loss, given in losses]
        return tuple(found)

    def _vscg(
        self,
        name: str,
        supervision: Supervision,
        published: float,
        *,
        prior: Prior | None = None,
        escm: bool = True,
        loss: LossName | None = None,
    ) -> Row:
        chosen = loss or ("npf" if supervision == "fully" else "smooth")
        options = vscg_options(supervision, chosen, compatible=self.compatible)
        options = replace(options, escm=escm, prior=options.prior if prior is None else prior)
        if chosen == "npf":  # the paper's loss has no term for the per-segment head
            options = replace(options, segment_head="untrained")
        return Row(
            name=name,
            network="vscg",
            supervision=supervision,
            options=options,
            loss=LossOptions(loss=chosen, segment_weight=0.0, avps_weight=avps_weight(chosen, compatible=self.compatible)),
            targets=TargetOptions.reference() if self.compatible else TargetOptions(),
            train=schedule("vscg", supervision, options),
            published=published,
        )

    def _baseline(
        self,
        name: str,
        network: BaselineName,
        supervision: Supervision,
        published: float,
        *,
        plugin: Plugin = "none",
        loss: LossName | None = None,
    ) -> Row:
        row = baseline_row(network, supervision, compatible=self.compatible, plugin=plugin, loss=loss)
        return replace(row, name=name, published=published)


def vscg_options(supervision: Supervision, loss: str, *, compatible: bool) -> VSCGOptions:
    """Return VSCG's options for a loss; rows of tables and single networks use the same."""
    options = VSCGOptions.reference(supervision) if compatible else VSCGOptions.corrected(supervision)
    if supervision == "fully" and loss in {"ce", "ce_avps"}:  # these losses train the per-segment head only
        return replace(options, decision="argmax29", segment_head="trained")
    return options


def avps_weight(loss: str, *, compatible: bool) -> float:
    """Return the weight of the agreement term: 1 in the authors' negative pair filter, 100 in all other losses of both forms."""
    return 1.0 if compatible and loss == "npf" else 100.0


def baseline_row(
    network: BaselineName, supervision: Supervision, *, compatible: bool, plugin: Plugin = "none", loss: LossName | None = None
) -> Row:
    """Return all settings of a baseline's training; rows of tables and `--network` use the same.

    Args:
        network: avel, pspnet or cmbs.
        supervision: fully or weakly.
        compatible: True for the authors' targets and thresholds.
        plugin: the module at the end of the host network.
        loss: None for the host network's own loss.

    Raises:
        SettingsError: when a name is wrong.
    """
    own_losses: dict[BaselineName, tuple[LossName, LossName]] = {
        "avel": ("soft_margin", "soft_margin"),
        "pspnet": ("ce_avps", "bce"),
        "cmbs": ("cmbs", "soft_margin"),
    }
    chosen = loss or own_losses[network][_SUPERVISIONS.index(supervision)]
    options = BaselineOptions(
        network=network,
        supervision=supervision,
        plugin=plugin,
        npf_heads=chosen == "npf" and supervision == "fully" and network != "cmbs",
        psp_threshold=_psp_threshold(network, supervision, compatible=compatible),
        decision="two_stage" if chosen in {"npf", "cmbs"} else "argmax29",
        decision_threshold=0.7 if chosen == "npf" else 0.5,
    )
    return Row(
        name=network,
        network=network,
        supervision=supervision,
        options=options,
        loss=LossOptions(loss=chosen, segment_weight=0.0, avps_weight=avps_weight(chosen, compatible=compatible)),
        # AVEL and CMBS train on the clip's tag.
        targets=TargetOptions.reference() if compatible and network == "pspnet" else TargetOptions(),
        train=schedule(network, supervision, options),
        published=float("nan"),
    )


def _psp_threshold(network: BaselineName, supervision: Supervision, *, compatible: bool) -> float | None:
    if network == "pspnet" and supervision == "weakly":
        return PSP_WEAK_THRESHOLD
    return REFERENCE_PSP_THRESHOLD if compatible else None


SCHEDULES: Mapping[tuple[str, Supervision], TrainOptions] = {
    ("vscg", "fully"): TrainOptions(decay_epochs=DECAY_EPOCHS_FULLY),
    ("vscg", "weakly"): TrainOptions(decay_epochs=DECAY_EPOCHS_WEAKLY),
    ("avel", "fully"): TrainOptions(epochs=300, batch=64, decay=0.1, decay_epochs=(288,)),
    ("avel", "weakly"): TrainOptions(epochs=250, batch=64, decay=0.1, decay_epochs=(288,)),
    ("pspnet", "fully"): TrainOptions(decay_epochs=(60, 120)),
    ("pspnet", "weakly"): TrainOptions(decay_epochs=(80, 160)),
    ("cmbs", "fully"): TrainOptions(
        epochs=200, batch=64, learning_rate=7e-4, decay=0.5, decay_epochs=(10, 20, 30), select_every=1, clip_norm=0.5
    ),
    ("cmbs", "weakly"): TrainOptions(
        epochs=200, batch=64, learning_rate=6e-4, decay=0.5, decay_epochs=(10, 20, 40), select_every=1, clip_norm=0.5
    ),
}
"""Training schedule of each network, alone and in every table: that of its own authors, which Table IV keeps.

Source: YapengTian/AVE-ECCV18 supervised_main.py:47-67, weak_supervised_main.py:43-63 (a step every 15 000 batches is epoch 288
of 52 batches); jasongief/PSP_CVPR_2021 fully_supervised_main.py:102, weakly_supervised_main.py:100; marmot-xy/CMBS
supv_train.sh, weakly_train.sh, supv_main.py:101, weakly_main.py:87. VSCG: see `training.options`.
"""


def schedule(network: str, supervision: Supervision, options: VSCGOptions | BaselineOptions) -> TrainOptions:
    """Return the schedule of a network; models are selected with the decision and threshold in *options*."""
    return replace(SCHEDULES[network, supervision], decision=options.decision, threshold=options.decision_threshold)


TABLES: dict[TableName, tuple[Row, ...]] = tables()
"""Every row in its corrected form; `tables(compatible=True)` returns the authors' form."""


def find_rows(table: str, *, compatible: bool = False, supervision: Supervision | None = None) -> tuple[Row, ...]:
    """Return the rows of one table, for both supervisions or for one.

    Raises:
        SettingsError: when there is no such table.
    """
    known = tables(compatible=compatible)
    for name, rows in known.items():
        if name == table:
            return tuple(row for row in rows if supervision in {None, row.supervision})
    msg = f"table must be one of {', '.join(known)}, got {table!r}"
    raise SettingsError(msg)
