"""The layers of an ONNX graph: every floating-point value that depends on the samples and has their dimension.

Quantised values count as the floats that they stand for.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx

from outcrop.errors import ModelLoadError
from outcrop.models.graph import FLOAT_TYPES, Graph, ValueType
from outcrop.models.graph_blocks import module_blocks
from outcrop.models.graph_dimensions import dimension_names
from outcrop.models.graph_kinds import Roles
from outcrop.models.graph_names import name_values
from outcrop.models.graph_quantised import Quantised, computed_by, quantised_values
from outcrop.models.graph_roles import residual_outputs
from outcrop.models.graph_scopes import module_outputs, read_scopes
from outcrop.models.model import InputSpec, Layer, LayerKind

DEFAULT_IMAGE_SIZE = 224
"""Height and width of images where a graph leaves them open."""

DEFAULT_LENGTH = 16
"""Any other size that a graph leaves open, such as the number of tokens, as far as shapes of layers are concerned."""

Probe = Callable[[Mapping[str, Sequence[int]], Sequence[str]], Mapping[str, ValueType]]
"""Runs the graph on made-up inputs of the given shapes, returns what it found of the named values."""


@dataclass(frozen=True)
class GraphInput:
    """One input of a graph.

    Attributes:
        name: In the graph.
        element_type: ONNX element type.
        sizes: Of all dimensions: a number, the name of an open size, or None.
    """

    name: str
    element_type: int
    sizes: tuple[int | str | None, ...]

    @property
    def spec(self) -> InputSpec:
        """What a model says of it."""
        shape = tuple(size if isinstance(size, int) else None for size in self.sizes[1:])
        return InputSpec(self.name, shape, element_name(self.element_type))

    @property
    def channels_last(self) -> bool | None:
        """Whether the channels of an image come last; None where it is not an image."""
        if len(self.sizes) != 4 or self.element_type not in FLOAT_TYPES:
            return None
        if self.sizes[1] in (1, 3):
            return False
        return True if self.sizes[3] in (1, 3) else None


@dataclass(frozen=True)
class GraphLayers:
    """What is known of a graph's layers.

    Attributes:
        layers: In topological order.
        values: Name of the graph's value, by layer name.
        aliases: Layer name, by other names: of values, nodes, module paths.
        types: Types of all values; the sample dimension is open.
        quantised: What the integers of quantised layers stand for, by value.
    """

    layers: tuple[Layer, ...]
    values: dict[str, str]
    aliases: dict[str, str]
    types: dict[str, ValueType]
    quantised: dict[str, Quantised]


def read_inputs(graph: Graph) -> tuple[GraphInput, ...]:
    """Return the inputs of a graph.

    Raises:
        ModelLoadError: An input is not a tensor whose first dimension can be the sample.
    """
    found = []
    for value in graph.inputs:
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type") or not tensor.HasField("shape") or not tensor.shape.dim:
            raise ModelLoadError(
                f"The input {value.name!r} is not a tensor with a first dimension of samples; "
                "export the network with such inputs."
            )
        if tensor.elem_type in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
            raise ModelLoadError(f"The input {value.name!r} takes text, and not numbers; leave the tokeniser out.")
        sizes = tuple(
            size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else size.dim_param or None
            for size in tensor.shape.dim
        )
        found.append(GraphInput(value.name, tensor.elem_type, sizes))
    return tuple(found)


def fixed_batch_size(inputs: Sequence[GraphInput]) -> int | None:
    """Return the batch size that a graph is fixed at, or None."""
    return next((given.sizes[0] for given in inputs if isinstance(given.sizes[0], int)), None)


def concrete_sizes(
    inputs: Sequence[GraphInput], batch_size: int, image_size: tuple[int, int] | None
) -> dict[str, tuple[int, ...]]:
    """Return a shape for every input, with plausible sizes where the graph leaves them open."""
    batch_names = {given.sizes[0] for given in inputs if isinstance(given.sizes[0], str)}
    height, width = image_size or (DEFAULT_IMAGE_SIZE, DEFAULT_IMAGE_SIZE)
    shapes = {}
    for given in inputs:
        shape = []
        for axis, size in enumerate(given.sizes):
            spatial = given.channels_last is not None and axis - (0 if given.channels_last else 1) in (1, 2)
            if isinstance(size, int):
                shape.append(size)
            elif axis == 0 or size in batch_names:
                shape.append(batch_size)
            elif spatial:
                shape.append(height if axis - (0 if given.channels_last else 1) == 1 else width)
            else:
                shape.append(DEFAULT_LENGTH)
        shapes[given.name] = tuple(shape)
    return shapes


def read_layers(
    graph: Graph, inputs: Sequence[GraphInput], probe: Probe, image_size: tuple[int, int] | None
) -> GraphLayers:
    """Return the layers of a graph.

    Shapes come from ONNX shape inference at two batch sizes, so that the sample dimension tells itself from others;
    values that inference cannot follow are looked up in a run.

    Args:
        graph: Whole graph.
        inputs: Its inputs.
        probe: Runs the graph.
        image_size: Height and width to assume where the graph leaves them open.
    """
    fixed = fixed_batch_size(inputs)
    batch_sizes = (fixed,) if fixed is not None else (2, 3)
    tables = [_types_at(graph, concrete_sizes(inputs, size, image_size), probe) for size in batch_sizes]
    # Lengths and image sizes that are open were made up here; any may come.
    resizable = any(not isinstance(size, int) for given in inputs for size in given.sizes[1:])
    shapes: dict[str, tuple[int, ...]] = {}
    types: dict[str, ValueType] = {}
    for name, first in tables[0].items():
        both = [table[name].shape if name in table else None for table in tables]
        types[name] = ValueType(first.element_type, _common_shape(both, all_open=resizable))
        sample_shape = _sample_shape(both, batch_sizes)
        if sample_shape is not None and graph.depends_on_data(name):
            shapes[name] = sample_shape
    quantised = quantised_values(graph, types)
    names = [given.name for given in inputs] + [name for node in graph.nodes for name in node.output]
    values = [
        name for name in names if name in shapes and (types[name].element_type in FLOAT_TYPES or name in quantised)
    ]
    return _assemble(graph, inputs, values, shapes, types, quantised)


def _assemble(
    graph: Graph,
    inputs: Sequence[GraphInput],
    values: list[str],
    shapes: dict[str, tuple[int, ...]],
    types: dict[str, ValueType],
    quantised: dict[str, Quantised],
) -> GraphLayers:
    scopes = read_scopes(graph)
    outputs = module_outputs(graph, values, scopes)
    paths = module_blocks(graph, outputs, scopes, shapes, types)
    blocks = paths.keys() if any(scopes) else residual_outputs(graph, shapes) & set(values)
    names = name_values(graph, values, paths, scopes, outputs, shapes)
    roles = Roles(graph, shapes, scopes, outputs)
    channels_last = {given.name: given.channels_last for given in inputs if given.channels_last is not None}
    dims = dimension_names(graph, shapes, channels_last)
    layers: list[Layer] = []
    for value in values:
        index = graph.producer.get(value)
        node = None if index is None else graph.nodes[index]
        layers.append(
            Layer(
                name=names.layers[value],
                kind=_kind(graph, value, blocks, roles, names.functions.get(value)),
                index=len(layers),
                shape=shapes[value],
                dtype=quantised[value].dtype if value in quantised else FLOAT_TYPES[types[value].element_type],
                operation=_operation(graph, value, node, roles, names.functions.get(value)),
                dims=dims[value],
            )
        )
    aliases = {alias: names.layers[value] for alias, value in names.aliases.items()}
    if len(inputs) == 1 and inputs[0].name in names.layers:
        aliases.setdefault("input", names.layers[inputs[0].name])
    layer_values = {name: value for value, name in names.layers.items()}
    return GraphLayers(tuple(layers), layer_values, aliases, types, quantised)


def _kind(graph: Graph, value: str, blocks: Collection[str], roles: Roles, function: str | None) -> LayerKind:
    if value not in graph.producer:
        return "input"
    if value in blocks:
        return "block"
    return "output" if value in graph.outputs else roles.kind(value, function)


def _operation(graph: Graph, value: str, node: onnx.NodeProto | None, roles: Roles, function: str | None) -> str:
    if node is None:
        return "Input"
    if roles.is_folded(value):
        return f"{node.op_type}+BatchNormalization"
    source = computed_by(graph, node)
    return function or (node.op_type if source is node else f"{source.op_type}+{node.op_type}")


def _types_at(graph: Graph, sizes: Mapping[str, Sequence[int]], probe: Probe) -> dict[str, ValueType]:
    found = graph.infer(sizes)
    unknown = [
        name
        for node in graph.nodes
        for name in node.output
        if graph.depends_on_data(name) and not (name in found and _is_known(found[name].shape))
    ]
    if unknown:
        found.update(probe(sizes, unknown))
    return found


def _is_known(shape: tuple[int | None, ...] | None) -> bool:
    return shape is not None and None not in shape


def _common_shape(shapes: Sequence[tuple[int | None, ...] | None], *, all_open: bool) -> tuple[int | None, ...] | None:
    """Return a shape with open sizes wherever the given ones differ or anywhere, or None where ranks do."""
    first = shapes[0]
    if first is None or any(shape is None or len(shape) != len(first) for shape in shapes):
        return None
    if all_open:
        return (None,) * len(first)
    known = [shape for shape in shapes if shape is not None]
    return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*known, strict=True))


def _sample_shape(
    shapes: Sequence[tuple[int | None, ...] | None], batch_sizes: Sequence[int]
) -> tuple[int, ...] | None:
    """Return the shape of one sample, or None where the first dimension is not the sample's."""
    tails = set()
    for shape, batch_size in zip(shapes, batch_sizes, strict=True):
        if not shape or shape[0] != batch_size or None in shape:
            return None
        tails.add(tuple(size for size in shape[1:] if size is not None))
    # A number per sample is a feature of its own.
    return (tails.pop() or (1,)) if len(tails) == 1 else None


def element_name(element_type: int) -> str:
    """Return the name of an element type: ``float32``, ``int64``."""
    if element_type in FLOAT_TYPES:
        return FLOAT_TYPES[element_type]
    return str(onnx.helper.tensor_dtype_to_np_dtype(element_type).name)
