"""What role the values of an ONNX graph play: kinds, residual blocks, names of dimensions."""

from collections.abc import Mapping

from onnx import NodeProto, helper

from outcrop.models.graph import Graph
from outcrop.models.model import LayerKind

ACTIVATIONS = frozenset(
    (
        *("Relu", "Gelu", "Sigmoid", "Tanh", "LeakyRelu", "Clip", "HardSwish", "HardSigmoid", "Elu", "Selu", "Celu"),
        *("Softplus", "Softsign", "PRelu", "Mish", "Swish", "ThresholdedRelu", "FastGelu", "BiasGelu", "QuickGelu"),
        *("relu", "relu6", "gelu", "sigmoid", "tanh", "leaky_relu", "hardtanh", "hardswish", "hardsigmoid", "elu"),
        *("selu", "celu", "softplus", "softsign", "prelu", "mish", "silu"),
    )
)
"""Operators of ONNX and functions of torch that apply a nonlinearity to every unit."""

_OPERATIONS: Mapping[LayerKind, tuple[str, ...]] = {
    "conv": ("Conv", "ConvTranspose", "DeformConv", "FusedConv", "conv1d", "conv2d", "conv3d", "convolution"),
    "linear": ("linear", "addmm"),
    "norm": (
        *("BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization"),
        *("RMSNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization", "LpNormalization"),
        *("MeanVarianceNormalization", "LRN"),
        *("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"),
    ),
    "attention": ("Attention", "MultiHeadAttention", "GroupQueryAttention", "scaled_dot_product_attention"),
    "pool": (
        *("MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"),
        *("ReduceMean", "ReduceMax", "ReduceSum"),
    ),
    "act": tuple(ACTIVATIONS),
}
_KINDS = {operation: kind for kind, operations in _OPERATIONS.items() for operation in operations}

_PASSES_ON = {"Dropout", "Identity", "Cast", "Where"}


def node_kind(graph: Graph, node: NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> LayerKind:
    """Return the role of what a node computes, graph outputs and blocks not considered."""
    data = [name for name in node.input if graph.depends_on_data(name)]
    if node.op_type in ("Gemm", "MatMul", "MatMulInteger", "Einsum"):
        return "attention" if len(data) > 1 else "linear"
    if node.op_type in ("Add", "Sum"):
        return "add" if len(data) > 1 else "other"
    if node.op_type == "Softmax":
        return "attention" if _feeds_attention(graph, node.output[0]) else "other"
    if node.op_type.startswith("Reduce") and not _reduces_positions(node, shapes):
        return "other"
    return _KINDS.get(node.op_type, "other")


def function_kind(function: str) -> LayerKind | None:
    """Return the role of what a torch function computes, where its name tells."""
    return _KINDS.get(function)


def residual_outputs(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
    """Return the outputs of residual blocks, for graphs that say nothing of modules.

    A residual addition joins values of equal shape that all depend on the samples. The block ends with the
    activation that alone consumes the sum, and with the sum itself where there is no such activation.

    Args:
        graph: Whole graph.
        shapes: Of one sample, by value.
    """
    found = set()
    for node in graph.nodes:
        if node.op_type not in ("Add", "Sum") or node.domain not in ("", "ai.onnx"):
            continue
        joined = {shapes.get(name) for name in node.input}
        total = node.output[0]
        several = len(node.input) > 1 and all(graph.depends_on_data(name) for name in node.input)
        if not several or len(joined) > 1 or None in joined:
            continue
        consumers = graph.consumers.get(total, [])
        follower = graph.nodes[consumers[0]] if len(consumers) == 1 and total not in graph.outputs else None
        found.add(follower.output[0] if follower is not None and follower.op_type in ACTIVATIONS else total)
    return frozenset(found)


def _feeds_attention(graph: Graph, name: str) -> bool:
    """Return whether a product of two values that depend on the samples takes a softmax."""
    for index in graph.consumers.get(name, ()):
        node = graph.nodes[index]
        if node.op_type in ("MatMul", "Einsum"):
            if sum(graph.depends_on_data(other) for other in node.input) > 1:
                return True
        elif node.op_type in _PASSES_ON and _feeds_attention(graph, node.output[0]):
            return True
    return False


def _reduces_positions(node: NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether a reduction leaves out more than the last dimension, as inside a layer norm it does."""
    before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
    if before is None or after is None or len(before) != len(after):
        return True
    return before[:-1] != after[:-1]


def dimension_names(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], channels_last: Mapping[str, bool]
) -> dict[str, tuple[str, ...]]:
    """Return names for the dimensions of one sample, by value.

    Args:
        graph: Whole graph.
        shapes: Of one sample, by value, for the values of interest.
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
                found[name] = _from_sources(node, shapes[name], sources, shapes, found)
    return found


def _from_sources(
    node: NodeProto,
    shape: tuple[int, ...],
    sources: list[str],
    shapes: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    rank = len(shape)
    if _KINDS.get(node.op_type) == "conv" or node.op_type.endswith("Pool"):
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
