"""Names for the dimensions of the values of an ONNX graph."""

from collections.abc import Mapping

from onnx import NodeProto, helper

from outcrop.models.attention import MAP_DIMENSIONS
from outcrop.models.graph import Graph
from outcrop.models.graph_roles import node_kind

_CONVOLUTIONS = ("Conv", "ConvTranspose", "DeformConv", "FusedConv", "ConvInteger", "QLinearConv")


def dimension_names(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], channels_last: Mapping[str, bool]
) -> dict[str, tuple[str, ...]]:
    """Return names for the dimensions of one sample, by value.

    Args:
        graph: Whole graph.
        shapes: Of one sample, by value, whatever its type.
        channels_last: Inputs that are images, by name, and whether their channels come last.
    """
    found: dict[str, tuple[str, ...]] = {}
    for value in graph.inputs:
        if value.name in channels_last:
            found[value.name] = ("y", "x", "channel") if channels_last[value.name] else ("channel", "y", "x")
        elif value.name in shapes:
            found[value.name] = _plain(len(shapes[value.name]))
    for node, names in zip(graph.nodes, graph.needs, strict=True):
        sources = [name for name in names if name in found]
        for name in node.output:
            if name in shapes:
                found[name] = _from_sources(graph, node, shapes[name], sources, shapes, found)
    return found


def _from_sources(
    graph: Graph,
    node: NodeProto,
    shape: tuple[int, ...],
    sources: list[str],
    shapes: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    rank = len(shape)
    if node.op_type in _CONVOLUTIONS or node.op_type.endswith("Pool"):
        return _channels_first(rank)
    if not sources:
        return _plain(rank)
    source, names = shapes[sources[0]], found[sources[0]]
    if node.op_type == "Transpose" and len(source) == rank:
        order = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "perm"), None)
        if order is not None and order[0] == 0:
            return _plain(rank) if names == _plain(rank) and rank > 2 else tuple(names[axis - 1] for axis in order[1:])
        return _plain(rank)
    if (node.op_type == "Reshape" and rank != len(source)) or node.op_type == "Flatten":
        if names[:1] == ("channel",) and rank == 2 and shape[0] == source[0]:
            return ("feature", "token")  # patches before they are transposed
        if rank == 3 and len(source) > 2 and shape[-2:] == source[-2:]:
            return _channels_first(rank)
        return _plain(rank)
    numbered = tuple(f"dim_{axis + 1}" for axis in range(rank))
    if node.op_type == "Softmax" and rank == 3 and node_kind(graph, node, shapes) == "attention":
        return MAP_DIMENSIONS
    if node.op_type in ("MatMul", "Einsum"):
        if len(sources) > 1:
            return numbered
        return names if len(names) == rank and names != numbered else _plain(rank)
    alike = [found[name] for name in sources if len(shapes[name]) == rank]
    return alike[0] if alike else _plain(rank)


def _plain(rank: int) -> tuple[str, ...]:
    return {1: ("feature",), 2: ("token", "feature")}.get(rank) or tuple(f"dim_{k + 1}" for k in range(rank))


def _channels_first(rank: int) -> tuple[str, ...]:
    if rank in (2, 3):
        return ("channel", "y", "x") if rank == 3 else ("channel", "x")
    return ("channel", *(f"dim_{axis + 1}" for axis in range(1, rank)))
