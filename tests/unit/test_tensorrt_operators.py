"""Tests that torch-tensorrt converts every operator of our networks: static checks against the facts of its wheels."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from rigs.random_profile import Profile, random_profile
from rigs.tensorrt_coverage import lowered, merge_equal_calls, read_facts, uncovered
from torch import nn

from streamav.bench.random_models import PROFILES
from streamav.engines.modules import EncodeSegment, LocalizeWindow
from streamav.engines.recipe import NETWORK_NAMES, load_recipe
from streamav.engines.tensorrt_export import DTYPES, export_network
from streamav.networks.options import VSCGOptions
from streamav.networks.vscg import VSCG

pytestmark = pytest.mark.usefixtures("quiet_trace")

MOST = 16


@pytest.fixture(scope="module", params=PROFILES)
def profile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """Return the networks of a profile with random weights."""
    return random_profile(request.param, tmp_path_factory.mktemp("random"))


@functools.cache
def missing_operators(profile: Profile, name: str, precision: str) -> dict[str, list[str]]:
    program = export_network(profile.modules[name], profile.inputs(2)[name], DTYPES[precision], MOST)
    return uncovered(program, read_facts())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("recipe_name", ["tensorrt-fp16", "tensorrt-bf16", "tensorrt-fp32"])
@pytest.mark.filterwarnings("ignore::FutureWarning:copyreg")
def test_every_operator_has_a_converter(profile: Profile, recipe_name: str) -> None:
    """All operators of all networks of every profile have a converter in every version, also for a free batch."""
    recipe = load_recipe(recipe_name)
    for name in NETWORK_NAMES:
        precision = "fp32" if name in recipe.float32 else recipe.precision
        assert missing_operators(profile, name, precision) == {version: [] for version in read_facts()}, name


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::FutureWarning:copyreg")
def test_imported_variants_are_covered_too() -> None:
    """A weakly supervised network as in the reference code is covered: sound returned unchanged, modalities swapped, strided pooling."""
    sizes = {"audio_size": 8, "visual_size": 8, "grid": 3, "classes": 3, "hidden": 8, "attention_size": 8, "front_size": 8}
    options = replace(VSCGOptions.corrected("weakly", **sizes), front="linear_v", pool="floor", swap_av=True)
    localizer = VSCG(options).eval()
    windows = (np.zeros((2, 10, options.segment_size), np.float32),) * 2
    segments = (np.zeros((2, 8), np.float32), np.zeros((2, 3, 3, 8), np.float32))
    for module, inputs in ((EncodeSegment(localizer), segments), (LocalizeWindow(localizer), windows)):
        program = export_network(module, inputs, torch.float32, MOST)
        assert uncovered(program, read_facts()) == {version: [] for version in read_facts()}


class Uncovered(nn.Module):
    """A module with two operators that the package cannot convert: one not at all, one not with a free axis."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.special.i0(x), torch.log1p(x)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning:copyreg")
def test_an_operator_without_a_converter_is_found() -> None:
    """The check names operators that are not covered, and those that are covered for fixed shapes only."""
    program = export_network(Uncovered(), (np.ones((2, 3), np.float32),), torch.float32, MOST)
    missing = uncovered(program, read_facts())
    assert set(missing) == set(read_facts())
    assert all(names == ["aten.i0.default", "aten.log1p.default with a free axis"] for names in missing.values()), missing


class Steps(nn.Module):
    """Returns its state after each of ten equal steps, one of which has an operator of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = [x[:, 0]]
        for place in range(1, 10):
            state = torch.tanh(states[-1] * x[:, place])
            states.append(torch.special.i0(state) if place == 7 else state)
        return torch.stack(states)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning:copyreg")
def test_merging_equal_calls_loses_no_operator() -> None:
    """Of the calls that differ in values alone one is left, and the operators after the decompositions are the same."""
    program = export_network(Steps(), (np.ones((2, 10, 3), np.float32),), torch.float32, MOST)
    newest = list(read_facts().values())[-1]
    whole, calls = lowered(program, newest), len(program.graph.nodes)
    merge_equal_calls(program.graph_module.graph)
    program.graph_module.recompile()
    assert {node.target for node in lowered(program, newest)} == {node.target for node in whole}
    assert torch.ops.aten.i0.default in {node.target for node in whole}
    assert len(program.graph.nodes) < calls / 3
