"""Puts batch normalisation into the convolution before it, in the graph of an exported network, so that half precision loses less.

A channel's mean may be large against what is left of it after the mean is taken away; in half precision that difference is mostly rounding.
Folded in float64 and rounded once, it is a bias. Knows no engine.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

__all__ = ["fold_batch_norms"]

_CONVOLUTION, _NORM = torch.ops.aten.conv2d.default, torch.ops.aten.batch_norm.default


def fold_batch_norms(graph: fx.GraphModule) -> int:
    """Fold every batch normalisation (in evaluation) that follows a convolution of its own; give how many there were.

    Args:
        graph: of ATen operators as torch.export gives it, float32 weights as attributes; is changed.
    """
    found = 0
    for norm in graph.graph.find_nodes(op="call_function", target=_NORM):
        convolution = norm.args[0]
        if convolution.target is not _CONVOLUTION or len(convolution.users) > 1 or norm.args[5]:
            continue
        weight, bias = _folded(graph, convolution, norm)
        convolution.args = (convolution.args[0], weight, bias, *convolution.args[3:])
        norm.replace_all_uses_with(convolution)
        graph.graph.erase_node(norm)
        found += 1
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return found


def _folded(graph: fx.GraphModule, convolution: fx.Node, norm: fx.Node) -> tuple[fx.Node, fx.Node]:
    """Give nodes with the new weight and bias: y = (conv(x) - mean) / sqrt(var + eps) * gamma + beta."""
    weight = _value(graph, convolution.args[1])
    plain = _value(graph, convolution.args[2]) if len(convolution.args) > 2 and convolution.args[2] is not None else None  # noqa: PLR2004
    gamma, beta, mean, variance = (_value(graph, arg) for arg in norm.args[1:5])
    scale = gamma / torch.sqrt(variance + float(str(norm.args[7])))
    shift = beta - mean * scale if plain is None else beta + (plain - mean) * scale
    values = {"weight": weight * scale[:, None, None, None], "bias": shift}
    with graph.graph.inserting_before(convolution):
        nodes = []
        for name, value in values.items():
            attribute = f"folded_{convolution.name}_{name}"
            graph.register_parameter(attribute, nn.Parameter(value.to(torch.float32), requires_grad=False))
            nodes.append(graph.graph.get_attr(attribute))
    return nodes[0], nodes[1]


def _value(graph: fx.GraphModule, node: object) -> Tensor:
    """Give the tensor that an attribute's node stands for, in float64."""
    found: object = graph
    for part in str(node.target if isinstance(node, fx.Node) else node).split("."):
        found = getattr(found, part)
    if not isinstance(found, Tensor):
        msg = f"a weight of a convolution must be a tensor, got {type(found).__name__}"
        raise TypeError(msg)
    return found.to(torch.float64)
