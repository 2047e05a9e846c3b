"""Names for the values of an ONNX graph: the module paths that torch's exporter left, or the graph's own."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from outcrop.models.graph import Graph
from outcrop.models.graph_roles import REARRANGING
from outcrop.models.graph_scopes import Scope, containers_of, scope_of
from outcrop.models.kinds import IGNORED_OPERATIONS


@dataclass(frozen=True)
class Names:
    """Names of layers.

    Attributes:
        layers: Name of the layer, by value.
        aliases: Value, by any other name that it answers to; some may equal a layer's name, which then wins.
        functions: The torch function that a value is the result of, where several nodes make it up.
    """

    layers: dict[str, str]
    aliases: dict[str, str]
    functions: dict[str, str]


def name_values(
    graph: Graph,
    values: Sequence[str],
    blocks: Mapping[str, str],
    scopes: Sequence[Scope | None],
    outputs: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
) -> Names:
    """Return names for values.

    Args:
        graph: Whole graph.
        values: Values that are layers, in topological order.
        blocks: Outputs of blocks, with the path of the module that each is.
        scopes: Of the nodes.
        outputs: Value that each module hands on, by path.
        shapes: Of one sample, by value.
    """
    inner = _inner_values(graph, scopes)
    containers = containers_of(scopes)
    bases, functions = _base_names(graph, values, scopes, inner, containers, shapes)
    totals = Counter(bases.values())
    seen: Counter[str] = Counter()
    names, aliases = {}, {}
    for value in values:
        base = bases[value]
        names[value] = base if totals[base] == 1 else f"{base}:{seen[base]}"
        seen[base] += 1
    if any(scopes) and values[:1] == [value.name for value in graph.inputs] and "input" not in names.values():
        names[values[0]] = "input"  # what a torch network calls its only input
    for path, value in outputs.items():
        scope = scope_of(graph, value, scopes)
        if path in totals or scope is None or scope.folded:
            continue
        # A module of several operations hands on the last, and so does one that only rearranges what its children do.
        if path not in containers or (scope.module == path and _rearranges(graph, value, scope)):
            aliases[names[value]] = value
            names[value] = path
    for value, path in blocks.items():
        if value in names and path not in names.values():
            aliases[names[value]] = value
            names[value] = path
    for path, value in outputs.items():
        folded = (scope := scope_of(graph, value, scopes)) is not None and scope.folded and scope.module == path
        if not folded:
            aliases.setdefault(path, value)
    for index, node in enumerate(graph.nodes):
        if node.output and node.output[0] in names:
            aliases.setdefault(node.name or f"{node.op_type}_{index}", node.output[0])
    aliases.update((value, value) for value in values)
    return Names(_unique(names), aliases, functions)


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
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the name of each value before repetitions are counted, and the functions that values result from."""
    owned: dict[str, set[str]] = {}
    parts: Counter[Scope] = Counter()
    for value in values:
        scope = scope_of(graph, value, scopes)
        if scope is not None:
            parts[scope] += 1
            if value not in inner:
                owned.setdefault(scope.module, set()).add(scope.function)
    bases, functions = {}, {}
    for value in values:
        scope = scope_of(graph, value, scopes)
        if scope is None:
            bases[value] = _own_name(graph, value)
            continue
        alone = scope.module and scope.module not in containers and len(owned.get(scope.module, ())) == 1
        if scope.folded:
            bases[value] = f"{scope.module}+norm"
            continue
        function = "flatten" if _flattens(graph, value, scope, shapes) else scope.function
        base = scope.module if alone else ".".join(filter(None, (scope.module, function)))
        if value in inner:
            bases[value] = f"{base}.{graph.nodes[graph.producer[value]].op_type.lower()}"
        else:
            bases[value] = base
            if parts[scope] > 1:
                functions[value] = scope.function
    return bases, functions


def _flattens(graph: Graph, value: str, scope: Scope, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether a view only makes one dimension of neighbouring ones, which is how flattening is exported."""
    node = graph.nodes[graph.producer[value]]
    if scope.function not in ("view", "reshape") or not node.input or node.input[0] not in shapes:
        return False
    before, after = shapes[node.input[0]], shapes[value]
    merged = len(before) - len(after) + 1
    return merged > 1 and any(
        before[:axis] == after[:axis]
        and after[axis] == prod(before[axis : axis + merged])
        and before[axis + merged :] == after[axis + 1 :]
        for axis in range(len(after))
    )


def _rearranges(graph: Graph, value: str, scope: Scope) -> bool:
    """Return whether a function only moves or selects values, so that no torch layer is called after it."""
    return scope.function in IGNORED_OPERATIONS or graph.nodes[graph.producer[value]].op_type in REARRANGING


def _own_name(graph: Graph, value: str) -> str:
    """Return the value's own name, or the node's where that is a mere number."""
    if value not in graph.producer or not value.isdecimal():
        return value
    index = graph.producer[value]
    return graph.nodes[index].name or f"{graph.nodes[index].op_type}_{index}"


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
