"""Exports a network as the program that a converter takes: one precision throughout, unrolled, with a free batch axis.

The precision is in the program itself, since Torch-TensorRT 2.13 ignores every argument that once set it. The program's inputs and
outputs have that precision too. The casts from uint8 and to float32 stay outside, where each costs one small kernel: TensorRT takes
uint8 only directly before a cast, and the package's converter for a cast at the border supports no free batch axis.

It does not need TensorRT and runs on every machine.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn

from streamav.engines.unrolling import unroll
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

__all__ = ["DTYPES", "export_network", "input_names", "output_count"]

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""torch's type for each recipe precision."""
_TRACED = 2
"""Number of inputs that are traced: torch.export takes a batch of one for a constant."""


def export_network(module: nn.Module, example: Sequence[NDArray[np.generic]], dtype: torch.dtype, most: int) -> ExportedProgram:
    """Export a network for batches of 1 to *most*.

    Args:
        module: float32, in evaluation mode, on the CPU; it is not changed.
        example: inputs as the network takes them, at least two (one when *most* is 1).
        dtype: type of the weights, inputs and outputs of the program.
        most: largest batch.

    Raises:
        EngineError: when the network holds something that cannot be exported.
    """
    count = min(most, _TRACED)
    tensors = tuple(torch.tensor(array[:count]) for array in example)
    try:
        # The exporter warns about itself, about other versions and about intended constants.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            plain = _export(unroll(copy.deepcopy(module)).requires_grad_(requires_grad=False), tensors, most)
            graph = plain.module(check_guards=False)
            changed = _separate_outputs(graph)
            if not changed and all(tensor.dtype == dtype == torch.float32 for tensor in tensors):
                return plain  # it already has the form that a converter takes
            graph = _typed(graph, dtype)
            return _export(graph, tuple(tensor.to(dtype) for tensor in tensors), most)
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as exc:
        msg = f"{type(module).__name__} cannot be exported in {dtype}: {exc}"
        raise EngineError(msg) from exc


def input_names(program: ExportedProgram) -> list[str]:
    """Return the names of the program's inputs, in order; the converted engine has the same names."""
    return [name for name in program.graph_signature.user_inputs if isinstance(name, str)]


def output_count(program: ExportedProgram) -> int:
    """Return how many arrays the program returns."""
    return len(program.graph_signature.user_outputs)


def _export(module: nn.Module, tensors: tuple[Tensor, ...], most: int) -> ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=most) if most > 1 else None
    return torch.export.export(module, tensors, dynamic_shapes=tuple({0: batch} if batch else {} for _ in tensors), strict=False)


def _separate_outputs(graph: fx.GraphModule) -> int:
    """Multiply each input that is also an output by one, since an engine's input cannot be its output; return how many there were.

    The package would clone it with a converter that supports no free batch axis. The front "linear_v" returns its sound unchanged.
    """
    (output,) = graph.graph.find_nodes(op="output")
    through = [node for node in output.all_input_nodes if node.op == "placeholder"]
    for node in through:
        with graph.graph.inserting_before(output):
            same = graph.graph.call_function(torch.ops.aten.mul.Tensor, (node, 1.0))
        output.replace_input_with(node, same)
    graph.recompile()
    return len(through)


def _typed(graph: fx.GraphModule, dtype: torch.dtype) -> fx.GraphModule:
    """Convert every floating number of a float32 graph to *dtype*, and delete the types and shapes that it was traced with."""
    for node in list(graph.graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:  # noqa: SLF001 - its public name
            graph.graph.erase_node(node)
            continue
        node.args = tuple(dtype if arg is torch.float32 else arg for arg in node.args)
        node.kwargs = {name: dtype if arg is torch.float32 else arg for name, arg in node.kwargs.items()}
        node.meta.pop("val", None)
    graph.recompile()
    return graph.to(dtype)
