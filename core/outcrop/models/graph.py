"""An ONNX graph as data: which values depend on the samples, and what shape they have.

Nothing here runs the network. Weights are never copied: they stay in the given model, or in the files
beside it.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path

import onnx
from onnx import external_data_helper, helper, inliner

from outcrop.errors import ModelLoadError

SMALL_TENSOR = 1024
"""Elements up to which a constant may be a shape, an axis or an index, and is shown to shape inference."""

FLOAT_TYPES: Mapping[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.DOUBLE: "float64",
}

_SHAPE_ONLY = {"Shape", "Size", "ConstantOfShape", "EyeLike", "RandomNormalLike", "RandomUniformLike"}
# Two runs of the same node differ, so no two segments may each run it as if it were a constant.
_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}


class Dependence(IntEnum):
    """What a value changes with."""

    NOTHING = 0
    """Weights, constants, and whatever is computed of them alone."""
    SHAPE = 1
    """Shape or type of the inputs: a class token expanded to the batch."""
    DATA = 2
    """The samples."""


@dataclass(frozen=True)
class ValueType:
    """Element type and shape of a value; the shape is None where it is unknown."""

    element_type: int
    shape: tuple[int | None, ...] | None


class Graph:
    """The nodes of a model in topological order, with what each value depends on.

    Args:
        model: With functions of its own inlined; not modified.
        folder: Where external data lies.
    """

    def __init__(self, model: onnx.ModelProto, *, folder: Path | None = None) -> None:
        if model.functions:
            model = inliner.inline_local_functions(model)
        self.model = model
        self.folder = folder
        graph = model.graph
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.sparse_initializers = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        constants = self.initializers.keys() | self.sparse_initializers.keys()
        # Files of IR version 3 list every weight as an input too.
        self.inputs = tuple(value for value in graph.input if value.name not in constants)
        self.outputs = tuple(value.name for value in graph.output)
        self.nodes = _sorted(list(graph.node), constants | {value.name for value in self.inputs})
        self.needs = tuple(tuple(_needed_values(node)) for node in self.nodes)
        self.producer = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        known = constants | self.producer.keys() | {value.name for value in self.inputs}
        for node, names in zip(self.nodes, self.needs, strict=True):
            if not known.issuperset(names):
                missing = next(name for name in names if name not in known)
                raise ModelLoadError(
                    f"The graph is incomplete: a {node.op_type} takes {missing!r}, which nothing computes."
                )

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of all weights, those in files beside the model included."""
        return sum(
            elements(tensor) * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
            for tensor in self.initializers.values()
        )

    @cached_property
    def consumers(self) -> dict[str, list[int]]:
        """Positions of the nodes that take a value."""
        found: dict[str, list[int]] = {}
        for index, names in enumerate(self.needs):
            for name in names:
                found.setdefault(name, []).append(index)
        return found

    @cached_property
    def dependence(self) -> dict[str, Dependence]:
        """What each value changes with."""
        found = dict.fromkeys([*self.initializers, *self.sparse_initializers], Dependence.NOTHING)
        found.update(dict.fromkeys((value.name for value in self.inputs), Dependence.DATA))
        for node, names in zip(self.nodes, self.needs, strict=True):
            depends = max((found.get(name, Dependence.NOTHING) for name in names), default=Dependence.NOTHING)
            # The second input of CastLike gives its type alone.
            flows = names[:1] if node.op_type == "CastLike" else names
            of_data = any(found.get(name) == Dependence.DATA for name in flows)
            if node.op_type in _SHAPE_ONLY or not of_data:
                depends = min(depends, Dependence.SHAPE)
            if node.op_type in _RANDOM:
                depends = max(depends, Dependence.SHAPE)
            found.update((name, depends) for name in node.output if name)
            if node.op_type == "Dropout":  # the mask, which keeps everything unless the network is trained
                found.update((name, min(depends, Dependence.SHAPE)) for name in node.output[1:] if name)
        return found

    def depends_on_data(self, name: str) -> bool:
        """Return whether a value changes with the samples."""
        return self.dependence.get(name) == Dependence.DATA

    def tensor(self, name: str) -> onnx.TensorProto:
        """Return an initialiser together with its data, read from its file where it lies in one.

        Raises:
            ModelLoadError: The file cannot be read.
        """
        tensor: onnx.TensorProto = self.initializers[name]
        if not external_data_helper.uses_external_data(tensor):
            return tensor
        loaded = onnx.TensorProto()
        loaded.CopyFrom(tensor)
        try:
            external_data_helper.load_external_data_for_tensor(loaded, str(self.folder))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise ModelLoadError(
                f"The weight {name!r} lies in a file of its own that cannot be read: {first_line(error)}"
            ) from error
        return loaded

    def infer(self, sizes: Mapping[str, Sequence[int]]) -> dict[str, ValueType]:
        """Return types and shapes of all values that ONNX shape inference finds.

        Args:
            sizes: Shape of every input.
        """
        skeleton = onnx.ModelProto(ir_version=max(self.model.ir_version, 4))
        skeleton.opset_import.extend(self.model.opset_import)
        graph = skeleton.graph
        graph.name = "skeleton"
        graph.node.extend(self.nodes)
        for value in self.inputs:
            shape = list(sizes[value.name])
            graph.input.append(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape))
        for tensor in self.initializers.values():
            if elements(tensor) <= SMALL_TENSOR:
                graph.initializer.append(self.tensor(tensor.name))
            else:
                graph.initializer.append(
                    onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
                )
        for output in self.model.graph.output:
            bare = onnx.ValueInfoProto(name=output.name)
            if output.type.HasField("tensor_type"):
                bare.type.tensor_type.elem_type = output.type.tensor_type.elem_type
            graph.output.append(bare)
        inferred = onnx.shape_inference.infer_shapes(skeleton, data_prop=True).graph
        found = {value.name: _value_type(value) for value in [*inferred.value_info, *inferred.output, *graph.input]}
        return {name: value for name, value in found.items() if value is not None}


def elements(tensor: onnx.TensorProto) -> int:
    """Return the number of elements of a tensor."""
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line without a full stop."""
    return " ".join(str(error).split()).rstrip(".")


def _value_type(value: onnx.ValueInfoProto) -> ValueType | None:
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.elem_type:
        return None
    tensor_type = value.type.tensor_type
    if not tensor_type.HasField("shape"):
        return ValueType(tensor_type.elem_type, None)
    return ValueType(
        tensor_type.elem_type,
        tuple(size.dim_value if size.HasField("dim_value") else None for size in tensor_type.shape.dim),
    )


def _needed_values(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node takes, those that its subgraphs (If, Loop, Scan) take from outside included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs
        for graph in graphs:
            inside = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            inside.update(tensor.values.name for tensor in graph.sparse_initializer)
            for child in graph.node:
                yield from (name for name in _needed_values(child) if name not in inside)
                inside.update(child.output)
            yield from (value.name for value in graph.output if value.name not in inside)


def _sorted(nodes: list[onnx.NodeProto], known: set[str]) -> tuple[onnx.NodeProto, ...]:
    """Return the nodes in topological order, in their own order where that is one already."""
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name and name not in known}
    waiting: list[set[int]] = [{producer[name] for name in _needed_values(node) if name in producer} for node in nodes]
    followers: dict[int, list[int]] = {}
    for index, needed in enumerate(waiting):
        for other in needed:
            followers.setdefault(other, []).append(index)
    ready = [index for index, needed in enumerate(waiting) if not needed]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for follower in followers.get(index, ()):
            waiting[follower].discard(index)
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    if len(order) < len(nodes):
        stuck = next(node for node, needed in zip(nodes, waiting, strict=True) if needed)
        raise ModelLoadError(
            f"The graph has a cycle at the {stuck.op_type} that computes {stuck.output[0]!r}; ONNX graphs have none."
        )
    return tuple(nodes[index] for index in order)
