"""Where the nodes of a graph come from: the modules and functions that torch's exporters leave a note of.

The exporter of torch 2 writes paths, classes and functions into the metadata of each node. The older one, on
TorchScript, puts the path into the name of the node (``/layer1/layer1.0/conv1/Conv``) and says nothing of classes.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from onnx import NodeProto

from outcrop.models.graph import Graph

_SCOPES = "pkg.torch.onnx.name_scopes"
_CLASSES = "pkg.torch.onnx.class_hierarchy"

_FUNCTIONS: Mapping[str, str] = {
    "Concat": "cat",
    "Gemm": "linear",
    "MatMul": "matmul",
    "ReduceMean": "mean",
    "Sum": "add",
    "BatchNormalization": "batch_norm",
    "LayerNormalization": "layer_norm",
}
"""What torch calls some operators; most have the same name in lower case."""

_FOLDED = re.compile(r"onnx::Conv(Transpose)?_\d+")


@dataclass(frozen=True)
class Scope:
    """Where a node comes from.

    Attributes:
        modules: Paths of the modules around it, the outermost first: ``("", "layer1", "layer1.0")``.
        classes: Of these modules, with their package; empty texts where they are not known.
        call: Name of the torch operation that it is a part of, unique in the graph.
        function: That operation: ``conv2d``, ``add``.
        folded: Whether a batch norm of unknown name is folded into this convolution.
    """

    modules: tuple[str, ...]
    classes: tuple[str, ...]
    call: str
    function: str
    folded: bool = False

    @property
    def module(self) -> str:
        return self.modules[-1]

    @property
    def class_name(self) -> str:
        """Class of the innermost module, without its package."""
        return self.classes[-1].rpartition(".")[2]


def read_scopes(graph: Graph) -> tuple[Scope | None, ...]:
    """Return where each node comes from; None for those of which the exporter says nothing."""
    scopes = tuple(_of_metadata(node) for node in graph.nodes)
    if any(scopes):
        return scopes
    return _without_call_numbers(graph, tuple(_of_name(node, position) for position, node in enumerate(graph.nodes)))


def containers_of(scopes: Sequence[Scope | None]) -> frozenset[str]:
    """Return the paths of the modules that hold other modules."""
    return frozenset(parent for scope in scopes if scope is not None for parent in scope.modules[:-1])


def scope_of(graph: Graph, value: str, scopes: Sequence[Scope | None]) -> Scope | None:
    """Return where a value comes from."""
    index = graph.producer.get(value)
    return None if index is None else scopes[index]


def module_outputs(graph: Graph, values: Sequence[str], scopes: Sequence[Scope | None]) -> dict[str, str]:
    """Return what each module hands on: the last of its values that is an output or taken outside it, by path."""
    found: dict[str, str] = {}
    for value in values:
        scope = scope_of(graph, value, scopes)
        if scope is None:
            continue
        takers = [
            scopes[index]
            for index in graph.consumers.get(value, ())
            if any(graph.depends_on_data(name) for name in graph.nodes[index].output)
        ]
        for path in scope.modules:
            if path and (value in graph.outputs or any(taker is None or path not in taker.modules for taker in takers)):
                found[path] = value
    return found


def _of_metadata(node: NodeProto) -> Scope | None:
    notes = {entry.key: entry.value for entry in node.metadata_props}
    try:
        scopes = ast.literal_eval(notes[_SCOPES])
        classes = ast.literal_eval(notes[_CLASSES])
    except (KeyError, ValueError, SyntaxError):
        return None
    if not scopes or not classes or scopes[0] != "":
        return None  # shape arithmetic that belongs to no module
    # A module that is called again has the number of the call behind its path.
    modules = tuple(re.sub(r"@\d+$", "", path) for path in scopes[:-1]) or ("",)
    names = tuple(classes[:-1]) if len(classes) == len(scopes) > 1 else ("",) * len(modules)
    return Scope(modules, names, scopes[-1], _function(classes[-1]) or node.op_type.lower())


def _function(target: str) -> str:
    """Return the plain name of what torch calls: ``add`` for ``aten.add.Tensor``."""
    builtin = re.fullmatch(r"<built-in function (\w+)>", target)
    if builtin:
        return builtin[1]
    parts = target.split(".")
    function = parts[1] if len(parts) > 1 else parts[0]
    return re.sub(r"^_?(native_)?|_legit_no_training$|_legit$", "", function).lstrip("_")


def _of_name(node: NodeProto, position: int) -> Scope | None:
    parts = node.name.split("/")
    if len(parts) < 2 or parts[0] or not re.fullmatch(re.escape(node.op_type) + r"(_\d+)?", parts[-1]):
        return None
    modules = [""]
    last = ""
    for part in parts[1:-1]:
        # The children of a sequence repeat its name: /layer1/layer1.0
        own = part[len(last) + 1 :] if last and part.startswith(last + ".") else part
        modules.append(f"{modules[-1]}.{own}" if modules[-1] else own)
        last = part
    weights = node.input[1:]
    folded = len(weights) == 2 and all(_FOLDED.fullmatch(name) for name in weights)
    function = _FUNCTIONS.get(node.op_type) or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.op_type).lower()
    return Scope(tuple(modules), ("",) * len(modules), f"{node.name}#{position}", function, folded)


def _without_call_numbers(graph: Graph, scopes: tuple[Scope | None, ...]) -> tuple[Scope | None, ...]:
    """Return the scopes with one path for all calls of a module: ``relu`` for ``relu_1``.

    A number is part of the name where weights carry it, or where the path without it does not come before.
    """
    weighted = {name.rsplit(".", count)[0] for name in graph.initializers for count in range(1, name.count(".") + 1)}
    seen: set[str] = set()
    found: list[Scope | None] = []
    for scope in scopes:
        if scope is None:
            found.append(None)
            continue
        plain = [""]
        for outer, path in zip(scope.modules, scope.modules[1:], strict=False):
            own = path[len(outer) + 1 :] if outer else path
            prefix = f"{plain[-1]}." if plain[-1] else ""
            bare = re.sub(r"_\d+$", "", own)
            again = bare != own and prefix + bare in seen and prefix + own not in weighted
            plain.append(prefix + (bare if again else own))
        seen.update(plain)
        found.append(replace(scope, modules=tuple(plain)))
    return tuple(found)
