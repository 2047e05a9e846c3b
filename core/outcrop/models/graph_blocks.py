"""The blocks of a graph whose modules are known, by the rule for torch networks."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from outcrop.models.activations import is_activation
from outcrop.models.block_rule import Container, blocks_among
from outcrop.models.graph import FLOAT_TYPES, Dependence, Graph, ValueType
from outcrop.models.graph_roles import REARRANGING, function_kind, node_kind
from outcrop.models.graph_scopes import Scope, containers_of

_SEQUENCE = "torch.nn.modules.container.Sequential"


def module_blocks(
    graph: Graph,
    outputs: Mapping[str, str],
    scopes: Sequence[Scope | None],
    shapes: Mapping[str, tuple[int, ...]],
    types: Mapping[str, ValueType],
) -> dict[str, str]:
    """Return the outputs of blocks, each with the path of its module.

    Args:
        graph: Whole graph.
        outputs: Value that each module hands on, by path.
        scopes: Of the nodes.
        shapes: Of one sample, by value.
        types: Of all values.
    """
    containers = containers_of(scopes)
    weighted = _with_parameters(graph, scopes, types)
    classes = _classes(scopes, containers)
    blocks = blocks_among(
        Container(
            path,
            classes[path],
            _class_name(classes[path]),
            residual=_is_residual(graph, path, value, scopes, containers, shapes),
        )
        for path, value in outputs.items()
        if path in containers and path in weighted and classes.get(path, _SEQUENCE) != _SEQUENCE
    )
    return {outputs[path]: path for path in blocks}


def _with_parameters(graph: Graph, scopes: Sequence[Scope | None], types: Mapping[str, ValueType]) -> frozenset[str]:
    """Return the paths of the modules that take weights, or that hold modules that do."""
    found: set[str] = set()
    for scope, node in zip(scopes, graph.nodes, strict=True):
        if scope is None or found.issuperset(scope.modules):
            continue
        if any(_is_weight(graph, name, types) for name in node.input):
            found.update(scope.modules)
    return frozenset(found)


def _is_weight(graph: Graph, name: str, types: Mapping[str, ValueType]) -> bool:
    if graph.dependence.get(name) != Dependence.NOTHING:
        return False
    tensor = graph.initializers.get(name)
    if tensor is not None:
        return tensor.data_type in FLOAT_TYPES and len(tensor.dims) > 0
    return name in types and types[name].element_type in FLOAT_TYPES and bool(types[name].shape)


def _classes(scopes: Sequence[Scope | None], containers: frozenset[str]) -> dict[str, object]:
    """Return what stands for the class of each container: its name, else where it is and what it holds."""
    named: dict[str, object] = {}
    children: defaultdict[str, set[str]] = defaultdict(set)
    for scope in scopes:
        if scope is None:
            continue
        for path, class_name, child in zip(scope.modules, scope.classes, scope.modules[1:], strict=False):
            named[path] = class_name
            children[path].add(child[len(path) + 1 :] if path else child)
    unknown = {path: children[path] for path, class_name in named.items() if not class_name and path in containers}
    return named | _alike(unknown)


def _alike(children: Mapping[str, set[str]]) -> dict[str, object]:
    """Return one key for modules in like places of which one holds all that the others do (a shortcut is optional)."""
    largest: defaultdict[str, list[frozenset[str]]] = defaultdict(list)
    found: dict[str, object] = {}
    for path, names in sorted(children.items(), key=lambda item: -len(item[1])):
        if all(name.isdecimal() for name in names):
            found[path] = _SEQUENCE
            continue
        place = re.sub(r"\d+[a-z]?(?=\.|$)|\d+", "#", path)  # inception4b too
        whole = next((other for other in largest[place] if names <= other), None)
        if whole is None:
            whole = frozenset(names)
            largest[place].append(whole)
        found[path] = (place, whole)
    return found


def _class_name(key: object) -> str:
    return key.rpartition(".")[2] if isinstance(key, str) else ""


def _is_residual(
    graph: Graph,
    path: str,
    value: str,
    scopes: Sequence[Scope | None],
    containers: frozenset[str],
    shapes: Mapping[str, tuple[int, ...]],
) -> bool:
    """Return whether a value is a join made in a module's own forward, or an activation or norm of one."""

    def joined_here(name: str) -> bool:
        index = graph.producer.get(name)
        scope = None if index is None else scopes[index]
        if index is None or scope is None or scope.function not in ("add", "cat", "concat"):
            return False
        holding = [outer for outer in scope.modules if outer in containers]
        several = sum(graph.depends_on_data(other) for other in graph.nodes[index].input) > 1
        return several and holding[-1:] == [path]

    while (node := graph.nodes[graph.producer[value]]).op_type in REARRANGING and node.input[0] in graph.producer:
        value = node.input[0]  # as a shuffle of channels does
    if joined_here(value):
        return True
    return _passes_on(graph, graph.producer[value], scopes, shapes) and any(
        joined_here(parent) for parent in _parents(graph, value, scopes, containers)
    )


def _passes_on(graph: Graph, index: int, scopes: Sequence[Scope | None], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    scope, node = scopes[index], graph.nodes[index]
    if node_kind(graph, node, shapes) in ("act", "norm"):
        return True
    return scope is not None and (is_activation(scope.function) or function_kind(scope.function) in ("act", "norm"))


def _parents(graph: Graph, value: str, scopes: Sequence[Scope | None], containers: frozenset[str]) -> set[str]:
    """Return what the operation that computes a value takes, however many nodes it has."""
    found, waiting = set(), [graph.producer[value]]
    own = _operation(scopes[waiting[0]], containers)
    visited = set(waiting)
    while waiting:
        for name in graph.needs[waiting.pop()]:
            index = graph.producer.get(name)
            if index is None or _operation(scopes[index], containers) != own:
                found.add(name)
            elif index not in visited:
                visited.add(index)
                waiting.append(index)
    return found


def _operation(scope: Scope | None, containers: frozenset[str]) -> str | None:
    """Return what nodes of one operation share: a module without children, or the call of a function."""
    if scope is None:
        return None
    return scope.module if scope.module not in containers else scope.call
