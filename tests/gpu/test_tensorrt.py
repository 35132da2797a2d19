"""Tests of the TensorRT engine on a real GPU. Not run where they were written: TensorRT's libraries were not available."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import streamav
from streamav.bundle import load_bundle
from streamav.config import ModelSettings
from streamav.engines import EngineCache
from streamav.engines.maker import EngineRequest
from streamav.engines.making import open_made
from streamav.engines.recipe import load_recipe
from streamav.engines.samples import make_samples
from streamav.engines.tensorrt_compiler import TorchTensorRT, tensorrt_problem
from streamav.engines.tensorrt_engine import TensorRTMaker

STARTER = Path(streamav.__file__).parent / "models" / "starter"
pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_starter_is_built_compared_and_opened_again(precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build passes its comparison, the second open builds nothing, and every batch, also above the largest, gives finite numbers."""
    problem = tensorrt_problem()
    if problem is not None:
        pytest.skip(problem)
    recipe = load_recipe(f"tensorrt-{precision}")
    maker = TensorRTMaker()
    if (unfit := maker.problem(recipe)) is not None:
        pytest.skip(unfit)
    request = EngineRequest(bundle=load_bundle(STARTER), settings=ModelSettings(threads=1), recipe=recipe)
    cache = EngineCache(tmp_path)
    first = open_made(maker, request, cache)

    def refuse(*_: object) -> bytes:
        pytest.fail("a second open must not build")

    monkeypatch.setattr(TorchTensorRT, "build", refuse)
    second = open_made(maker, request, cache)
    patches = make_samples((112, 112), 0.001).patches
    for count in (1, 3, 12, 100):
        array = np.resize(patches, (count, *patches.shape[1:]))
        (one,), (two,) = first.network("audio")(array), second.network("audio")(array)
        assert one.shape[0] == count
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, two, rtol=1e-2, atol=1e-2)
