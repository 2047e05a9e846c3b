"""Names for the values of an ONNX graph: the module paths that torch's exporter left, or the graph's own."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from outcrop.models.graph import Graph

_SCOPES = "pkg.torch.onnx.name_scopes"
_CLASSES = "pkg.torch.onnx.class_hierarchy"


@dataclass(frozen=True)
class Scope:
    """Where a node comes from.

    Attributes:
        modules: Paths of the modules around it, the outermost first: ``("", "layer1", "layer1.0")``.
        call: Name of the torch operation that it is a part of, unique in the graph.
        function: That operation: ``conv2d``, ``add``.
    """

    modules: tuple[str, ...]
    call: str
    function: str

    @property
    def module(self) -> str:
        return self.modules[-1]


@dataclass(frozen=True)
class Names:
    """Names of layers.

    Attributes:
        layers: Name of the layer, by value.
        aliases: Value, by any other name that it answers to; some may equal a layer's name, which then wins.
        functions: The torch function that a value is the result of, where several nodes make it up.
        inside_blocks: Ends of residual branches whose module goes on: of attention, where a perceptron follows.
    """

    layers: dict[str, str]
    aliases: dict[str, str]
    functions: dict[str, str]
    inside_blocks: frozenset[str]


def name_values(
    graph: Graph, values: Sequence[str], blocks: Mapping[str, str], scopes: Sequence[Scope | None]
) -> Names:
    """Return names for values.

    Args:
        graph: Whole graph.
        values: Values that are layers, in topological order.
        blocks: Outputs of residual blocks, with the addition that each comes from.
        scopes: Of the nodes, see :func:`read_scopes`.
    """
    inner = _inner_values(graph, scopes)
    containers = containers_of(scopes)
    bases, functions = _base_names(graph, values, scopes, inner, containers)
    totals = Counter(bases.values())
    seen: Counter[str] = Counter()
    names, aliases = {}, {}
    for value in values:
        base = bases[value]
        names[value] = base if totals[base] == 1 else f"{base}:{seen[base]}"
        seen[base] += 1
    if any(scopes) and values[:1] == [value.name for value in graph.inputs] and "input" not in names.values():
        names[values[0]] = "input"  # what a torch network calls its only input
    last = _module_outputs(graph, values, scopes)
    for path, value in last.items():
        if path not in containers and path not in totals:
            # A module of several operations hands on the last.
            aliases[names[value]] = value
            names[value] = path
    taken, inside = set(names.values()), set()
    for value in values:
        container = _container(graph, value, blocks, scopes, containers) if value in blocks else None
        if container and last.get(container) == value and container not in taken:
            aliases[names[value]] = value
            names[value] = container
            taken.add(container)
        elif container:
            inside.add(value)
    for path, value in last.items():
        aliases.setdefault(path, value)
    for index, node in enumerate(graph.nodes):
        if node.output and node.output[0] in names:
            aliases.setdefault(node.name or f"{node.op_type}_{index}", node.output[0])
    aliases.update((value, value) for value in values)
    return Names(_unique(names), aliases, functions, frozenset(inside))


def read_scopes(graph: Graph) -> tuple[Scope | None, ...]:
    """Return where each node comes from; None for those of which the exporter says nothing."""
    return tuple(_scope(node) for node in graph.nodes)


def containers_of(scopes: Sequence[Scope | None]) -> frozenset[str]:
    """Return the paths of the modules that hold other modules."""
    return frozenset(parent for scope in scopes if scope is not None for parent in scope.modules[:-1])


def same_block(scopes: Sequence[Scope | None]) -> Callable[[int, int], bool]:
    """Return a function that tells whether the module that holds an addition also holds the activation behind it."""
    containers = containers_of(scopes)

    def together(addition: int, activation: int) -> bool:
        first, second = scopes[addition], scopes[activation]
        if first is None or second is None:
            return True
        # An addition may be a module of its own, within the block.
        holding = [path for path in first.modules if path in containers]
        return not holding or holding[-1] in second.modules

    return together


def _scope(node: NodeProto) -> Scope | None:
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
    parts = classes[-1].split(".")
    function = parts[1] if len(parts) > 1 else parts[0]
    function = re.sub(r"^_?(native_)?|_legit_no_training$|_legit$", "", function).lstrip("_")
    return Scope(modules, scopes[-1], function or node.op_type.lower())


def _inner_values(graph: Graph, scopes: Sequence[Scope | None]) -> set[str]:
    """Return values that only the torch operation that they are a part of takes."""
    found = set()
    for scope, node in zip(scopes, graph.nodes, strict=True):
        for name in node.output:
            takers = [scopes[index] for index in graph.consumers.get(name, ())]
            if scope is not None and takers and name not in graph.outputs and all(taker == scope for taker in takers):
                found.add(name)
    return found


def _base_names(
    graph: Graph,
    values: Sequence[str],
    scopes: Sequence[Scope | None],
    inner: Collection[str],
    containers: Collection[str],
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the name of each value before repetitions are counted, and the functions that values result from."""
    owned: dict[str, set[str]] = {}
    parts: Counter[Scope] = Counter()
    for value in values:
        scope = _scope_of(graph, value, scopes)
        if scope is not None:
            parts[scope] += 1
            if value not in inner:
                owned.setdefault(scope.module, set()).add(scope.function)
    bases, functions = {}, {}
    for value in values:
        scope = _scope_of(graph, value, scopes)
        if scope is None:
            bases[value] = _own_name(graph, value)
            continue
        alone = scope.module and scope.module not in containers and len(owned.get(scope.module, ())) == 1
        base = scope.module if alone else ".".join(filter(None, (scope.module, scope.function)))
        if value in inner:
            bases[value] = f"{base}.{graph.nodes[graph.producer[value]].op_type.lower()}"
        else:
            bases[value] = base
            if parts[scope] > 1:
                functions[value] = scope.function
    return bases, functions


def _own_name(graph: Graph, value: str) -> str:
    """Return the value's own name, or the node's where that is a mere number."""
    if value not in graph.producer or not value.isdecimal():
        return value
    index = graph.producer[value]
    return graph.nodes[index].name or f"{graph.nodes[index].op_type}_{index}"


def _scope_of(graph: Graph, value: str, scopes: Sequence[Scope | None]) -> Scope | None:
    index = graph.producer.get(value)
    return None if index is None else scopes[index]


def _module_outputs(graph: Graph, values: Sequence[str], scopes: Sequence[Scope | None]) -> dict[str, str]:
    """Return the value that is computed last within each module."""
    found: dict[str, str] = {}
    for value in values:
        scope = _scope_of(graph, value, scopes)
        if scope is not None:
            found.update((path, value) for path in scope.modules if path)
    return found


def _container(
    graph: Graph,
    value: str,
    blocks: Mapping[str, str],
    scopes: Sequence[Scope | None],
    containers: Collection[str],
) -> str | None:
    """Return the innermost module that a residual block's addition and its output share."""
    scope, addition = _scope_of(graph, value, scopes), _scope_of(graph, blocks[value], scopes)
    if scope is None or addition is None:
        return None
    shared = [path for path in scope.modules if path in addition.modules and path in containers]
    return shared[-1] if shared else None


def _unique(names: dict[str, str]) -> dict[str, str]:
    """Return the names with a number behind any that another value already has."""
    taken: set[str] = set()
    for value, name in names.items():
        number = 0
        candidate = name
        while candidate in taken:
            number += 1
            candidate = f"{name}:{number}"
        taken.add(candidate)
        names[value] = candidate
    return names
