"""Graphs of every sort against ONNX's reference evaluator: old opsets, tokens, channels last, what is no tensor."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from outcrop.errors import InputError, ModelLoadError
from outcrop.models.onnx_ import OnnxModel, load_onnx

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def weight(name: str, *shape: int) -> TensorProto:
    values = np.random.default_rng(sum(map(ord, name))).standard_normal(shape) / 3
    return numpy_helper.from_array(values.astype(np.float32), name)


def constant(name: str, value: object, dtype: type = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def assemble(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, Sequence[int | str]]],
    outputs: Sequence[str],
    weights: Sequence[TensorProto] = (),
    *,
    opset: int = 20,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        list(weights),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def captured(model: OnnxModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    names = [layer.name for layer in model.layers]
    model.visit(inputs, names, lambda layer, values: seen.update({layer.name: values.clone()}))
    assert list(seen) == names
    return seen


def assert_as_the_reference(proto: onnx.ModelProto, inputs: dict[str, Tensor], **options: int) -> OnnxModel:
    """Compare every layer with the reference evaluator; return the model."""
    model = load_onnx(proto, device="cpu", **options)
    found = captured(model, inputs)
    declared = onnx.ModelProto()
    declared.CopyFrom(proto)
    del declared.graph.output[:]
    names = [model._values[layer.name] for layer in model.layers]
    computed = [name for name in names if name not in inputs]
    declared.graph.output.extend(onnx.ValueInfoProto(name=name) for name in computed)
    expected = dict(
        zip(
            computed,
            ReferenceEvaluator(declared).run(None, {name: tensor.numpy() for name, tensor in inputs.items()}),
            strict=True,
        )
    )
    for layer, name in zip(model.layers, names, strict=True):
        values = inputs[name].numpy() if name in inputs else expected[name]
        np.testing.assert_allclose(
            found[layer.name].numpy(), values, rtol=1e-5, atol=1e-5 * np.abs(values).max(), err_msg=name
        )
    return model


def bert() -> onnx.ModelProto:
    """Return one block of a BERT of two heads, which masks what is padding."""
    node = helper.make_node
    nodes = [
        node("Gather", ["words", "input_ids"], ["word"]),
        node("Shape", ["input_ids"], ["length"], start=1),
        node("Constant", [], ["zero"], value=constant("", [0])),
        node("Slice", ["places", "zero", "length"], ["place"]),
        node("Add", ["word", "place"], ["embedded"]),
        node("LayerNormalization", ["embedded", "scale"], ["state"]),
        node("Cast", ["attention_mask"], ["kept"], to=FLOAT),
        node("Sub", ["one", "kept"], ["dropped"]),
        node("Mul", ["dropped", "minus"], ["penalty"]),
        node("Unsqueeze", ["penalty", "axes"], ["bias"]),
    ]
    for name in ("query", "key", "value"):
        nodes += [
            node("MatMul", ["state", f"w_{name}"], [f"{name}_flat"]),
            node("Reshape", [f"{name}_flat", "split"], [f"{name}_split"]),
            node("Transpose", [f"{name}_split"], [name], perm=[0, 2, 3, 1] if name == "key" else [0, 2, 1, 3]),
        ]
    nodes += [
        node("MatMul", ["query", "key"], ["scores"]),
        node("Add", ["scores", "bias"], ["masked"]),
        node("Softmax", ["masked"], ["weights"]),
        node("MatMul", ["weights", "value"], ["mixed"]),
        node("Transpose", ["mixed"], ["mixed_first"], perm=[0, 2, 1, 3]),
        node("Reshape", ["mixed_first", "join"], ["attended"]),
        node("MatMul", ["attended", "w_out"], ["projected"]),
        node("Add", ["projected", "state"], ["sum"]),
        node("LayerNormalization", ["sum", "scale"], ["state2"]),
        node("MatMul", ["state2", "w_up"], ["up"]),
        node("Gelu", ["up"], ["act"]),
        node("MatMul", ["act", "w_down"], ["down"]),
        node("Add", ["down", "state2"], ["sum2"]),
        node("LayerNormalization", ["sum2", "scale"], ["hidden"]),
        node("Gather", ["hidden", "first"], ["pooled"], axis=1),
    ]
    weights = [
        weight("words", 30, 8), weight("places", 16, 8), constant("scale", np.ones(8), np.float32),
        constant("one", 1, np.float32), constant("minus", -1e4, np.float32), constant("axes", [1, 2]),
        constant("split", [0, 0, 2, 4]), constant("join", [0, 0, 8]), constant("first", 0),
        *(weight(f"w_{name}", 8, 8) for name in ("query", "key", "value", "out")),
        weight("w_up", 8, 16), weight("w_down", 16, 8),
    ]  # fmt: skip
    inputs = {"input_ids": (INT64, ("batch", "tokens")), "attention_mask": (INT64, ("batch", "tokens"))}
    return assemble(nodes, inputs, ["hidden", "pooled"], weights)


@pytest.mark.parametrize("memory_budget", [1, 1 << 20])
def test_a_language_model_takes_token_ids_and_a_mask(memory_budget: int) -> None:
    batch = {"input_ids": torch.randint(0, 30, (3, 6)), "attention_mask": torch.ones(3, 6, dtype=torch.int64)}
    batch["attention_mask"][0, 4:] = 0
    model = assert_as_the_reference(bert(), batch, memory_budget=memory_budget)
    assert [(spec.name, spec.shape, spec.dtype) for spec in model.inputs] == [
        ("input_ids", (None,), "int64"),
        ("attention_mask", (None,), "int64"),
    ]
    layers = {layer.name: layer for layer in model.layers}
    assert layers["state"].dims == layers["up"].dims == layers["hidden"].dims == ("token", "feature")
    assert layers["query_flat"].kind == layers["up"].kind == "linear"
    assert layers["weights"].kind == layers["scores"].kind == layers["mixed"].kind == "attention"
    assert layers["weights"].dims == ("head", "token", "token_key")
    assert layers["attended"].dims == ("token", "feature")
    assert layers["sum"].kind == "block"
    assert layers["hidden"].kind == layers["pooled"].kind == "output"
    assert layers["pooled"].dims == ("feature",)
    found = captured(model, batch)
    assert float(found["weights"][0, :, :, 4:].max()) == 0
    with pytest.raises(InputError, match=r"takes 'input_ids' as int64; the data is float32"):
        model.forward({**batch, "input_ids": torch.zeros(3, 6)})


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 20, 21])
def test_every_opset_from_seven_on_gives_the_same_layers_and_values(opset: int) -> None:
    node = helper.make_node
    pool = (
        node("ReduceMean", ["r", "axes"], ["g"], keepdims=1)
        if opset >= 18
        else node("ReduceMean", ["r"], ["g"], axes=[2, 3], keepdims=1)
    )
    squeeze = node("Squeeze", ["g", "axes"], ["f"]) if opset >= 13 else node("Squeeze", ["g"], ["f"], axes=[2, 3])
    clip = node("Clip", ["c", "low", "high"], ["r"]) if opset >= 11 else node("Clip", ["c"], ["r"], min=0.0, max=6.0)
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), clip, pool, squeeze,
        node("Dropout", ["f"], ["d", "mask"]),
        node("Gemm", ["d", "h", "b"], ["y"]),
    ]  # fmt: skip
    weights = [weight("w", 4, 3, 3, 3), weight("h", 4, 5), weight("b", 5)]
    if opset >= 13:
        weights.append(constant("axes", [2, 3]))
    if opset >= 11:
        weights += [constant("low", 0, np.float32), constant("high", 6, np.float32)]
    proto = assemble(nodes, {"x": (FLOAT, ("n", 3, 8, 8))}, ["y"], weights, opset=opset)
    if opset == 7:  # files of that age list their weights among the inputs
        proto.ir_version = 3
        proto.graph.input.extend(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in weights
        )
    model = load_onnx(proto, device="cpu")
    assert [(layer.name, layer.kind, layer.shape) for layer in model.layers] == [
        ("x", "input", (3, 8, 8)),
        ("c", "conv", (4, 8, 8)),
        ("r", "act", (4, 8, 8)),
        ("g", "pool", (4, 1, 1)),
        ("f", "other", (4,)),
        ("d", "other", (4,)),
        ("y", "output", (5,)),
    ]
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = captured(model, {"x": x})
    w, h, b = (torch.from_numpy(np.array(numpy_helper.to_array(tensor))) for tensor in weights[:3])
    c = torch.nn.functional.conv2d(x, w, padding=1)
    for name, expected in {"c": c, "r": c.clamp(0, 6), "y": c.clamp(0, 6).mean((2, 3)) @ h + b}.items():
        torch.testing.assert_close(found[name], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch", ["n", 2])
def test_channels_last_between_transposes_as_tensorflow_exports_it(batch: int | str) -> None:
    node = helper.make_node
    nodes = [
        node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]),
        node("Conv", ["first", "w"], ["conv"], pads=[1, 1, 1, 1]),
        node("Transpose", ["conv"], ["last"], perm=[0, 2, 3, 1]),
        node("Add", ["last", "b"], ["biased"]),
        node("Relu", ["biased"], ["act"]),
        node("Transpose", ["act"], ["first2"], perm=[0, 3, 1, 2]),
        node("MaxPool", ["first2"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Transpose", ["pool"], ["last2"], perm=[0, 2, 3, 1]),
        node("ReduceMean", ["last2", "axes"], ["mean"], keepdims=0),
        node("MatMul", ["mean", "head"], ["logits"]),
    ]
    weights = [weight("w", 4, 3, 3, 3), weight("b", 4), weight("head", 4, 5), constant("axes", [1, 2])]
    proto = assemble(nodes, {"image": (FLOAT, (batch, 8, 10, 3))}, ["logits"], weights)
    model = assert_as_the_reference(proto, {"image": torch.randn(2, 8, 10, 3)})
    dims = {layer.name: layer.dims for layer in model.layers}
    last, first = ("y", "x", "channel"), ("channel", "y", "x")
    assert [dims[name] for name in ("image", "last", "biased", "act", "last2")] == [last] * 5
    assert [dims[name] for name in ("first", "conv", "first2", "pool")] == [first] * 4
    assert dims["mean"] == dims["logits"] == ("feature",)
    assert model.layer("last2").shape == (4, 5, 4)
    assert [model.layer(name).kind for name in ("conv", "act", "pool", "mean", "biased")] == [
        "conv", "act", "pool", "pool", "other",
    ]  # fmt: skip


def test_a_graph_without_outputs_returns_nothing_and_is_refused() -> None:
    proto = assemble([helper.make_node("Relu", ["x"], ["y"])], {"x": (FLOAT, ("n", 4))}, [])
    with pytest.raises(ModelLoadError, match=r"^Model 'net' returns nothing: its graph declares no output\. Export it"):
        load_onnx(proto, device="cpu")


def test_a_graph_of_whole_numbers_has_no_layers_and_is_refused() -> None:
    proto = assemble([helper.make_node("Abs", ["x"], ["y"])], {"x": (TensorProto.INT32, ("n", 4))}, ["y"])
    with pytest.raises(
        ModelLoadError,
        match=r"^Model 'net' has no layers: no value is a floating-point tensor",
    ):
        load_onnx(proto, device="cpu")


def test_sequences_are_no_layers_and_what_they_are_made_of_is() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("SequenceConstruct", ["r", "x"], ["both"]),
        helper.make_node("SequenceAt", ["both", "first"], ["one"]),
        helper.make_node("Tanh", ["one"], ["t"]),
    ]
    proto = assemble(nodes, {"x": (FLOAT, ("n", 4))}, ["both", "t"], [constant("first", 0)])
    model = load_onnx(proto, device="cpu", memory_budget=1)
    assert [layer.name for layer in model.layers] == ["x", "r", "one", "t"]
    x = torch.randn(3, 4)
    found = captured(model, {"x": x})
    torch.testing.assert_close(found["t"], x.relu().tanh())
    with pytest.raises(InputError, match=r"output 'both' of model 'net' is not a tensor; export it with one"):
        model.forward({"x": x})


def test_an_optional_output_that_holds_a_tensor_is_one() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Optional", ["r"], ["maybe"])]
    model = load_onnx(assemble(nodes, {"x": (FLOAT, ("n", 4))}, ["maybe"], opset=15), device="cpu")
    x = torch.randn(3, 4)
    torch.testing.assert_close(captured(model, {"x": x})["maybe"], x.relu())


def test_one_sample_is_visited_and_no_sample_is_refused() -> None:
    batch = {"input_ids": torch.ones(1, 5, dtype=torch.int64), "attention_mask": torch.ones(1, 5, dtype=torch.int64)}
    model = load_onnx(bert(), device="cpu")
    assert {len(values) for values in captured(model, batch).values()} == {1}
    none = {name: values[:0] for name, values in batch.items()}
    for run in (lambda: model.forward(none), lambda: model.visit(none, ["state"], lambda *_: None)):
        with pytest.raises(InputError, match=r"^Model 'net' was given no samples of 'input_ids'; give one or more\.$"):
            run()


@pytest.mark.parametrize("memory_budget", [1, 1 << 20])
def test_images_of_an_open_size_are_visited_at_any(memory_budget: int) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r"], ["y"]),
    ]
    weights = [weight("w", 4, 3, 3, 3), weight("w2", 4, 4, 3, 3)]
    proto = assemble(nodes, {"x": (FLOAT, ("n", 3, "height", "width"))}, ["y"], weights)
    for height, width in ((8, 6), (5, 9)):
        assert_as_the_reference(proto, {"x": torch.randn(2, 3, height, width)}, memory_budget=memory_budget)
