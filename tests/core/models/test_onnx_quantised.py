"""Quantised graphs, as the quantisers of ONNX Runtime write them and as by hand."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

from outcrop.models.onnx_ import OnnxModel, load_onnx


def generator(name: str) -> np.random.Generator:
    return np.random.default_rng(sum(map(ord, name)))


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array((generator(name).standard_normal(shape) / 3).astype(np.float32), name)


def constant(name: str, value: object, dtype: type) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def integers(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(generator(name).integers(-20, 20, shape).astype(np.int8), name)


def assemble(
    nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], output: str = "y", *, opset: int = 18
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 3, 8, 8))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        weights,
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def residual_net() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [node("Conv", ["x", "w0"], ["stem"], name="stem", pads=[1, 1, 1, 1]), node("Relu", ["stem"], ["x0"])]
    for block in range(2):
        nodes += [
            node("Conv", [f"x{block}", f"v{block}"], [f"c{block}"], name=f"conv{block}", pads=[1, 1, 1, 1]),
            node("Add", [f"c{block}", f"x{block}"], [f"a{block}"], name=f"add{block}"),
            node("Relu", [f"a{block}"], [f"x{block + 1}"], name=f"relu{block}"),
        ]
    nodes += [
        node("GlobalAveragePool", ["x2"], ["pooled"], name="pool"),
        node("Flatten", ["pooled"], ["flat"], name="flatten"),
        node("MatMul", ["flat", "head"], ["y"], name="head"),
    ]
    weights = [weight("w0", 4, 3, 3, 3), weight("v0", 4, 4, 3, 3), weight("v1", 4, 4, 3, 3), weight("head", 4, 5)]
    return assemble(nodes, weights)


class Calibration(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
    def __init__(self) -> None:
        self._batches: Iterator[dict[str, np.ndarray]] = iter([{"x": images(8).numpy()}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def quantised(folder: Path, how: str, *, per_channel: bool = False) -> Path:
    source, target = folder / "float.onnx", folder / f"{how}.onnx"
    onnx.save(residual_net(), source)
    logging.disable(logging.WARNING)  # it advises to prepare the graph first
    try:
        if how == "dynamic":
            quantize_dynamic(source, target)
        else:
            form = QuantFormat.QDQ if how == "qdq" else QuantFormat.QOperator
            quantize_static(source, target, Calibration(), quant_format=form, per_channel=per_channel)
    finally:
        logging.disable(logging.NOTSET)
    return target


def captured(model: OnnxModel, x: torch.Tensor) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}
    names = [layer.name for layer in model.layers]
    model.visit({"x": x}, names, lambda layer, values: seen.update({layer.name: values.clone()}))
    assert list(seen) == names
    return seen


def raw(proto: onnx.ModelProto, names: list[str], x: torch.Tensor) -> dict[str, np.ndarray]:
    """Return values as an unoptimised session gives them."""
    declared = onnx.ModelProto()
    declared.CopyFrom(proto)
    del declared.graph.output[:]
    declared.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(declared.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(None, {"x": x.numpy()}), strict=True))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("how", ["qdq", "qoperator", "dynamic"])
def test_graphs_of_the_quantisers_have_the_kinds_and_blocks_of_the_float_graph(
    tmp_path: Path, how: str, per_channel: bool
) -> None:
    model = load_onnx(quantised(tmp_path, how, per_channel=per_channel), device="cpu")
    kinds = [layer.kind for layer in model.layers]
    assert kinds.count("conv") == 3
    assert kinds.count("block") == 2
    assert kinds.count("pool") == 1
    assert kinds.count("output") == 1
    assert {layer.dtype for layer in model.layers} == {"float32"}
    assert all(layer.dims == ("channel", "y", "x") for layer in model.layers if len(layer.shape) == 3)
    x = images(2)
    found, original = captured(model, x), load_onnx(residual_net(), device="cpu")
    expected = captured(original, x)
    blocks = [layer.name for layer in model.layers if layer.kind == "block"]
    for name, other in zip(blocks, ["x1", "x2"], strict=True):
        assert found[name].shape == expected[other].shape
        # Eight bits: the steps are hundredths of the range. Float values would equal, integers be far away.
        assert 0 < float((found[name] - expected[other]).abs().max() / expected[other].abs().max()) < 0.1


@pytest.mark.parametrize("how", ["qdq", "qoperator", "dynamic"])
def test_values_are_those_of_an_unoptimised_session_integers_as_what_they_stand_for(tmp_path: Path, how: str) -> None:
    path = quantised(tmp_path, how)
    model, proto = load_onnx(path, device="cpu"), onnx.load(path)
    x = images(2)
    found = captured(model, x)
    names = {layer.name: model._values[layer.name] for layer in model.layers[1:]}
    values = raw(proto, list(names.values()), x)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    makers = {name: node for node in proto.graph.node for name in node.output}
    for name, value in names.items():
        expected = values[value]
        if expected.dtype in (np.int8, np.uint8):
            node = makers[value]
            while node.op_type in ("Flatten", "MaxPool", "Reshape"):
                node = makers[node.input[0]]
            scale, zero = {"QuantizeLinear": (1, 2), "QLinearGlobalAveragePool": (3, 4)}.get(node.op_type, (6, 7))
            expected = (expected.astype(np.float64) - float(weights[node.input[zero]])) * float(
                weights[node.input[scale]]
            )
        # The runtime may fuse and round differently: at most a step of the coarsest scale.
        step = 0 if how == "qoperator" else 0.02 * np.abs(expected).max()
        np.testing.assert_allclose(found[name].numpy(), expected, atol=1e-6 + step, rtol=1e-6, err_msg=name)


def test_operators_on_integers_are_layers_of_floats_of_their_kind() -> None:
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        node("QLinearConv", ["xq", "s", "z", "w", "sw", "zw", "s2", "z"], ["cq"], pads=[1, 1, 1, 1]),
        node("MaxPool", ["cq"], ["mq"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["mq"], ["fq"]),
        node("QLinearMatMul", ["fq", "s2", "z", "h", "sw", "zw", "s2", "z"], ["hq"]),
        node("DequantizeLinear", ["hq", "s2", "z"], ["hf"]),
        node("Softmax", ["hf"], ["y"]),
    ]
    weights = [
        constant("s", 0.05, np.float32), constant("sw", 0.02, np.float32), constant("s2", 0.1, np.float32),
        constant("z", 128, np.uint8), constant("zw", 0, np.int8), integers("w", 4, 3, 3, 3), integers("h", 64, 5),
    ]  # fmt: skip
    model = load_onnx(assemble(nodes, weights), device="cpu")
    assert [(layer.name, layer.kind, layer.operation, layer.dtype) for layer in model.layers] == [
        ("x", "input", "Input", "float32"),
        ("xq", "other", "QuantizeLinear", "float32"),
        ("cq", "conv", "QLinearConv", "float32"),
        ("mq", "pool", "MaxPool", "float32"),
        ("fq", "other", "Flatten", "float32"),
        ("hf", "linear", "QLinearMatMul+DequantizeLinear", "float32"),
        ("y", "output", "Softmax", "float32"),
    ]
    x = images(3)
    found = captured(model, x)
    rounded = np.clip(np.round(x.numpy() / 0.05) + 128, 0, 255).astype(int)
    np.testing.assert_allclose(found["xq"].numpy(), (rounded - 128) * 0.05, atol=1e-6)
    filters = torch.from_numpy(numpy_helper.to_array(weights[5]).astype(np.float32)) * 0.02
    exact = torch.nn.functional.conv2d(found["xq"], filters, padding=1)
    steps = exact.numpy() / 0.1
    clear = np.abs(steps - np.floor(steps) - 0.5) > 1e-3  # not half way between two integers
    expected = np.clip(np.round(steps), -128, 127) * 0.1
    np.testing.assert_allclose(found["cq"].numpy()[clear], expected[clear], atol=1e-5)


def test_integer_products_that_are_scaled_are_layers_of_their_kind() -> None:
    node = helper.make_node
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        node("ConvInteger", ["xq", "w", "xz", "zw"], ["ci"], pads=[1, 1, 1, 1]),
        node("Cast", ["ci"], ["cf"], to=TensorProto.FLOAT),
        node("Mul", ["xs", "sw"], ["scale"]),
        node("Mul", ["cf", "scale"], ["c"]),
        node("Flatten", ["c"], ["f"]),
        node("DynamicQuantizeLinear", ["f"], ["fq", "fs", "fz"]),
        node("MatMulInteger", ["fq", "h", "fz", "zw"], ["hi"]),
        node("Cast", ["hi"], ["hf"], to=TensorProto.FLOAT),
        node("Mul", ["fs", "sw"], ["scale2"]),
        node("Mul", ["hf", "scale2"], ["h2"]),
        node("Tanh", ["h2"], ["y"]),
    ]
    weights = [constant("sw", 0.02, np.float32), constant("zw", 0, np.int8), integers("w", 4, 3, 3, 3)]
    model = load_onnx(assemble(nodes, [*weights, integers("h", 256, 5)]), device="cpu")
    kinds = {layer.name: (layer.kind, layer.operation) for layer in model.layers}
    assert kinds["c"] == ("conv", "ConvInteger+Mul")
    assert kinds["h2"] == ("linear", "MatMulInteger+Mul")
    assert kinds["cf"] == ("other", "Cast")
    x = images(2)
    found = captured(model, x)
    filters = torch.from_numpy(numpy_helper.to_array(weights[2]).astype(np.float32)) * 0.02
    expected = torch.nn.functional.conv2d(x, filters, padding=1)
    assert float((found["c"] - expected).abs().max() / expected.abs().max()) < 0.03


def test_integers_with_a_scale_for_each_channel_or_none_that_is_constant_are_no_layers() -> None:
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "many", "zeros"], ["q"], axis=1),
        node("ReduceMax", ["x"], ["peak"], keepdims=0),
        node("QuantizeLinear", ["x", "peak", "zero"], ["q2"]),
        node("Relu", ["x"], ["y"]),
        node("QuantizeLinear", ["y", "constant"], ["q3"]),
        node("Identity", ["q3"], ["q4"]),
        node("Constant", [], ["constant"], value=constant("", 0.5, np.float32)),
    ]
    weights = [
        constant("many", [0.1, 0.2, 0.3], np.float32), constant("zeros", [0, 0, 0], np.int8),
        constant("zero", 0, np.int8),
    ]  # fmt: skip
    model = load_onnx(assemble(nodes, weights), device="cpu")
    assert [layer.name for layer in model.layers] == ["x", "y", "q3", "q4"]
    x = images(1)
    expected = np.clip(np.round(np.maximum(x.numpy(), 0) / 0.5), 0, 255) * 0.5
    for name in ("q3", "q4"):
        np.testing.assert_allclose(captured(model, x)[name].numpy(), expected, atol=1e-6)
