"""What role the values of an ONNX graph play: kinds, residual blocks."""

from collections.abc import Mapping

from onnx import NodeProto

from outcrop.models.graph import Graph
from outcrop.models.graph_quantised import computed_by, follows_quantising, operands
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
    "conv": (
        "Conv",
        "ConvTranspose",
        "DeformConv",
        "FusedConv",
        "conv1d",
        "conv2d",
        "conv3d",
        "convolution",
        "ConvInteger",
        "QLinearConv",
    ),
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
        *(
            "ReduceMean",
            "ReduceMax",
            "ReduceSum",
            "QLinearGlobalAveragePool",
            "QLinearAveragePool",
            "QLinearReduceMean",
        ),
    ),
    "act": (*ACTIVATIONS, "QLinearSigmoid", "QLinearLeakyRelu"),
}
_KINDS = {operation: kind for kind, operations in _OPERATIONS.items() for operation in operations}

REARRANGING = frozenset(
    ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Split", "Identity", "Flatten")
)
"""Operators that only move or select values."""

_PRODUCTS = {"Gemm", "MatMul", "MatMulInteger", "Einsum", "QLinearMatMul", "QGemm", "DynamicQuantizeMatMul"} | {
    "MatMulIntegerToFloat"
}
_SUMS = {"Add", "Sum", "QLinearAdd"}
_PASSES_ON = {"Dropout", "Identity", "Cast", "Where", "QuantizeLinear", "DequantizeLinear"}


def node_kind(graph: Graph, node: NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> LayerKind:
    """Return the role of what a node computes, graph outputs and blocks not considered."""
    node = computed_by(graph, node)
    data = [name for name in operands(node) if graph.depends_on_data(name)]
    if node.op_type in _PRODUCTS:
        return "attention" if len(data) > 1 else "linear"
    if node.op_type in _SUMS:
        return "add" if len(data) > 1 else "other"
    if node.op_type in ("Softmax", "QLinearSoftmax"):
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
    activation that alone consumes the sum, and with the sum itself where there is no such activation; quantised, with
    what stands for them.

    Args:
        graph: Whole graph.
        shapes: Of one sample, by value.
    """
    found = set()
    for node in graph.nodes:
        if node.op_type not in _SUMS or (node.domain not in ("", "ai.onnx") and node.op_type != "QLinearAdd"):
            continue
        terms = operands(node)
        joined = {shapes.get(name) for name in terms}
        several = len(terms) > 1 and all(graph.depends_on_data(name) for name in terms)
        if not several or len(joined) > 1 or None in joined:
            continue
        total = follows_quantising(graph, node.output[0])
        consumers = graph.consumers.get(total, [])
        follower = graph.nodes[consumers[0]] if len(consumers) == 1 and total not in graph.outputs else None
        found.add(follower.output[0] if follower is not None and follower.op_type in ACTIVATIONS else total)
    return frozenset(found)


def _feeds_attention(graph: Graph, name: str) -> bool:
    """Return whether a product of two values that depend on the samples takes a softmax."""
    for index in graph.consumers.get(name, ()):
        node = graph.nodes[index]
        if node.op_type in ("MatMul", "Einsum", "QLinearMatMul", "MatMulInteger"):
            if sum(graph.depends_on_data(other) for other in operands(node)) > 1:
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
