"""Promises of the options of networks and losses."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from streamav.errors import SettingsError
from streamav.networks.baselines import BaselineOptions
from streamav.networks.options import VSCGOptions
from streamav.training.fit.losses import LossOptions


@pytest.mark.parametrize("supervision", ["fully", "weakly"])
@pytest.mark.parametrize("form", ["corrected", "reference"])
def test_options_survive_json(form: str, supervision: str) -> None:
    """Options that are written to a model card and read back are unchanged."""
    options = getattr(VSCGOptions, form)(supervision)
    assert options == VSCGOptions.from_dict(json.loads(json.dumps(asdict(options))))


def test_an_unknown_option_names_the_nearest() -> None:
    """A misspelt key is refused, and the message names the right one."""
    with pytest.raises(SettingsError, match="did you mean psp_dropout"):
        VSCGOptions.from_dict({"psp_droput": 0.1})
    with pytest.raises(SettingsError, match="did you mean avps_weight"):
        LossOptions.from_dict({"avps_wieght": 1.0})
    with pytest.raises(SettingsError, match="did you mean plugin"):
        BaselineOptions.from_dict({"network": "avel", "plugn": "escm"})


@pytest.mark.parametrize(
    "values",
    [
        {"hidden": 0},
        {"grid": 7.0},
        {"classes": True},
        {"psp_dropout": 1.0},
        {"psp_dropout": float("nan")},
        {"psp_threshold": -0.1},
        {"prior": "median"},
        {"pool": "ceil"},
        {"decision_threshold": "0.7"},
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any]) -> None:
    """A size below one, a rate outside [0, 1) or an unknown switch is refused."""
    with pytest.raises(SettingsError, match=next(iter(values))):
        VSCGOptions.from_dict(values)


def test_the_reference_columns_of_the_switches_are_as_specified() -> None:
    """The two reference forms differ from the corrected forms in exactly the documented switches."""
    differing = {
        supervision: {
            name: value
            for name, value in asdict(VSCGOptions.reference(supervision)).items()
            if value != asdict(VSCGOptions.corrected(supervision))[name]
        }
        for supervision in ("fully", "weakly")
    }
    assert differing == {
        "fully": {"swap_av": True, "psp_threshold": 0.099, "pool": "floor", "segment_head": "untrained"},
        "weakly": {"psp_threshold": 0.099, "pool": "floor", "prior": "cross_linear", "post_gru": "dropout_norm"},
    }


def test_baselines_refuse_heads_they_cannot_have() -> None:
    """Only fully supervised AVEL and PSP-Net can have the heads of the negative pair filter loss."""
    with pytest.raises(SettingsError, match="npf_heads"):
        BaselineOptions(network="cmbs", npf_heads=True)
    with pytest.raises(SettingsError, match="npf_heads"):
        BaselineOptions(network="pspnet", supervision="weakly", npf_heads=True)
