"""ONNX models: visiting any layer, inputs of every sort, files in every state."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from outcrop.errors import InputError, LayerNotFoundError, ModelLoadError, ModelNotFoundError
from outcrop.models.onnx_ import OnnxModel, load_onnx, load_onnx_reference


def weight(name: str, *shape: int) -> TensorProto:
    values = np.random.default_rng(sum(map(ord, name))).standard_normal(shape).astype(np.float32) / 3
    return numpy_helper.from_array(values, name)


def assemble(
    nodes: Iterable[NodeProto],
    inputs: dict[str, tuple[int, Sequence[int | str]]],
    outputs: Sequence[str],
    weights: Iterable[TensorProto] = (),
    *,
    opset: int = 20,
) -> ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        list(weights),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def residual_net(batch: int | str = "batch", *, blocks: int = 3) -> ModelProto:
    """Return residual blocks with weights stored as float16, as constants, and with nodes that have no name."""
    half = numpy_helper.from_array(np.linspace(-1, 1, 4 * 3 * 9).reshape(4, 3, 3, 3).astype(np.float16), "stem.weight")
    nodes = [
        helper.make_node("Cast", ["stem.weight"], ["stem.full"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["image", "stem.full"], ["stem"], name="stem_conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["stem"], ["x0"]),
        helper.make_node("Constant", [], ["shared"], value=weight("constant", 4, 4, 3, 3)),
    ]
    for block in range(blocks):
        nodes += [
            helper.make_node("Conv", [f"x{block}", "shared"], [f"c{block}"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", [f"c{block}", "s", "b", "m", "v"], [f"n{block}"]),
            helper.make_node("Add", [f"n{block}", f"x{block}"], [f"a{block}"]),
            helper.make_node("Relu", [f"a{block}"], [f"x{block + 1}"]),
        ]
    nodes += [
        helper.make_node("GlobalAveragePool", [f"x{blocks}"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head"], ["logits"]),
    ]
    variance = numpy_helper.from_array(np.full(4, 1.5, np.float32), "v")
    weights = [half, weight("s", 4), weight("b", 4), weight("m", 4), variance, weight("head", 4, 5)]
    return assemble(nodes, {"image": (TensorProto.FLOAT, (batch, 3, 8, 8))}, ["logits"], weights)


def capture(model: OnnxModel, inputs: dict[str, Tensor], names: Iterable[str] | None = None) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    chosen = [layer.name for layer in model.layers] if names is None else list(names)
    model.visit(inputs, chosen, lambda layer, values: seen.update({layer.name: values.clone()}))
    return seen


def images(count: int, size: int = 8) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


# Values


def test_visited_values_equal_the_reference_evaluator() -> None:
    proto = residual_net()
    model = load_onnx(proto, device="cpu")
    batch = images(3)
    seen = capture(model, {"image": batch})
    names = [layer.name for layer in model.layers[1:]]
    declared = ModelProto()
    declared.CopyFrom(proto)
    del declared.graph.output[:]
    declared.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    expected = ReferenceEvaluator(declared).run(names, {"image": batch.numpy()})
    assert list(seen) == ["image", *names]
    torch.testing.assert_close(seen["image"], batch)
    for name, values in zip(names, expected, strict=True):
        np.testing.assert_allclose(seen[name].numpy(), values, atol=1e-5, err_msg=name)


def test_visited_values_equal_those_of_a_session_with_one_output() -> None:
    proto = residual_net()
    model = load_onnx(proto, device="cpu", memory_budget=1)
    batch = images(2)
    seen = capture(model, {"image": batch})
    for name in ("stem", "n1", "a2", "x3", "logits"):
        single = ModelProto()
        single.CopyFrom(proto)
        del single.graph.output[:]
        single.graph.output.append(onnx.ValueInfoProto(name=name))
        session = onnxruntime.InferenceSession(single.SerializeToString(), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(seen[name].numpy(), session.run(None, {"image": batch.numpy()})[0], atol=1e-5)


def test_forward_returns_the_first_output() -> None:
    model = load_onnx(residual_net(), device="cpu")
    batch = images(2)
    output = model.forward({"image": batch})
    assert output.shape == (2, 5)
    torch.testing.assert_close(output, capture(model, {"image": batch}, ["logits"])["logits"])


@settings(max_examples=15, deadline=None)
@given(
    budget=st.integers(1, 12_000),
    chosen=st.sets(
        st.sampled_from(["image", "stem", "x0", "c0", "a0", "x1", "n1", "a1", "x2", "x3", "flat", "logits"])
    ),
)
def test_any_budget_gives_the_values_of_one_session(budget: int, chosen: set[str]) -> None:
    proto = residual_net()
    batch = images(2)
    whole = capture(load_onnx(proto, device="cpu"), {"image": batch}, chosen)
    cut = capture(load_onnx(proto, device="cpu", memory_budget=budget), {"image": batch}, chosen)
    assert list(cut) == list(whole)
    assert set(cut) == chosen
    for name, values in whole.items():
        # Cuts forbid some fusions, which round differently: at most in the last digit of the largest value.
        torch.testing.assert_close(cut[name], values, atol=1e-6 * float(values.abs().max()), rtol=1e-6)


def test_a_small_budget_runs_many_sessions_and_a_large_one_a_single_session() -> None:
    batch = {"image": images(2)}
    wide, narrow = (load_onnx(residual_net(), device="cpu", memory_budget=budget) for budget in (1 << 20, 4000))
    counts = []
    for model in (wide, narrow):
        capture(model, batch)
        counts.append(len(next(reversed(model._plans.values()))))
    # Fourteen values of 2 x 4 x 8 x 8 float32 are 2048 bytes each: at most one fits beside another's 2048.
    assert counts[0] == 1
    assert counts[1] == 14


def test_sessions_are_kept_for_the_next_batch() -> None:
    model = load_onnx(residual_net(), device="cpu")
    capture(model, {"image": images(2)}, ["x1"])
    before = model._plans[("x1",),][0][1]
    capture(model, {"image": images(5)}, ["x1"])
    assert model._plans[("x1",),][0][1] is before


def test_values_are_visited_in_order_and_nothing_beyond_the_last_is_computed() -> None:
    model = load_onnx(residual_net(), device="cpu")
    seen = capture(model, {"image": images(2)}, ["x1", "stem", "c0"])
    assert list(seen) == ["stem", "c0", "x1"]
    [(segment, _)] = next(reversed(model._plans.values()))
    assert "a1" not in {name for index in segment.nodes for name in model._graph.nodes[index].output}


def test_layers_answer_to_nodes_and_suggest_near_names() -> None:
    model = load_onnx(residual_net(), device="cpu")
    assert model.layer("stem_conv").name == "stem"
    assert model.layer("Relu_2").name == "x0"
    with pytest.raises(LayerNotFoundError, match=r"no layer 'stemm'\. Did you mean 'stem'"):
        model.layer("stemm")


def test_half_precision_weights_behind_a_cast_are_no_layers() -> None:
    kinds = {layer.name: layer.kind for layer in load_onnx(residual_net(), device="cpu").layers}
    assert "stem.full" not in kinds
    assert kinds["stem"] == "conv"
    assert kinds["x1"] == "block"


# Inputs


def test_a_fixed_batch_size_is_known_and_another_is_refused() -> None:
    model = load_onnx(residual_net(batch=1), device="cpu")
    assert model.batch_size == 1
    assert capture(model, {"image": images(1)}, ["logits"])["logits"].shape == (1, 5)
    with pytest.raises(InputError, match=r"fixed at 1 samples per batch; got 2"):
        model.forward({"image": images(2)})


def test_an_open_batch_size_takes_any_number() -> None:
    model = load_onnx(residual_net(), device="cpu")
    assert model.batch_size is None
    assert [len(model.forward({"image": images(count)})) for count in (1, 4)] == [1, 4]


def test_a_wrong_shape_or_type_is_refused_in_words() -> None:
    model = load_onnx(residual_net(), device="cpu")
    with pytest.raises(InputError, match=r"takes 'image' of shape \(3, 8, 8\) per sample; the data has \(3, 9, 9\)"):
        model.forward({"image": images(1, 9)})
    with pytest.raises(InputError, match=r"takes 'image' as float32; the data is uint8\. Convert it"):
        model.forward({"image": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)})


def test_double_precision_is_converted() -> None:
    model = load_onnx(residual_net(), device="cpu")
    batch = images(2)
    torch.testing.assert_close(model.forward({"image": batch.double()}), model.forward({"image": batch}))


def language_net() -> ModelProto:
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["embedded"]),
        helper.make_node("Mul", ["embedded", "mask"], ["kept"]),
        helper.make_node("LayerNormalization", ["kept", "scale"], ["normed"]),
        helper.make_node("ReduceMean", ["normed", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "head"], ["logits"]),
    ]
    axes = numpy_helper.from_array(np.array([1]), "axes")
    return assemble(
        nodes,
        {"tokens": (TensorProto.INT64, ("batch", "length")), "mask": (TensorProto.FLOAT, ("batch", "length", 1))},
        ["logits"],
        [weight("table", 11, 6), weight("scale", 6), weight("head", 6, 2), axes],
    )


def test_token_ids_and_a_second_input_reach_the_network() -> None:
    model = load_onnx(language_net(), device="cpu")
    assert [(spec.name, spec.shape, spec.dtype) for spec in model.inputs] == [
        ("tokens", (None,), "int64"),
        ("mask", (None, 1), "float32"),
    ]
    assert model.preprocessing is None
    tokens, mask = torch.randint(0, 11, (3, 7)), torch.rand(3, 7, 1)
    seen = capture(model, {"tokens": tokens, "mask": mask})
    assert list(seen) == ["mask", "embedded", "kept", "normed", "mean", "logits"]
    table = numpy_helper.to_array(weight("table", 11, 6))
    np.testing.assert_array_equal(seen["embedded"].numpy(), table[tokens.numpy()])
    assert {layer.name: layer.dims for layer in model.layers}["normed"] == ("token", "feature")


def test_what_the_network_itself_refuses_is_an_input_error() -> None:
    model = load_onnx(language_net(), device="cpu")
    with pytest.raises(InputError, match=r"The network fails on this batch: .*indices element out of data bounds"):
        model.forward({"tokens": torch.full((1, 4), 99), "mask": torch.ones(1, 4, 1)})


def test_channels_last_networks_prepare_images_that_way() -> None:
    from PIL import Image

    nodes = [
        helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "w"], ["conv"]),
    ]
    proto = assemble(nodes, {"image": (TensorProto.FLOAT, ("n", 8, 10, 3))}, ["conv"], [weight("w", 4, 3, 1, 1)])
    model = load_onnx(proto, device="cpu")
    assert model.preprocessing is not None
    prepared = model.preprocessing.transform(Image.new("RGB", (40, 30), (255, 0, 0)))
    assert prepared.shape == (8, 10, 3)
    assert prepared[..., 0].min() == 1.0
    assert model.forward({"image": prepared[None]}).shape == (1, 4, 8, 10)


def test_shapes_that_inference_cannot_follow_are_looked_up_in_a_run() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], start=0, end=1),
        helper.make_node("Reshape", ["shape", "one"], ["reshaped"]),
        helper.make_node("Concat", ["reshaped", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    weights = [numpy_helper.from_array(np.array(value), name) for name, value in (("one", [1]), ("rest", [2, 3]))]
    model = load_onnx(assemble(nodes, {"x": (TensorProto.FLOAT, ("n", 6))}, ["z"], weights), device="cpu")
    assert [(layer.name, layer.shape) for layer in model.layers] == [("x", (6,)), ("y", (2, 3)), ("z", (2, 3))]


def test_one_number_per_sample_is_visited_as_one_feature() -> None:
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)]
    proto = assemble(
        nodes, {"x": (TensorProto.FLOAT, ("n", 4))}, ["y"], [numpy_helper.from_array(np.array([1]), "axes")]
    )
    batch = torch.ones(3, 4)
    seen = capture(load_onnx(proto, device="cpu"), {"x": batch}, ["y"])
    torch.testing.assert_close(seen["y"], torch.full((3, 1), 4.0))


def test_an_output_that_is_a_sequence_is_refused_by_forward_and_its_inputs_are_layers() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("SplitToSequence", ["y"], ["parts"], axis=1),
    ]
    model = load_onnx(assemble(nodes, {"x": (TensorProto.FLOAT, ("n", 4))}, ["parts"]), device="cpu")
    assert list(capture(model, {"x": torch.ones(2, 4)})) == ["x", "y"]
    with pytest.raises(InputError, match=r"output 'parts' of model 'net' is not a tensor"):
        model.forward({"x": torch.ones(2, 4)})


def test_half_precision_layers_are_given_as_they_are() -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16), helper.make_node("Relu", ["y"], ["z"])]
    model = load_onnx(assemble(nodes, {"x": (TensorProto.FLOAT, ("n", 4))}, ["z"]), device="cpu")
    assert [layer.dtype for layer in model.layers] == ["float32", "float16", "float16"]
    assert capture(model, {"x": torch.ones(2, 4)})["z"].dtype == torch.float16


def test_functions_of_the_model_are_opened() -> None:
    function = helper.make_function(
        "local", "Twice", ["a"], ["c"],
        [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Tanh", ["b"], ["c"])],
        [helper.make_opsetid("", 20)],
    )  # fmt: skip
    proto = assemble([helper.make_node("Twice", ["x"], ["y"], domain="local")], {"x": (1, ("n", 4))}, ["y"])
    proto.opset_import.append(helper.make_opsetid("local", 1))
    proto.functions.append(function)
    assert [layer.operation for layer in load_onnx(proto, device="cpu").layers] == ["Input", "Relu", "Tanh"]


# Files


def test_a_file_is_loaded_under_its_own_name_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    onnx.save(residual_net(), path)
    before = path.read_bytes()
    model = load_onnx(path, device="cpu")
    capture(model, {"image": images(2)})
    assert model.name == "tiny"
    assert model.source == f"onnx:{path}"
    assert model.device == "cpu"
    assert path.read_bytes() == before
    assert load_onnx(str(path), name="other", device="cpu").name == "other"


def test_a_model_in_memory_is_not_modified() -> None:
    proto = residual_net()
    before = proto.SerializeToString(deterministic=True)
    capture(load_onnx(proto, device="cpu", memory_budget=1), {"image": images(2)})
    assert proto.SerializeToString(deterministic=True) == before


def test_weights_in_a_file_beside_the_model_work_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.onnx"
    onnx.save(residual_net(), path, save_as_external_data=True, location="large.data", size_threshold=0)
    assert (tmp_path / "large.data").stat().st_size > 300
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    batch = {"image": images(2)}
    model = load_onnx(path, device="cpu", memory_budget=1)
    assert all(not tensor.raw_data for tensor in model._graph.initializers.values())
    expected = capture(load_onnx(residual_net(), device="cpu"), batch)
    for name, values in capture(model, batch).items():
        torch.testing.assert_close(values, expected[name], atol=1e-6 * float(values.abs().max()), rtol=1e-6)
    monkeypatch.chdir(tmp_path)
    torch.testing.assert_close(load_onnx("large.onnx", device="cpu").forward(batch), expected["logits"])


def test_a_missing_weight_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    onnx.save(residual_net(), path, save_as_external_data=True, location="large.data", size_threshold=0)
    (tmp_path / "large.data").unlink()
    with pytest.raises(ModelLoadError, match=r"weights lie in \S*large\.data, which does not exist"):
        load_onnx(path, device="cpu")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"There is no file \S*gone\.onnx; give the path of an ONNX model"):
        load_onnx(tmp_path / "gone.onnx")
    with pytest.raises(ModelLoadError, match=r"is not an ONNX model: it is a folder"):
        load_onnx(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"This is not a network at all.\n" * 20, "it is another kind of file, or truncated"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "it is another kind of file, or truncated"),
        (onnx.ModelProto(ir_version=9).SerializeToString(), "it holds no graph"),
    ],
)
def test_what_is_no_onnx_file_is_refused_by_path_and_reason(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=rf"bad\.onnx is not an ONNX model: {words}"):
        load_onnx(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    content = residual_net().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ModelLoadError, match=r"cut\.onnx is not an ONNX model"):
        load_onnx(path)


def test_an_unknown_operator_is_named() -> None:
    proto = assemble([helper.make_node("Frobnicate", ["x"], ["y"])], {"x": (1, ("n", 4))}, ["y"])
    with pytest.raises(ModelLoadError, match=r"cannot run the model: there is no operator Frobnicate in opset 20"):
        load_onnx(proto, device="cpu")


# What the file says of images and classes


def annotated(**metadata: object) -> ModelProto:
    proto = residual_net()
    helper.set_model_props(proto, {f"outcrop.{key}": json.dumps(value) for key, value in metadata.items()})
    return proto


def test_classes_are_read_from_the_metadata() -> None:
    assert load_onnx(annotated(classes=["cat", "dog"]), device="cpu").classes == ("cat", "dog")
    assert load_onnx(residual_net(), device="cpu").classes is None
    with pytest.raises(ModelLoadError, match=r"'outcrop\.classes' is not a JSON list of names"):
        load_onnx(annotated(classes={"cat": 1}), device="cpu")


def test_preprocessing_is_read_from_the_metadata_assumed_or_given() -> None:
    from PIL import Image

    from outcrop.models.model import Preprocessing

    recipe = {"size": [8, 8], "resize": None, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    stated = load_onnx(annotated(preprocessing=recipe), device="cpu").preprocessing
    assert stated is not None
    assert "mean [0.5, 0.5, 0.5]" in stated.description
    assert "assumed" not in stated.description
    torch.testing.assert_close(stated.transform(Image.new("RGB", (8, 8), "white")), torch.full((3, 8, 8), 2.0))
    assumed = load_onnx(residual_net(), device="cpu").preprocessing
    assert assumed is not None
    assert assumed.description.endswith("(assumed: the file says nothing of how images were prepared)")
    own = Preprocessing("none", lambda _: torch.zeros(3, 8, 8))
    assert load_onnx(residual_net(), device="cpu", preprocessing=own).preprocessing is own


# Fingerprints


def test_the_fingerprint_ignores_where_weights_lie_and_who_wrote_the_file(tmp_path: Path) -> None:
    onnx.save(residual_net(), tmp_path / "a.onnx")
    onnx.save(residual_net(), tmp_path / "b.onnx", save_as_external_data=True, location="b.data", size_threshold=0)
    changed = residual_net()
    changed.producer_name, changed.doc_string, changed.graph.doc_string = "someone", "text", "more"
    changed.graph.node[1].doc_string = "why"
    changed.graph.node[1].name = "renamed"
    helper.set_model_props(changed, {"author": "x"})
    listed = residual_net()
    listed.graph.initializer[1].ClearField("raw_data")
    listed.graph.initializer[1].float_data.extend(numpy_helper.to_array(weight("s", 4)).tolist())
    found = {
        load_onnx(source, device="cpu").fingerprint
        for source in (tmp_path / "a.onnx", tmp_path / "b.onnx", residual_net(), changed, listed)
    }
    assert len(found) == 1


def test_the_fingerprint_changes_with_a_weight_an_attribute_or_a_node() -> None:
    def weight_changed(proto: ModelProto) -> None:
        proto.graph.initializer[1].CopyFrom(weight("other", 4))
        proto.graph.initializer[1].name = "s"

    def attribute_changed(proto: ModelProto) -> None:
        next(node for node in proto.graph.node if node.op_type == "BatchNormalization").attribute.append(
            helper.make_attribute("epsilon", 0.5)
        )

    def node_changed(proto: ModelProto) -> None:
        next(node for node in proto.graph.node if node.op_type == "Relu").op_type = "Tanh"

    found = {load_onnx(residual_net(), device="cpu").fingerprint}
    for change in (weight_changed, attribute_changed, node_changed):
        proto = residual_net()
        change(proto)
        found.add(load_onnx(proto, device="cpu").fingerprint)
    assert len(found) == 4


# Images, stated behind the path


def saved(folder: Path, size: int | str = "size", channels: int = 3) -> Path:
    nodes = [helper.make_node("Relu", ["image"], ["act"]), helper.make_node("GlobalAveragePool", ["act"], ["logits"])]
    path = folder / "net.onnx"
    onnx.save(assemble(nodes, {"image": (TensorProto.FLOAT, ("n", channels, size, size))}, ["logits"]), path)
    return path


def test_options_behind_the_path_state_how_images_are_prepared(tmp_path: Path) -> None:
    from PIL import Image

    from outcrop.models import load_model

    reference = f"onnx:{saved(tmp_path)}?mean=0.5,0.25,0&std=0.25,0.5,2&size=16&resize=20"
    loaded = load_model(reference, device="cpu")
    assert (loaded.name, loaded.source) == ("net", reference)
    assert loaded.layer("act").shape == (3, 16, 16)
    assert loaded.preprocessing is not None
    assert not loaded.preprocessing.assumed
    assert loaded.preprocessing.description.startswith("shorter side to 20; bicubic interpolation; centre crop 16x16;")
    pixels = loaded.preprocessing.transform(Image.new("RGB", (40, 30), "white"))
    expected = torch.tensor([2.0, 1.5, 0.5]).reshape(3, 1, 1).expand(3, 16, 16)
    torch.testing.assert_close(pixels, expected)


def test_options_win_over_the_metadata_and_leave_the_fingerprint(tmp_path: Path) -> None:
    path = saved(tmp_path, 16)
    plain = load_onnx(path, device="cpu")
    assert plain.preprocessing is not None
    assert plain.preprocessing.assumed
    stated = load_onnx_reference(f"{path}?mean=0,0,0&std=2,2,2", device="cpu")
    assert stated.fingerprint == plain.fingerprint
    assert stated.preprocessing is not None
    assert "std [2.0, 2.0, 2.0]" in stated.preprocessing.description
    assert "shorter side to 16" in stated.preprocessing.description


@pytest.mark.parametrize("name", ["what?.onnx", "net.onnx?mean=1", "net.onnx?"])
def test_a_file_whose_name_holds_a_question_mark_opens(tmp_path: Path, name: str) -> None:
    saved(tmp_path, 16).rename(tmp_path / name)
    assert load_onnx_reference(str(tmp_path / name), device="cpu").inputs[0].shape == (3, 16, 16)


def test_a_missing_file_with_a_question_mark_is_named_in_full(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no file .*what\?\.onnx;"):
        load_onnx_reference(str(tmp_path / "what?.onnx"), device="cpu")
    with pytest.raises(ModelNotFoundError, match=r"no file .*none\.onnx;"):
        load_onnx_reference(str(tmp_path / "none.onnx?mean=0,0,0&std=1,1,1"), device="cpu")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("men=0,0,0", r"Unknown option 'men' in .* Did you mean 'mean'"),
        ("mean=0,0,0", r"state only a part of how images are prepared; write mean and std"),
        ("size=16", r"state only a part"),
        ("mean=0,0&std=1,1,1", r"mean=0,0 of 'net\.onnx' is not three numbers, one per channel"),
        ("mean=0,0,0&std=1,1,1,1", r"std=1,1,1,1 of .* is not three numbers"),
        ("mean=0,0,x&std=1,1,1", r"is not three numbers"),
        ("mean=0,nan,0&std=1,1,1", r"is not three numbers"),
        ("mean=0,0,0&std=1,0,1", r"std=1,0,1 of .* divides by zero or less"),
        ("mean=0,0,0&std=1,1,1&size=big", r"size=big of .* is not a whole number"),
        ("mean=0,0,0&std=1,1,1&size=32", r"size=32 of .* does not fit: the network takes 16 pixels"),
    ],
)
def test_wrong_options_are_refused_in_one_line(tmp_path: Path, options: str, words: str) -> None:
    with pytest.raises(ModelLoadError, match=words) as caught:
        load_onnx_reference(f"{saved(tmp_path, 16)}?{options}", device="cpu")
    assert "\n" not in str(caught.value)


def test_options_of_a_network_without_colour_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"takes images of 1 channels; mean and std prepare those of 3"):
        load_onnx_reference(f"{saved(tmp_path, 16, 1)}?mean=0,0,0&std=1,1,1", device="cpu")
    path = tmp_path / "table.onnx"
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    onnx.save(assemble(nodes, {"x": (TensorProto.FLOAT, ("n", 4))}, ["y"]), path)
    with pytest.raises(ModelLoadError, match=r"'table\.onnx' takes no images, so mean and std do not apply"):
        load_onnx_reference(f"{path}?mean=0,0,0&std=1,1,1", device="cpu")
