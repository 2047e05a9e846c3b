import hashlib
import json
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from outcrop.errors import ZooError
from outcrop.models.preprocessing import ImageRecipe
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.export import Export, export_network
from outcrop_zoo.parity import measure_parity, run_graph


@pytest.fixture(scope="module")
def network() -> CifarResNet:
    torch.manual_seed(3)
    network = CifarResNet(8)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics that folding or forgetting would show
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return network.to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def exported(network: CifarResNet, images: Tensor) -> Export:
    preprocessing = ImageRecipe(size=(32, 32))
    return export_network(network, images, name="net", classes=list("abcdefghij"), preprocessing=preprocessing)


@pytest.fixture(scope="module")
def initializers(exported: Export) -> dict[str, np.ndarray]:
    return {entry.name: numpy_helper.to_array(entry) for entry in exported.model.graph.initializer}


def test_every_parameter_and_statistic_is_an_initialiser_under_its_own_name(
    network: CifarResNet, initializers: dict[str, np.ndarray]
) -> None:
    expected = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    assert expected <= initializers.keys()


def test_kernels_are_stored_in_float16_and_all_else_exactly(
    network: CifarResNet, initializers: dict[str, np.ndarray]
) -> None:
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        assert initializers[name].dtype == (np.float16 if value.ndim > 1 else np.float32), name
        np.testing.assert_array_equal(initializers[name], value.numpy().astype(initializers[name].dtype), err_msg=name)


def test_batch_norm_stays_an_operation_of_its_own(exported: Export) -> None:
    counts = Counter(node.op_type for node in exported.model.graph.node)
    assert (counts["Conv"], counts["BatchNormalization"], counts["Relu"], counts["Add"]) == (9, 7, 7, 3)


def test_nodes_carry_their_module_path_and_nothing_of_the_source_code(network: CifarResNet, exported: Export) -> None:
    scopes = "".join(e.value for node in exported.model.graph.node for e in node.metadata_props)
    for path, module in network.named_modules():
        if not any(module.children()) and not isinstance(module, nn.Identity):
            assert f"'{path}'" in scopes
    assert b".py" not in exported.content
    assert b"stack_trace" not in exported.content


def test_the_file_takes_half_the_room_of_its_parameters(network: CifarResNet, exported: Export) -> None:
    full = export_network(network, torch.rand(2, 3, 32, 32), name="net", half=False)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert len(exported.content) < 0.6 * len(full.content)
    assert 2 * parameters < len(exported.content) < 2 * parameters + 40_000


def test_metadata_say_how_images_are_prepared_and_what_the_logits_mean(exported: Export) -> None:
    properties = {entry.key: entry.value for entry in exported.model.metadata_props}
    assert properties.keys() == {"outcrop.card", "outcrop.classes", "outcrop.preprocessing"}
    assert properties["outcrop.card"] == "net"
    assert json.loads(properties["outcrop.classes"]) == list("abcdefghij")
    preprocessing = json.loads(properties["outcrop.preprocessing"])
    assert (preprocessing["size"], preprocessing["mean"], preprocessing["std"]) == ([32, 32], [0, 0, 0], [1, 1, 1])


@pytest.mark.parametrize("samples", [1, 5])
def test_any_number_of_samples_gives_the_logits_of_torch(samples: int, network: CifarResNet, exported: Export) -> None:
    images = torch.rand(samples, 3, 32, 32, generator=torch.Generator().manual_seed(samples))
    session = onnxruntime.InferenceSession(exported.content, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": images.numpy()})
    with torch.no_grad():
        expected = network.eval()(images).numpy()
    # The file's kernels are rounded to eleven bits.
    np.testing.assert_allclose(logits, expected, atol=2e-3 * np.abs(expected).max())


def test_parity_covers_every_module_that_computes_something(network: CifarResNet, exported: Export) -> None:
    modules = [m for path, m in network.named_modules() if path and not isinstance(m, nn.Identity)]
    assert exported.parity.modules == len(modules)
    assert exported.layers == 7 * 3 + 8
    assert exported.parity.samples == 4
    assert 0 < exported.parity.largest_relative_error < 1e-5


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


def test_exporting_twice_gives_the_same_bytes(network: CifarResNet, images: Tensor, exported: Export) -> None:
    preprocessing = ImageRecipe(size=(32, 32))
    again = export_network(network, images, name="net", classes=list("abcdefghij"), preprocessing=preprocessing)
    assert hashlib.sha256(again.content).hexdigest() == hashlib.sha256(exported.content).hexdigest()


def test_the_network_itself_is_left_as_it_was(images: Tensor) -> None:
    network = CifarResNet(8).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    export_network(network, images, name="net")
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_a_module_called_twice_is_compared_at_its_last_call(images: Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.conv(self.relu(self.conv(x))))

    assert export_network(Twice(), images, name="twice").parity.modules == 2


def test_a_graph_that_does_not_agree_with_torch_is_refused(images: Tensor) -> None:
    class OtherWhenExported(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            values: Tensor = self.conv(x)
            return values * 1.01 if torch.compiler.is_exporting() else values

    with pytest.raises(
        ZooError, match=r"'other' does not agree with torch: the output differs by 0.01 .* at most 1e-04"
    ):
        export_network(OtherWhenExported(), images, name="other")


def test_a_module_of_another_shape_in_the_graph_is_refused(exported: Export, images: Tensor) -> None:
    pooled = CifarResNet(8).eval()
    pooled.pool = nn.Sequential(nn.AvgPool2d(8), nn.Flatten())  # type: ignore[assignment] # the point of the test
    with pytest.raises(
        ZooError, match=r"Module 'pool' returns \(4, 64\) in torch, and \(4, 64, 1, 1\) in the ONNX graph"
    ):
        measure_parity(pooled, exported.model, images)


def test_a_parameter_that_the_export_loses_is_named(images: Tensor) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    network.register_parameter("unused", nn.Parameter(torch.ones(3)))
    with pytest.raises(ZooError, match="lost 1 parameters, such as 'unused'"):
        export_network(network, images, name="net")


@pytest.mark.parametrize("value", [1e5, float("nan")])
def test_a_weight_beyond_float16_is_refused(value: float, images: Tensor) -> None:
    network = nn.Conv2d(3, 2, 1)
    nn.init.constant_(network.weight, value)
    with pytest.raises(ZooError, match=r"The weight 'weight' reaches (1e\+05|nan), beyond float16 .*half=False"):
        export_network(network, images, name="net")


def test_a_network_of_zeros_agrees_with_itself(images: Tensor) -> None:
    network = nn.Conv2d(3, 2, 1)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    assert export_network(network, images, name="net").parity.largest_relative_error == 0


def test_named_values_of_a_graph_can_be_computed(exported: Export, images: Tensor) -> None:
    relu = next(node.output[0] for node in exported.model.graph.node if node.op_type == "Relu")
    values, logits = run_graph(exported.model, images.numpy(), [relu, "logits"])
    assert values.shape == (4, 16, 32, 32)
    np.testing.assert_array_equal(logits, run_graph(exported.content, images.numpy())[0])
