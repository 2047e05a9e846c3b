"""Cut a graph into consecutive pieces whose wanted values fit a memory budget together.

ONNX Runtime hands out declared outputs only, all of them at the end of a run. Pieces that run one after
the other, each on what the earlier ones left behind, give every value in a single pass through the network.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx

from outcrop.models.graph import Dependence, Graph, ValueType


@dataclass(frozen=True)
class Segment:
    """One piece of a graph.

    Attributes:
        nodes: Positions of its nodes, constant ones that it needs included.
        inputs: Values that it takes: graph inputs, and values of earlier segments.
        outputs: Values that it gives: wanted ones, and those that later segments take.
        wanted: The wanted values among its outputs, in topological order.
        last_use: Values that no later segment takes.
    """

    nodes: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    wanted: tuple[str, ...]
    last_use: tuple[str, ...]


def cut(
    graph: Graph,
    wanted: Collection[str],
    *,
    value_bytes: Mapping[str, int],
    memory_budget: int,
    crossable: Collection[str] | None = None,
) -> tuple[Segment, ...]:
    """Return the segments that compute the wanted values and nothing beyond, in the order they run.

    Args:
        graph: Whole graph.
        wanted: Names of values that some node computes.
        value_bytes: Size of each wanted value.
        memory_budget: Bytes that the wanted values of one segment may take; one value alone may take more.
        crossable: Names that one segment may hand to another (tensors of known type); None stands for all.
    """
    needed = _ancestors(graph, [graph.producer[name] for name in wanted])
    groups: list[list[int]] = []
    group: list[int] = []
    full = 0  # nodes of the group up to its last wanted value: cut there, what crosses is held already
    held = 0
    for index in needed:
        here = [name for name in graph.nodes[index].output if name in wanted]
        if not here and not _depends(graph, index):
            continue
        size = sum(value_bytes.get(name, 0) for name in here)
        if size and held and held + size > memory_budget and _can_cross(graph, needed, group[full - 1], crossable):
            groups.append(group[:full])
            group = group[full:]
            held = 0
        group.append(index)
        if here:
            full = len(group)
            held += size
    groups.append(group)
    return _segments(graph, groups, wanted)


def build(graph: Graph, segment: Segment, types: Mapping[str, ValueType]) -> onnx.ModelProto:
    """Return a segment as a model of its own; weights in files stay there."""
    # From version 4 on, weights are constants and need not be inputs as well.
    model = onnx.ModelProto(ir_version=max(graph.model.ir_version, 4))
    model.opset_import.extend(graph.model.opset_import)
    part = model.graph
    part.name = "segment"
    part.node.extend(graph.nodes[index] for index in segment.nodes)
    names = dict.fromkeys(name for index in segment.nodes for name in graph.needs[index])
    names.update(dict.fromkeys(segment.outputs))
    part.initializer.extend(graph.initializers[name] for name in names if name in graph.initializers)
    part.sparse_initializer.extend(
        graph.sparse_initializers[name] for name in names if name in graph.sparse_initializers
    )
    declared = {value.name: value for value in graph.inputs}
    for name in segment.inputs:
        part.input.append(declared[name] if name in declared else _value_info(name, types[name]))
    for name in segment.outputs:
        # The runtime infers types of outputs by itself; a shape stated here could only contradict it.
        part.output.append(onnx.ValueInfoProto(name=name))
    return model


def _segments(graph: Graph, groups: Sequence[Sequence[int]], wanted: Collection[str]) -> tuple[Segment, ...]:
    taken_by = [
        {name for index in group for name in graph.needs[index] if graph.dependence[name] > Dependence.NOTHING}
        for group in groups
    ]
    found: list[Segment] = []
    for position, group in enumerate(groups):
        made = [name for index in group for name in graph.nodes[index].output if name]
        later: set[str] = set().union(*taken_by[position + 1 :])
        constants = _ancestors(graph, group, through=Dependence.NOTHING)
        inputs = [
            name
            for name in dict.fromkeys(name for index in group for name in graph.needs[index])
            if name in taken_by[position] and name not in made
        ]
        found.append(
            Segment(
                nodes=tuple(sorted({*group, *constants})),
                inputs=tuple(inputs),
                outputs=tuple(name for name in made if name in wanted or name in later),
                wanted=tuple(name for name in made if name in wanted),
                last_use=tuple(name for name in [*inputs, *made] if name not in later),
            )
        )
    return tuple(found)


def _depends(graph: Graph, index: int) -> bool:
    """Return whether a node computes anything that constants alone do not give."""
    return any(graph.dependence[name] > Dependence.NOTHING for name in graph.nodes[index].output if name)


def _ancestors(graph: Graph, start: Sequence[int], *, through: Dependence = Dependence.DATA) -> list[int]:
    """Return the nodes that others need, those included, in order; only by way of values up to a dependence."""
    found = set(start)
    waiting = list(start)
    while waiting:
        for name in graph.needs[waiting.pop()]:
            index = graph.producer.get(name)
            if index is not None and index not in found and graph.dependence[name] <= through:
                found.add(index)
                waiting.append(index)
    return sorted(found)


def _can_cross(graph: Graph, needed: Sequence[int], last: int, crossable: Collection[str] | None) -> bool:
    """Return whether all that nodes behind a cut take of those before it can be handed over."""
    if crossable is None:
        return True
    before = {name for index in needed if index <= last for name in graph.nodes[index].output}
    after = {name for index in needed if index > last for name in graph.needs[index]}
    return all(name in crossable for name in before & after if graph.dependence[name] > Dependence.NOTHING)


def _value_info(name: str, value: ValueType) -> onnx.ValueInfoProto:
    info = onnx.ValueInfoProto(name=name)
    info.type.tensor_type.elem_type = value.element_type
    if value.shape is not None:
        for size in value.shape:
            dimension = info.type.tensor_type.shape.dim.add()
            if size is not None:
                dimension.dim_value = size
    return info
