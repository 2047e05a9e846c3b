"""Reading graphs: layers, their kinds, names and shapes, and cutting a graph into segments."""

import random
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from outcrop.errors import ModelLoadError
from outcrop.models.graph import Dependence, Graph, ValueType
from outcrop.models.graph_layers import GraphLayers, read_inputs, read_layers
from outcrop.models.graph_scopes import read_scopes
from outcrop.models.onnx_ import OnnxModel, load_onnx
from outcrop.models.segments import cut

LIGHT_GRAPHS = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))


def weight(name: str, *shape: int) -> TensorProto:
    values = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def model(
    nodes: list[onnx.NodeProto],
    *,
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str] = ("output",),
    weights: Sequence[TensorProto] = (),
    opset: int = 20,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        list(weights),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def refuse_to_run(sizes: Mapping[str, Sequence[int]], names: Sequence[str]) -> Mapping[str, ValueType]:
    raise AssertionError(f"shape inference should have found {names}")


def layers_of(proto: onnx.ModelProto) -> GraphLayers:
    graph = Graph(proto)
    return read_layers(graph, read_inputs(graph), refuse_to_run, None)


def kinds_of(proto: onnx.ModelProto) -> dict[str, str]:
    return {layer.name: layer.kind for layer in layers_of(proto).layers}


def residual_net() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["stem"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["stem"], ["stem_relu"]),
        helper.make_node("Conv", ["stem_relu", "w1"], ["branch"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["branch", "stem_relu"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["first"]),
        helper.make_node("Conv", ["first", "w2"], ["branch2"], pads=[1, 1, 1, 1]),
        helper.make_node("Sum", ["first", "branch2"], ["second"]),
        helper.make_node("Relu", ["second"], ["act"]),
        helper.make_node("Tanh", ["second"], ["other_act"]),
        helper.make_node("Mul", ["act", "other_act"], ["product"]),
        helper.make_node("GlobalAveragePool", ["product"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3"], ["output"]),
    ]
    weights = [weight("w0", 4, 3, 3, 3), weight("w1", 4, 4, 3, 3), weight("w2", 4, 4, 3, 3), weight("w3", 4, 5)]
    return model(nodes, inputs={"image": ("batch", 3, 8, 8)}, weights=weights)


def test_layers_are_all_values_that_depend_on_the_samples_in_topological_order() -> None:
    found = layers_of(residual_net()).layers
    assert [layer.name for layer in found][:4] == ["image", "stem", "stem_relu", "branch"]
    assert [layer.index for layer in found] == list(range(14))
    assert found[0].kind == "input"
    assert found[0].operation == "Input"
    assert found[1].shape == (4, 8, 8)
    assert found[1].dims == ("channel", "y", "x")
    assert found[-1].shape == (5,)
    assert found[-1].dims == ("feature",)
    assert {layer.dtype for layer in found} == {"float32"}


def test_a_block_ends_with_the_activation_that_alone_takes_the_residual_sum() -> None:
    kinds = kinds_of(residual_net())
    assert kinds["sum"] == "add"
    assert kinds["first"] == "block"


def test_a_residual_sum_that_others_take_too_is_the_block_itself() -> None:
    kinds = kinds_of(residual_net())
    assert kinds["second"] == "block"
    assert kinds["act"] == "act"
    assert kinds["other_act"] == "act"


def test_kinds_follow_operators() -> None:
    kinds = kinds_of(residual_net())
    assert kinds["stem"] == "conv"
    assert kinds["pooled"] == "pool"
    assert kinds["flat"] == "other"
    assert kinds["output"] == "output"


def test_an_addition_that_broadcasts_is_no_residual_block() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=1),
        helper.make_node("Add", ["image", "mean"], ["shifted"]),
        helper.make_node("Relu", ["shifted"], ["output"]),
    ]
    kinds = kinds_of(model(nodes, inputs={"image": ("batch", 3, 8, 8)}, opset=17))
    assert kinds["shifted"] == "add"
    assert kinds["output"] == "output"


def test_attention_is_told_from_linear_and_from_a_final_softmax() -> None:
    nodes = [
        helper.make_node("MatMul", ["tokens", "q"], ["query"]),
        helper.make_node("Transpose", ["tokens"], ["keys"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["query", "keys"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"]),
        helper.make_node("MatMul", ["weights", "tokens"], ["mixed"]),
        helper.make_node("Softmax", ["mixed"], ["probabilities"]),
        helper.make_node("Identity", ["probabilities"], ["output"]),
    ]
    found = {layer.name: layer for layer in layers_of(
        model(nodes, inputs={"tokens": ("batch", 6, 8)}, weights=[weight("q", 8, 8)])
    ).layers}  # fmt: skip
    assert found["query"].kind == "linear"
    assert found["query"].dims == ("token", "feature")
    assert found["scores"].kind == "attention"
    assert found["weights"].kind == "attention"
    assert found["mixed"].kind == "attention"
    assert found["probabilities"].kind == "other"


def test_weights_may_be_constants_casts_or_computed() -> None:
    constant = helper.make_node("Constant", [], ["w"], value=weight("value", 4, 4))
    half = numpy_helper.from_array(np.ones((4, 4), np.float16), "half")
    nodes = [
        constant,
        helper.make_node("Cast", ["half"], ["full"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["full", "w"], ["both"]),
        helper.make_node("MatMul", ["x", "w"], ["first"]),
        helper.make_node("MatMul", ["first", "full"], ["second"]),
        helper.make_node("MatMul", ["second", "both"], ["third"]),
        helper.make_node("Relu", ["third"], ["output"]),
    ]
    assert kinds_of(model(nodes, inputs={"x": ("batch", 4)}, weights=[half])) == {
        "x": "input", "first": "linear", "second": "linear", "third": "linear", "output": "output",
    }  # fmt: skip


def test_what_depends_on_the_shape_of_the_input_alone_is_no_layer() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Expand", ["token", "shape"], ["tokens"]),
        helper.make_node("CastLike", ["token", "x"], ["alike"]),
        helper.make_node("Add", ["x", "tokens"], ["shifted"]),
        helper.make_node("Add", ["shifted", "alike"], ["output"]),
    ]
    proto = model(nodes, inputs={"x": ("batch", 4)}, weights=[weight("token", 1, 4)])
    graph = Graph(proto)
    assert graph.dependence["token"] == Dependence.NOTHING
    assert graph.dependence["tokens"] == Dependence.SHAPE
    assert graph.dependence["alike"] == Dependence.SHAPE
    assert kinds_of(proto) == {"x": "input", "shifted": "other", "output": "output"}


def test_a_value_whose_first_dimension_is_not_the_sample_is_no_layer() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0]),
        helper.make_node("Relu", ["turned"], ["rectified"]),
        helper.make_node("Transpose", ["rectified"], ["output"], perm=[1, 0]),
    ]
    assert list(kinds_of(model(nodes, inputs={"x": ("batch", 4)}))) == ["x", "output"]


def test_one_number_per_sample_is_one_feature() -> None:
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["output"], keepdims=0)]
    axes = numpy_helper.from_array(np.array([1]), "axes")
    found = layers_of(model(nodes, inputs={"x": ("batch", 4)}, weights=[axes])).layers[-1]
    assert found.shape == (1,)
    assert found.dims == ("feature",)


def test_numbered_values_take_the_name_of_their_node_or_operator() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["11"], name="first"),
        helper.make_node("Tanh", ["11"], ["12"]),
        helper.make_node("Relu", ["12"], ["output"]),
    ]
    found = layers_of(model(nodes, inputs={"x": ("batch", 4)}))
    assert [layer.name for layer in found.layers] == ["x", "first", "Tanh_1", "output"]
    assert found.aliases["12"] == "Tanh_1"
    assert found.aliases["Relu_2"] == "output"
    assert found.aliases["input"] == "x"


def test_channels_last_images_and_transposes_keep_their_dimension_names() -> None:
    nodes = [
        helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "w"], ["conv"]),
        helper.make_node("Transpose", ["conv"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["conv", "patches"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("Relu", ["tokens"], ["output"]),
    ]
    weights = [weight("w", 4, 3, 1, 1), numpy_helper.from_array(np.array([0, 4, -1]), "patches")]
    found = {layer.name: layer.dims for layer in layers_of(
        model(nodes, inputs={"image": ("batch", 8, 8, 3)}, weights=weights)
    ).layers}  # fmt: skip
    assert found["image"] == ("y", "x", "channel")
    assert found["first"] == ("channel", "y", "x")
    assert found["last"] == ("y", "x", "channel")
    assert found["columns"] == ("feature", "token")
    assert found["output"] == ("token", "feature")


def test_nodes_out_of_order_are_sorted() -> None:
    proto = residual_net()
    nodes = list(proto.graph.node)
    random.Random(0).shuffle(nodes)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    assert kinds_of(proto) == kinds_of(residual_net())


def test_a_cycle_is_refused() -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    with pytest.raises(ModelLoadError, match=r"has a cycle at the Add that computes 'a'"):
        Graph(model(nodes, inputs={"x": ("batch", 4)}, outputs=("b",)))


def test_a_value_that_nothing_computes_is_named() -> None:
    with pytest.raises(ModelLoadError, match=r"incomplete: a Relu takes 'lost', which nothing computes"):
        Graph(model([helper.make_node("Relu", ["lost"], ["output"])], inputs={"x": ("batch", 4)}))


def test_an_input_that_is_a_sequence_or_a_scalar_is_refused() -> None:
    proto = model([helper.make_node("Relu", ["x"], ["output"])], inputs={"x": ()})
    with pytest.raises(ModelLoadError, match=r"input 'x' is not a tensor with a first dimension of samples"):
        read_inputs(Graph(proto))


def test_an_input_of_text_is_refused() -> None:
    proto = model([helper.make_node("Identity", ["x"], ["output"])], inputs={"x": ("batch", 4)})
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(ModelLoadError, match=r"input 'x' takes text, and not numbers"):
        read_inputs(Graph(proto))


def test_a_missing_weight_file_is_named(tmp_path: Path) -> None:
    proto = residual_net()
    onnx.external_data_helper.set_external_data(proto.graph.initializer[0], "gone.data")
    proto.graph.initializer[0].ClearField("raw_data")
    with pytest.raises(ModelLoadError, match=r"weight 'w0' lies in a file of its own that cannot be read"):
        Graph(proto, folder=tmp_path).tensor("w0")


def test_values_inside_a_branch_are_no_layers_and_keep_what_they_need() -> None:
    branch = [
        helper.make_graph(
            [helper.make_node("Add", ["hidden", "w"], [f"{name}_value"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_value", TensorProto.FLOAT, None)],
        )
        for name in ("then", "else")
    ]
    nodes = [
        helper.make_node("Relu", ["x"], ["hidden"]),
        helper.make_node("If", ["always"], ["output"], then_branch=branch[0], else_branch=branch[1]),
    ]
    weights = [weight("w", 4), numpy_helper.from_array(np.array(True), "always")]
    graph = Graph(model(nodes, inputs={"x": ("batch", 4)}, weights=weights))
    assert set(graph.needs[1]) == {"always", "hidden", "w"}
    assert graph.depends_on_data("output")


# Names that torch's exporter leaves


class Twice(nn.Module):
    """A block whose activation module is called twice, as in torchvision's networks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.relu(self.conv2(self.relu(self.conv1(x))) + x)
        return out


class Attends(nn.Module):
    """A transformer's block: two residual sums, of which the second is the output."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attention = torch.softmax(x @ x.transpose(1, 2), dim=-1)
        x = x + attention @ self.first(self.norm(x))
        return x + self.second(x)


@cache
def exported(which: str) -> OnnxModel:
    """Return a network that torch exported, which takes seconds."""
    from outcrop_zoo.architectures import CifarResNet

    network, shape = {
        "zoo": (CifarResNet(8), (3, 32, 32)),
        "blocks": (nn.Sequential(Twice(), Twice(), nn.Flatten(2), Attends(), Attends(), nn.Tanh()), (4, 2, 4)),
    }[which]
    samples = torch.export.Dim("batch")
    program = torch.onnx.export(
        network.eval(), (torch.randn(2, *shape),), dynamo=True, optimize=False, verbose=False,
        dynamic_shapes=({0: samples},),
    )  # fmt: skip
    assert program is not None
    return load_onnx(program.model_proto, device="cpu")


def test_an_exported_block_takes_the_name_of_its_module() -> None:
    found = exported("blocks")
    assert [(layer.name, layer.kind) for layer in found.layers][:6] == [
        ("input", "input"),
        ("0.conv1", "conv"),
        ("0.relu:0", "act"),
        ("0.conv2", "conv"),
        ("0.add", "add"),
        ("0", "block"),
    ]
    assert found.layer("2").kind == "other"
    assert found.layer("0.relu:1").name == "0"


def test_of_two_residual_sums_in_a_module_its_output_is_the_block_whatever_follows() -> None:
    kinds = {layer.name: layer.kind for layer in exported("blocks").layers}
    assert kinds["3"] == kinds["4"] == "block"
    assert kinds["3.add:0"] == "add"
    assert kinds["3.norm"] == "norm"
    assert kinds["3.first"] == "linear"
    assert kinds["3.softmax"] == "attention"
    assert kinds["3.matmul:0"] == "attention"
    assert kinds["5"] == "output"


def test_the_zoo_network_has_every_layer_of_the_papers_under_its_module_path() -> None:
    found = exported("zoo").layers
    names = [layer.name for layer in found]
    assert len(found) == 7 * 3 + 9
    assert names[:11] == [
        "input", "conv", "norm", "relu", "stage1.0.conv1", "stage1.0.norm1", "stage1.0.relu1", "stage1.0.conv2",
        "stage1.0.norm2", "stage1.0.add", "stage1.0",
    ]  # fmt: skip
    assert names[-3:] == ["pool", "flatten", "classifier"]
    kinds = {layer.name: layer.kind for layer in found}
    assert kinds["stage1.0"] == kinds["stage2.0"] == kinds["stage3.0"] == "block"
    assert kinds["stage2.0.norm1"] == "norm"
    assert kinds["classifier"] == "output"
    # relu, and one after the first convolution of each block, and one at the end of each block
    assert sum(layer.kind in ("act", "block") and layer.operation == "Relu" for layer in found) == 1 + 2 * 3


# Cutting


def chain(length: int) -> Graph:
    """Return a chain in which every value is also added to the one two later."""
    nodes = [helper.make_node("Relu", ["x"], ["v0"])]
    for step in range(1, length):
        nodes.append(helper.make_node("Mul", [f"v{step - 1}", "w"], [f"m{step}"]))
        nodes.append(helper.make_node("Add", [f"m{step}", f"v{max(step - 2, 0)}"], [f"v{step}"]))
    return Graph(model(nodes, inputs={"x": ("batch", 4)}, outputs=(f"v{length - 1}",), weights=[weight("w", 4)]))


@settings(max_examples=50, deadline=None)
@given(
    length=st.integers(2, 12),
    chosen=st.sets(st.integers(0, 11), min_size=1),
    budget=st.integers(0, 6),
)
def test_segments_compute_each_wanted_value_once_within_the_budget(length: int, chosen: set[int], budget: int) -> None:
    graph = chain(length)
    wanted = {f"v{min(step, length - 1)}" for step in chosen}
    segments = cut(graph, wanted, value_bytes=dict.fromkeys(wanted, 1), memory_budget=budget)
    given_out = [name for segment in segments for name in segment.wanted]
    assert sorted(given_out) == sorted(wanted)
    assert given_out == sorted(given_out, key=lambda name: int(name[1:]))
    assert all(len(segment.wanted) <= max(budget, 1) for segment in segments)
    # No node of the data path runs twice, and none beyond the last wanted value.
    ran = [index for segment in segments for index in segment.nodes]
    assert len(ran) == len(set(ran))
    assert max(ran) == max(graph.producer[name] for name in wanted)
    available = {"x"}
    for segment in segments:
        assert available.issuperset(segment.inputs)
        available.update(segment.outputs)
        available.difference_update(segment.last_use)


def test_what_fits_the_budget_is_one_segment() -> None:
    graph = chain(6)
    wanted = {"v1", "v3", "v5"}
    assert len(cut(graph, wanted, value_bytes=dict.fromkeys(wanted, 10), memory_budget=30)) == 1
    assert len(cut(graph, wanted, value_bytes=dict.fromkeys(wanted, 10), memory_budget=29)) == 2


def test_a_value_of_unknown_type_never_leaves_its_segment() -> None:
    graph = chain(4)
    wanted = {"v0", "v1", "v2", "v3"}
    crossable = {"v0", "v1", "v3"}
    segments = cut(graph, wanted, value_bytes=dict.fromkeys(wanted, 1), memory_budget=1, crossable=crossable)
    assert [segment.wanted for segment in segments] == [("v0",), ("v1",), ("v2", "v3")]


# Graphs that come with the onnx package


@pytest.mark.slow
@pytest.mark.parametrize("path", LIGHT_GRAPHS, ids=lambda path: path.stem)
def test_light_graphs_list_and_give_values_that_a_session_of_one_output_gives(path: Path) -> None:
    import onnxruntime

    loaded = load_onnx(path, device="cpu")
    assert loaded.batch_size == 1
    kinds = [layer.kind for layer in loaded.layers]
    assert kinds.count("conv") >= 5
    assert ("block" in kinds) == ("resnet" in path.stem or "shufflenet" in path.stem)
    chosen = [loaded.layers[len(loaded.layers) // 2], loaded.layers[-1]]
    [spec] = loaded.inputs
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    seen: dict[str, torch.Tensor] = {}
    loaded.visit(
        {spec.name: image},
        [layer.name for layer in chosen],
        lambda layer, values: seen.update({layer.name: values.clone()}),
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for layer in chosen:
        proto = onnx.load(path)
        del proto.graph.output[:]
        proto.graph.output.append(onnx.ValueInfoProto(name=layer.name))
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        [expected] = session.run(None, {spec.name: image.numpy()})
        assert seen[layer.name].shape == (1, *layer.shape)
        scale = np.abs(expected).max() + 1e-30
        np.testing.assert_allclose(seen[layer.name].numpy() / scale, expected / scale, atol=1e-5)


# Names that the older exporter leaves


def test_paths_in_the_names_of_nodes_are_modules_and_repeated_calls_share_one() -> None:
    steps = [
        ("Conv", "/layer1/layer1.0/conv.0/conv.0.0/Conv", ["x", "onnx::Conv_7", "onnx::Conv_8"]),
        ("Relu", "/layer1/layer1.0/relu/Relu", ["v0"]),
        ("Add", "/layer1/layer1.0/Add", ["v1", "x"]),
        ("Relu", "/layer1/layer1.0/relu_1/Relu", ["v2"]),
        ("Mul", "/layer1/layer1.0/scale_1/Mul", ["v3", "layer1.0.scale_1.weight"]),
        ("Tanh", "Tanh_5", ["v4"]),
    ]
    nodes = [helper.make_node(op, inputs, [f"v{k}"], name=name) for k, (op, name, inputs) in enumerate(steps)]
    weights = [weight("onnx::Conv_7", 3, 3, 1, 1), weight("onnx::Conv_8", 3), weight("layer1.0.scale_1.weight", 1)]
    graph = Graph(model(nodes, inputs={"x": ("batch", 3, 4, 4)}, outputs=("v5",), weights=weights))
    scopes = read_scopes(graph)
    assert scopes[0] is not None
    assert scopes[0].modules == ("", "layer1", "layer1.0", "layer1.0.conv.0", "layer1.0.conv.0.0")
    assert scopes[0].folded
    assert [scope and scope.module for scope in scopes[1:]] == [
        "layer1.0.relu", "layer1.0", "layer1.0.relu", "layer1.0.scale_1", None,
    ]  # fmt: skip
    assert [scope and scope.function for scope in scopes] == ["conv", "relu", "add", "relu", "mul", None]


@pytest.mark.parametrize(
    ("shape", "function"), [([0, 48], "flatten"), ([0, 3, 16], "flatten"), ([0, 4, 12], "view"), ([0, 16, 3], "view")]
)
def test_a_view_that_only_merges_neighbouring_dimensions_is_a_flatten(shape: list[int], function: str) -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["output"])
    for key, text in (("name_scopes", "['', 'view']"), ("class_hierarchy", "['Net', 'aten.view.default']")):
        node.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=text)
    proto = model([node], inputs={"x": ("batch", 3, 4, 4)}, weights=[numpy_helper.from_array(np.array(shape), "shape")])
    assert list(kinds_of(proto)) == ["input", function]
