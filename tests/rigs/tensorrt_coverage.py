"""Finds the operators of an exported program that have no converter in torch-tensorrt, from facts read from its wheels.

It repeats the steps of `torch_tensorrt.dynamo`: decompose with the package's own table, apply the replacements of a lowering pass, look
up every operator, and require a converter for free axes where an axis is free. The converters' validators do not run: this is a static
check.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

FACTS_FILE = Path(__file__).parents[1] / "golden" / "torch_tensorrt.json"
PLACED = {torch.ops.aten.select.int, torch.ops.aten.slice.Tensor}
"""Operators whose third argument and those after it say which part of a tensor is taken."""
GRAPH_ONLY = {"aten._assert_tensor_metadata.default", "aten._assert_scalar.default", "aten.sym_constrain_range_for_size.default"}
"""Operators that the package's pass remove_assert_nodes removes before conversion."""


DECOMPOSING = ("torch_decompositions", "kept_whole", "own_decompositions")
"""The facts that define how a graph is decomposed."""


def read_facts() -> dict[str, dict[str, Any]]:
    """Return the facts of every version of torch-tensorrt."""
    facts: dict[str, dict[str, Any]] = json.loads(FACTS_FILE.read_text())
    return facts


def uncovered(program: ExportedProgram, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return, by version, the operators without a converter, and those with a free axis whose converters support no free axis.

    Equal calls of *program* are merged before: the unrolled steps of a recurrent layer make 1500 calls of 90 kinds.
    """
    merge_equal_calls(program.graph_module.graph)
    program.graph_module.recompile()
    decomposed: dict[str, list[fx.Node]] = {}
    found = {}
    for version, one in facts.items():
        key = json.dumps([one[part] for part in DECOMPOSING], sort_keys=True)
        if key not in decomposed:  # slow; most versions decompose alike
            decomposed[key] = lowered(program, one)
        found[version] = _missing(decomposed[key], one)
    return found


def lowered(program: ExportedProgram, facts: Mapping[str, Any]) -> list[fx.Node]:
    """Return the calls of a program after the decompositions of one version."""
    graph = program.run_decompositions(_table(facts)).graph
    return [node for node in graph.nodes if node.op == "call_function"]


def merge_equal_calls(graph: fx.Graph) -> None:
    """Keep one of all calls of an operator whose inputs and outputs have the same types. The graph then computes something else.

    A call stays if it is the only user of an earlier call: the decompositions drop a call without a user, and the check would miss it.
    """
    first: dict[str, fx.Node] = {}
    for node in [node for node in graph.nodes if node.op == "call_function"]:
        same = first.setdefault(_kind(node), node)
        needed = any(len(used.users) == 1 for used in node.all_input_nodes if used.op == "call_function")
        if same is not node and not needed and not any(user.op == "output" for user in node.users):
            node.replace_all_uses_with(same)
            graph.erase_node(node)


def _kind(node: fx.Node) -> str:
    """Return the operator, the types of what it takes and returns, and its other arguments, except the place of a slice."""
    kept = 2 if node.target in PLACED else None

    def kind(argument: Any) -> Any:  # noqa: ANN401 - fx has no public type for what a call takes
        return (_types(argument) or repr(argument)) if isinstance(argument, fx.Node) else argument

    return repr((node.target, _types(node), fx.node.map_aggregate((node.args[:kept], node.kwargs), kind)))


def _types(node: fx.Node) -> str:
    """Return types, shapes and strides of the tensors that a node returns; an empty text for none."""
    return " ".join(f"{value.dtype} {tuple(value.shape)} {value.stride()}" for value in _values(node.meta.get("val")))


def _missing(nodes: list[fx.Node], facts: Mapping[str, Any]) -> list[str]:
    converters: dict[str, bool] = facts["converters"]
    missing = set()
    for node in nodes:
        names = list(_names(node, facts))
        if not any(name in converters for name in names):
            missing.add(names[0])
        elif _is_free(node) and not any(converters.get(name, False) for name in names):
            missing.add(f"{names[0]} with a free axis")
    return sorted(missing - GRAPH_ONLY)


def _table(facts: Mapping[str, Any]) -> dict[torch._ops.OperatorBase, Callable[..., Any]]:
    """Build the table of torch_tensorrt.dynamo.lowering.get_decompositions with this torch."""
    from torch._decomp import get_decompositions
    from torch._export.utils import _collect_all_valid_cia_ops_for_aten_namespace, _get_decomp_for_cia

    whole = {_find(name) for name in facts["kept_whole"]}
    torchs = [found for name in facts["torch_decompositions"] if (found := _find(name)) is not None]
    table: dict[Any, Callable[..., Any]] = dict(get_decompositions(torchs))
    table |= {op: _get_decomp_for_cia(op) for op in _collect_all_valid_cia_ops_for_aten_namespace() if op not in whole}
    # The package decomposes both to a reshape; here and in the package this ends in the same operator.
    for name in {"aten.view.default", "aten._unsafe_view"} & facts["own_decompositions"].keys():
        operator_found = _find(name)
        for overload in [operator_found] if isinstance(operator_found, torch._ops.OpOverload) else [operator_found.default]:
            table[overload] = torch.ops.aten._reshape_copy.default
    return table


def _find(name: str) -> Any:  # noqa: ANN401 - an operator, a packet of operators, or None
    """Return the operator of a name such as aten.add.Tensor; None when this version of torch has no such operator."""
    found: Any = torch.ops
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _names(node: fx.Node, facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names under which a converter may be registered, the most specific name first."""
    if not isinstance(node.target, torch._ops.OpOverload):
        yield f"operator.{getattr(node.target, '__name__', node.target)}"
        return
    name = str(node.target)
    if list(node.users) and all(user.target is operator.getitem and user.args[1] == 0 for user in node.users):
        name = facts["replaced_by_a_pass"].get(name, name)
    yield name
    yield name.rsplit(".", 1)[0]


def _is_free(node: fx.Node) -> bool:
    """Return whether the node or one of its inputs has an axis whose size is not fixed."""
    return any(
        isinstance(size, torch.SymInt)
        for part in (node, *node.all_input_nodes)
        for value in _values(part.meta.get("val"))
        for size in value.shape
    )


def _values(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [item for item in value if isinstance(item, torch.Tensor)] if isinstance(value, tuple | list) else []
