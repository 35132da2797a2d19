"""Builds and loads TensorRT engines, one for each network of a model, kept in the engine cache.

**Not run on TensorRT**: checked statically and with a stand-in compiler (docs/tensorrt.md lists the checks). As with every engine, the
result is compared with eager float32 torch on the user's machine before it is used. torch is imported only to build or to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from streamav.engines.batching import most_at_once
from streamav.engines.recipe import NETWORK_NAMES
from streamav.engines.tensorrt_compiler import TorchTensorRT, tensorrt_problem
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import JsonValue
    from torch import nn

    from streamav.engines.maker import EngineRequest
    from streamav.engines.parity import Answers
    from streamav.engines.recipe import Precision, Recipe
    from streamav.engines.tensorrt_compiler import Compiler
    from streamav.engines.tensorrt_network import Form, TensorRTEngine

__all__ = ["TensorRTMaker", "tensorrt_problem"]


class TensorRTMaker:
    """Fills the role Maker: exports each network as a program and builds one TensorRT engine from it."""

    def __init__(self, compiler: Compiler | None = None) -> None:
        """Use *compiler*, or Torch-TensorRT."""
        self._compiler: Compiler = TorchTensorRT() if compiler is None else compiler

    def problem(self, recipe: Recipe) -> str | None:
        """Return what is missing on this machine, in half a sentence, or None."""
        return self._compiler.problem(recipe.precision)

    def parts(self, request: EngineRequest) -> dict[str, str]:  # noqa: ARG002 - the role's signature
        """Return the versions of torch, torch-tensorrt and TensorRT, and compute capability and name of the GPU."""
        return self._compiler.parts()

    def compile(self, request: EngineRequest, modules: Mapping[str, nn.Module], answers: Answers, folder: Path) -> dict[str, JsonValue]:
        """Export and build the four networks.

        Raises:
            EngineError: when a network cannot be exported or built.
        """
        forms: dict[str, JsonValue] = {}
        for name in NETWORK_NAMES:
            form, data = self._build(name, request.recipe, modules[name], answers)
            (folder / f"{name}.engine").write_bytes(data)
            forms[name] = form.model_dump(mode="json")
        return {"networks": forms}

    def load(self, request: EngineRequest, folder: Path, facts: Mapping[str, JsonValue]) -> TensorRTEngine:
        """Load the engines on the GPU.

        Raises:
            EngineError: when TensorRT refuses one.
        """
        from streamav.engines.tensorrt_network import Form, TensorRTEngine, TensorRTNetwork

        networks = {}
        for name in NETWORK_NAMES:
            path = folder / f"{name}.engine"
            try:
                form = Form.model_validate(cast("Mapping[str, JsonValue]", facts["networks"])[name])
                run = self._compiler.open(path.read_bytes(), [port.name for port in form.inputs], form.outputs)
            except (KeyError, TypeError, ValidationError) as exc:
                msg = f"the engine at {folder} must hold the inputs and outputs of network {name}: {exc}; run: streamav engines clear"
                raise EngineError(msg) from exc
            except Exception as exc:  # the package's errors have no common base but Exception
                msg = f"TensorRT cannot load {path}: {exc}"
                raise EngineError(msg) from exc
            networks[name] = TensorRTNetwork(name, run, form, self._compiler.device)
        return TensorRTEngine(networks, request.recipe)

    def _build(self, name: str, recipe: Recipe, module: nn.Module, answers: Answers) -> tuple[Form, bytes]:
        from streamav.engines.modules import FLOAT32_ALWAYS
        from streamav.engines.tensorrt_export import DTYPES, export_network
        from streamav.engines.tensorrt_network import form_of

        example, batch = answers.inputs[name], recipe.batch
        most = most_at_once(batch, name, example[0].shape[1:3])
        usual = most if recipe.usual_batch is None else min(getattr(recipe.usual_batch, name), most)
        exact = name in recipe.float32 or isinstance(module, FLOAT32_ALWAYS)
        precision: Precision = "fp32" if exact else recipe.precision
        program = export_network(module, example, DTYPES[precision], most)
        form = form_of(program, example, precision)
        try:
            return form, self._compiler.build(program, (1, usual, most), recipe.workspace_bytes)
        except Exception as exc:  # the package's errors have no common base but Exception
            msg = f"TensorRT cannot build network {name}: {' '.join(str(exc).split())}"
            raise EngineError(msg) from exc
