import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from torch import Tensor, nn

from outcrop.errors import ZooError
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.exporting import Export, export_network, measure_parity, relative_error, run_graph


def test_parity_measures_the_difference_of_a_layer_that_was_tampered_with(
    network: CifarResNet, exported: Export, images: Tensor
) -> None:
    stored = CifarResNet(8).eval()
    state = {e.name: torch.tensor(numpy_helper.to_array(e)).float() for e in exported.model.graph.initializer}
    stored.load_state_dict(state, strict=False)
    tampered = onnx.ModelProto()
    tampered.CopyFrom(exported.model)
    bias = next(e for e in tampered.graph.initializer if e.name == "stage2.0.conv1.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
    errors = measure_parity(stored, tampered, images)
    with torch.no_grad():
        values = stored.stage2[0].conv1(stored.stage1(stored.relu(stored.norm(stored.conv(images)))))
    assert errors["stage2.0.conv1"] == pytest.approx(0.5 / float(values.abs().max()), rel=1e-4)
    assert errors["stage1"] < 1e-5


def test_a_module_of_another_shape_in_the_graph_is_refused(exported: Export, images: Tensor) -> None:
    pooled = CifarResNet(8).eval()
    pooled.pool = nn.Sequential(nn.AvgPool2d(8), nn.Flatten())  # type: ignore[assignment] # the point of the test
    with pytest.raises(
        ZooError, match=r"Module 'pool' returns \(4, 64\) in torch, and \(4, 64, 1, 1\) in the ONNX graph"
    ):
        measure_parity(pooled, exported.model, images)


def test_named_values_of_a_graph_can_be_computed(exported: Export, images: Tensor) -> None:
    relu = next(node.output[0] for node in exported.model.graph.node if node.op_type == "Relu")
    values, logits = run_graph(exported.model, images.numpy(), [relu, "logits"])
    assert values.shape == (4, 16, 32, 32)
    np.testing.assert_array_equal(logits, run_graph(exported.content, images.numpy())[0])


def test_the_value_of_a_module_is_what_leaves_it_and_not_arithmetic_of_shapes() -> None:
    class Patches(nn.Module):
        """The exporter attributes the arithmetic of the reshape behind it to the convolution."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 2, 2)
            self.norm = nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            count, _, height, width = x.shape
            torch._assert(height == 8, "wrong height")
            values = self.conv(x).reshape(count, 4, (height // 2) * (width // 2))
            normalised: Tensor = self.norm(values.permute(0, 2, 1))
            return normalised

    assert export_network(Patches(), torch.rand(3, 3, 8, 8), name="patches").parity.modules == 2


def test_a_module_that_returns_a_tuple_with_one_tensor_is_compared() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            values: Tensor = self.attention(x, x, x, need_weights=False)[0]
            return values.mean(1)

    export = export_network(Attention(), torch.rand(3, 5, 8), name="attention", half=False)
    assert export.parity.modules == 1
    assert export.parity.largest_relative_error < 1e-5


def test_a_graph_that_does_not_run_is_refused() -> None:
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]
    shape = numpy_helper.from_array(np.array([2, 3]), "shape")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    model = helper.make_model(
        helper.make_graph(nodes, "fixed", ends[:1], ends[1:], [shape]), opset_imports=[helper.make_opsetid("", 20)]
    )
    model.ir_version = 10
    (values,) = run_graph(model, np.ones((2, 3), dtype=np.float32))
    assert values.shape == (2, 3)
    with pytest.raises(ZooError, match=r"ONNX Runtime cannot run the graph on \(1, 3\): Reshape"):
        run_graph(model, {"x": np.ones((1, 3), dtype=np.float32)})


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20), st.floats(0.1, 1e3), st.floats(-2, 2))
def test_the_error_is_relative_to_the_largest_value_whatever_the_scale(
    entries: list[float], scale: float, shift: float
) -> None:
    expected = np.array([*entries, 1000.0])
    found = expected.copy()
    found[0] += shift
    largest = np.abs(expected).max()
    assert relative_error(found, expected) == pytest.approx(abs(found[0] - expected[0]) / largest)
    assert relative_error(found * scale, expected * scale) == pytest.approx(relative_error(found, expected), abs=1e-12)
    assert relative_error(expected, expected) == 0


def test_entries_that_are_not_finite_agree_only_with_their_like() -> None:
    expected = np.array([1.0, -np.inf, np.nan, 4.0])
    assert relative_error(expected.copy(), expected) == 0
    assert relative_error(np.array([2.0, -np.inf, np.nan, 4.0]), expected) == 0.25
    assert relative_error(np.array([1.0, 5.0, np.nan, 4.0]), expected) == np.inf
    assert np.isnan(relative_error(np.array([np.nan, -np.inf, np.nan, 4.0]), expected))
    assert relative_error(np.ones(2), np.zeros(2)) == np.inf
    assert relative_error(np.ones((0, 3)), np.ones((0, 3))) == 0
