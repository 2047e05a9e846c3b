"""Quantised graphs: which values are integers that stand for floats, and for which."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import external_data_helper, numpy_helper
from torch import Tensor

from outcrop.models.graph import FLOAT_TYPES, Graph, ValueType

_SCALE_INPUTS: Mapping[str, int] = {
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul"), 6),
    **dict.fromkeys(("QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearReduceMean"), 3),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"), 3),
    "QGemm": 7,
    "QLinearConcat": 0,
    "QuantizeLinear": 1,
}
"""Which input of an operator is the scale of its output; the zero point comes next."""

_OPERANDS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul", "QGemm"), (0, 3)),
    **dict.fromkeys(("ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"), (0, 1)),
}
"""Which inputs of an operator are what it multiplies or adds; the others are scales and zero points."""

_HANDS_ON = frozenset(
    ("MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Identity")
)
_INTEGER_PRODUCTS = frozenset(("ConvInteger", "MatMulInteger"))
_INTEGERS = frozenset((onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT16, onnx.TensorProto.UINT16))


@dataclass(frozen=True)
class Quantised:
    """Integers that stand for ``(integer - zero) * scale``.

    Attributes:
        scale: One for all values.
        zero: Integer that stands for zero.
        dtype: Of what they stand for.
    """

    scale: float
    zero: int
    dtype: str

    def dequantise(self, values: Tensor) -> Tensor:
        """Return the floats that integers stand for."""
        import torch

        return ((values.to(torch.int32) - self.zero).to(torch.float32) * self.scale).to(getattr(torch, self.dtype))


def quantised_values(graph: Graph, types: Mapping[str, ValueType]) -> dict[str, Quantised]:
    """Return the quantised values of a graph with what they stand for.

    Values that the graph itself dequantises are left out, and so are those with a scale for each channel, or with
    scales that are computed.
    """
    found: dict[str, Quantised] = {}
    for node in graph.nodes:
        meaning = None
        if node.op_type in _SCALE_INPUTS:
            position = _SCALE_INPUTS[node.op_type]
            meaning = _meaning(graph, *[*node.input, "", ""][position : position + 2])
        elif node.op_type in _HANDS_ON:
            meaning = found.get(node.input[0])
        if meaning is not None:
            found.update((name, meaning) for name in node.output if name in types)
    return {
        name: meaning
        for name, meaning in found.items()
        if types[name].element_type in _INTEGERS and not _is_dequantised(graph, name)
    }


def operands(node: onnx.NodeProto) -> list[str]:
    """Return what a node works on, without the scales and zero points of a quantised operator."""
    positions = _OPERANDS.get(node.op_type)
    return [name for place, name in enumerate(node.input) if name and (positions is None or place in positions)]


def computed_by(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto:
    """Return the node that computes what another only turns into floats: the ``ConvInteger`` of a scaled product."""
    source = _source(graph, node.input[0]) if node.input else None
    if node.op_type == "DequantizeLinear" and source is not None and source.op_type.startswith(("QLinear", "QGemm")):
        return source
    if node.op_type == "Mul":
        for name in node.input:
            cast = _source(graph, name)
            product = _source(graph, cast.input[0]) if cast is not None and cast.op_type == "Cast" else None
            if product is not None and product.op_type in _INTEGER_PRODUCTS:
                return product
    return node


def follows_quantising(graph: Graph, name: str) -> str:
    """Return the value that stands for another behind quantising and dequantising that alone take it."""
    while True:
        takers = [graph.nodes[index] for index in graph.consumers.get(name, ())]
        kinds = {taker.op_type for taker in takers}
        alone = kinds == {"DequantizeLinear"} or (kinds == {"QuantizeLinear"} and len(takers) == 1)
        if name in graph.outputs or not alone:
            return name
        name = takers[0].output[0]


def _source(graph: Graph, name: str) -> onnx.NodeProto | None:
    index = graph.producer.get(name)
    return None if index is None else graph.nodes[index]


def _is_dequantised(graph: Graph, name: str) -> bool:
    return any(graph.nodes[index].op_type == "DequantizeLinear" for index in graph.consumers.get(name, ()))


def _meaning(graph: Graph, scale: str, zero: str) -> Quantised | None:
    scales, zeros = _constant(graph, scale), _constant(graph, zero) if zero else np.zeros(1, np.int8)
    if scales is None or zeros is None or scales.size != 1 or zeros.size != 1:
        return None
    dtype = FLOAT_TYPES[onnx.helper.np_dtype_to_tensor_dtype(scales.dtype)]
    return Quantised(float(scales.reshape(())), int(zeros.reshape(())), dtype)


def _constant(graph: Graph, name: str) -> np.ndarray | None:
    if name in graph.initializers:
        return numpy_helper.to_array(graph.tensor(name))
    node = _source(graph, name)
    if node is None or node.op_type != "Constant":
        return None
    value = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
    if value is None or external_data_helper.uses_external_data(value):
        return None
    return numpy_helper.to_array(value)
