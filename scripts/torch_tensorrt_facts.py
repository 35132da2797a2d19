"""Reads the facts that our code relies on from wheels of torch-tensorrt and prints them as JSON. Imports nothing from the wheels.

    pip download --no-deps --dest wheels torch-tensorrt==2.11.0      (and 2.12.0, 2.12.1, 2.13.0, 2.14.0)
    python scripts/torch_tensorrt_facts.py wheels/torch_tensorrt-*.whl > tests/golden/torch_tensorrt.json

A wheel is a zip file; its Python files are parsed, never run.
"""

from __future__ import annotations

import ast
import email
import json
import sys
import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_DYNAMO = "torch_tensorrt/dynamo"
FUNCTIONS = {
    "compile": (f"{_DYNAMO}/_compiler.py", "compile"),
    "convert_exported_program_to_serialized_trt_engine": (f"{_DYNAMO}/_compiler.py", "convert_exported_program_to_serialized_trt_engine"),
    "save": ("torch_tensorrt/_compile.py", "save"),
    "load": ("torch_tensorrt/_compile.py", "load"),
    "Input": ("torch_tensorrt/_Input.py", "Input.__init__"),
    "TorchTensorRTModule": (f"{_DYNAMO}/runtime/_TorchTensorRTModule.py", "TorchTensorRTModule.__init__"),
    "CompilationSettings": (f"{_DYNAMO}/_settings.py", "CompilationSettings"),
}
"""Key: the name that our code uses. Value: the file, and the function or dataclass in it."""
_GROUPS = f"{_DYNAMO}/lowering/_decomposition_groups.py"
_OWN = f"{_DYNAMO}/lowering/_decompositions.py"
_POOLING = f"{_DYNAMO}/lowering/passes/replace_max_pool_with_indices.py"
_INTERPRETER = f"{_DYNAMO}/conversion/_TRTInterpreter.py"


class Wheel:
    """One wheel, opened for reading."""

    def __init__(self, path: str) -> None:
        """Open the wheel at *path*."""
        self._zip = zipfile.ZipFile(path)

    def version(self) -> str:
        """Return the version from the wheel's metadata."""
        return str(self._metadata()["Version"])

    def requirements(self) -> list[str]:
        """Return the wheel's requirements on torch and TensorRT."""
        return sorted(line for line in self._metadata().get_all("Requires-Dist", []) if line.startswith(("torch", "tensorrt")))

    def parsed(self, name: str) -> ast.Module:
        """Parse one Python file of the wheel."""
        return ast.parse(self._zip.read(name))

    def names(self, folder: str) -> list[str]:
        """Return the paths of the Python files directly in *folder*."""
        paths = (PurePosixPath(name) for name in self._zip.namelist())
        return sorted(str(path) for path in paths if str(path.parent) == folder and path.suffix == ".py")

    def _metadata(self) -> email.message.Message:
        (name,) = (name for name in self._zip.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(self._zip.read(name))


def facts(path: str) -> dict[str, object]:
    """Return all facts about one wheel."""
    wheel = Wheel(path)
    groups = wheel.parsed(_GROUPS)
    return {
        "requires": wheel.requirements(),
        "parameters": {name: parameters(wheel.parsed(file), function) for name, (file, function) in FUNCTIONS.items()},
        "converters": converters(wheel),
        "torch_decompositions": operator_set(groups, "torch_enabled_decompositions"),
        "kept_whole": operator_set(groups, "torch_disabled_decompositions"),
        "own_decompositions": own_decompositions(wheel.parsed(_OWN)),
        "replaced_by_a_pass": replacements(wheel.parsed(_POOLING)),
        "output_names": output_pattern(wheel.parsed(_INTERPRETER)),
    }


def parameters(tree: ast.Module, function: str) -> list[str]:
    """Return a function's parameters or a dataclass's fields; for an __init__ with **kwargs also the keys that it reads."""
    outer, _, inner = function.partition(".")
    node = _definition(tree, outer)
    if inner:
        node = _definition(node, inner)
    if isinstance(node, ast.ClassDef):
        return sorted(field.target.id for field in node.body if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name))
    arguments = node.args
    names = {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)} - {"self"}
    if arguments.kwarg is not None and inner == "__init__":
        names |= set(_looked_up(node, arguments.kwarg.arg))
    return sorted(names)


def converters(wheel: Wheel) -> dict[str, bool]:
    """Return the operators that have a converter; the value is true where a converter supports dynamic axes."""
    found: dict[str, bool] = {}
    for name in wheel.names(f"{_DYNAMO}/conversion"):
        for call in ast.walk(wheel.parsed(name)):
            if isinstance(call, ast.Call) and _dotted(call.func).endswith("dynamo_tensorrt_converter") and call.args:
                operator = _operator(call.args[0])
                free = any(word.arg == "supports_dynamic_shapes" and ast.unparse(word.value) == "True" for word in call.keywords)
                if operator:
                    found[operator] = found.get(operator, False) or free
    return dict(sorted(found.items()))


def operator_set(tree: ast.Module, name: str) -> list[str]:
    """Return the operators of the set that is assigned to *name*."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and _dotted(node.target) == name and isinstance(node.value, ast.Set):
            return sorted(_operator(element) for element in node.value.elts)
    raise LookupError(name)


def own_decompositions(tree: ast.Module) -> dict[str, list[str]]:
    """Return the operators that the package decomposes itself, each with the ATen operators that its function uses."""
    found: dict[str, list[str]] = {}
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        used = {_operator(part) for statement in node.body for part in ast.walk(statement) if isinstance(part, ast.Attribute)}
        used = {name for name in used if name.startswith("aten.") and name.count(".") > 1}
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and _dotted(call.func) == "register_torch_trt_decomposition":
                found[_operator(call.args[0])] = sorted(used)
    return dict(sorted(found.items()))


def replacements(tree: ast.Module) -> dict[str, str]:
    """Return the operators that a lowering pass replaces, each with its replacement."""
    pairs = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs |= {_operator(key): _operator(value) for key, value in zip(node.keys, node.values, strict=True) if key is not None}
    return {old: new for old, new in pairs.items() if old and new}


def output_pattern(tree: ast.Module) -> list[str]:
    """Return the f-strings that make the names of the engine's outputs."""
    return sorted({ast.unparse(node.value) for node in ast.walk(_definition(tree, "output")) if _is_name(node)})


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and _dotted(node.targets[0]) == "name" and isinstance(node.value, ast.JoinedStr)


def _definition(tree: ast.AST, name: str) -> ast.FunctionDef | ast.ClassDef:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
    raise LookupError(name)


def _looked_up(node: ast.AST, kwargs: str) -> Iterator[str]:
    """Yield the keys that a function reads from its **kwargs, by subscript or `in`."""
    for part in ast.walk(node):
        key = None
        if isinstance(part, ast.Subscript) and _dotted(part.value) == kwargs:
            key = part.slice
        elif isinstance(part, ast.Compare) and _dotted(part.comparators[0]) == kwargs:
            key = part.left
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def _operator(node: ast.AST) -> str:
    """Return aten.add.Tensor for torch.ops.aten.add.Tensor, operator.mul for operator.mul, and "" for a node that is no operator."""
    name = _dotted(node).removeprefix("torch.ops.")
    return name if name.startswith(("aten.", "operator.", "prims.")) else ""


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


if __name__ == "__main__":
    everything = {Wheel(path).version(): facts(path) for path in sys.argv[1:]}
    sys.stdout.write(json.dumps(dict(sorted(everything.items())), indent=1) + "\n")
