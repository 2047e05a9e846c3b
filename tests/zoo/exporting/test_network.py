import hashlib
import json
from collections import Counter
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from outcrop.errors import ZooError
from outcrop.models.preprocessing import ImageRecipe
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.exporting import Export, export_network
from outcrop_zoo.interventions import Rotation, insert_rotation


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


def test_a_rotation_is_stored_exactly_and_stays_one() -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 1))
    rotated = insert_rotation(network, "1", Rotation.draw("haar", 16, seed=3))
    export = export_network(network, torch.rand(2, 3, 8, 8), name="rotated")
    stored = {entry.name: numpy_helper.to_array(entry) for entry in export.model.graph.initializer}
    assert stored["0.weight"].dtype == np.float16
    matrix = stored["1.rotation.matrix"]
    np.testing.assert_array_equal(matrix, rotated.rotation.matrix.numpy())
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(16), atol=1e-6)
    # Negative control: rounded like a kernel it would be none.
    rounded = matrix.astype(np.float16).astype(np.float32)
    assert np.abs(rounded @ rounded.T - np.eye(16)).max() > 1e-5


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


class WithHead(nn.Module):
    """A linear layer, and a head that is used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def test_parameters_that_the_forward_pass_does_not_use_stay_in_the_file_by_name() -> None:
    network = WithHead()
    export = export_network(network, torch.rand(3, 5), name="net")
    weights = {entry.name: numpy_helper.to_array(entry) for entry in export.model.graph.initializer}
    assert export.unused == ("head.weight", "head.bias")
    assert export.parameters == 5 * 4 + 4 + 4 * 3 + 3
    assert network.load_state_dict({key: torch.tensor(values) for key, values in weights.items()})
    np.testing.assert_array_equal(weights["head.weight"], network.head.weight.detach().numpy().astype(np.float16))
    assert not any("head" in value for node in export.model.graph.node for value in node.input)


def test_unused_parameters_are_dropped_on_request_and_named() -> None:
    export = export_network(WithHead(), torch.rand(3, 5), name="net", unused="drop")
    assert {entry.name for entry in export.model.graph.initializer} == {"linear.weight", "linear.bias"}
    assert export.unused == ("head.weight", "head.bias")


def test_a_weight_of_two_names_is_stored_once_and_the_file_says_so() -> None:
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
    network[2].weight = network[0].weight
    export = export_network(network, torch.rand(3, 4), name="net")
    assert [entry.name for entry in export.model.graph.initializer] == ["0.weight"]
    properties = {entry.key: entry.value for entry in export.model.metadata_props}
    assert json.loads(properties["outcrop.shared_parameters"]) == {"2.weight": "0.weight"}
    assert export.unused == ()


class Tokens(nn.Module):
    """Two inputs of different types, three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.linear = nn.Linear(3, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Any]:
        values = self.linear(self.embedding(ids)) * mask[..., None]
        return {"tokens": values, "pooled": (values.mean(1), values.amax(1)), "none": None}


def test_several_inputs_and_outputs_keep_their_names_and_order() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 7, (3, 5), generator=generator)
    example = {"ids": ids, "mask": torch.randint(0, 2, (3, 5), generator=generator)}
    network = Tokens()
    export = export_network(network, example, name="tokens", half=False)
    described = [(given.name, given.shape, given.dtype) for given in export.inputs]
    assert described == [("ids", (5,), "int64"), ("mask", (5,), "int64")]
    assert export.outputs == ("tokens", "pooled.0", "pooled.1")
    session = onnxruntime.InferenceSession(export.content, providers=["CPUExecutionProvider"])
    tokens, mean, largest = session.run(None, {key: value[:2].numpy() for key, value in example.items()})
    with torch.no_grad():
        expected = network.eval()(ids[:2], example["mask"][:2])
    np.testing.assert_allclose(tokens, expected["tokens"].numpy(), atol=1e-6)
    np.testing.assert_allclose(mean, expected["pooled"][0].numpy(), atol=1e-6)
    np.testing.assert_allclose(largest, expected["pooled"][1].numpy(), atol=1e-6)


def test_outputs_of_a_tuple_are_named_by_position() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.linear(x), x * 2

    export = export_network(Pair(), torch.rand(3, 3), name="pair", output_name="values")
    assert export.outputs == ("values.0", "values.1")


def test_the_source_is_in_the_file_and_the_release_is_not() -> None:
    export = export_network(nn.Linear(3, 2), torch.rand(2, 3), name="net", source="python:mine:net")
    properties = {entry.key: entry.value for entry in export.model.metadata_props}
    assert properties["outcrop.source"] == export.source == "python:mine:net"
    # A rebuilt model is the same file, whichever release builds it.
    assert properties.keys() == {"outcrop.card", "outcrop.source"}


class Broken(nn.Module):
    """What cannot be exported, in one way each."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Any:
        values = self.conv(x)
        if self.how == "branch":
            return values if values.sum() > 0 else x
        if self.how == "fixed":
            return torch.stack([values[index] for index in range(len(values))])
        if self.how == "pooled":
            return values.mean()
        if self.how == "operator":
            return torch.linalg.svd(values)[1]
        return {"constant": "no tensor", "integers": values.argmax(1)}.get(self.how)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("branch", r"'net' cannot be exported to ONNX: Could not guard on data-dependent expression .*\. Change that"),
        ("operator", r"'net' cannot be exported to ONNX: .*svd.*\. Change that"),
        ("fixed", r"'net' (has 4 samples in|cannot be exported to ONNX: .*sample)"),
        ("pooled", r"'net' has no samples in 'logits' whatever it is fed; the zoo keeps networks that take any number"),
        ("constant", r"'net' returns str of str; expected one floating-point tensor, or a tuple or dict of them"),
        ("integers", r"'net' returns Tensor of Tensor; expected one floating-point tensor"),
    ],
)
def test_a_network_that_cannot_be_exported_is_refused_in_one_line(how: str, message: str, images: Tensor) -> None:
    with pytest.raises(ZooError, match=message) as caught:
        export_network(Broken(how), images, name="net")
    assert "\n" not in str(caught.value)


def test_examples_have_to_be_two_or_more_and_as_many_for_each_input() -> None:
    with pytest.raises(ZooError, match="The examples for 'net' are 1 of 'image'; give the same number .* two or more"):
        export_network(nn.Linear(3, 2), torch.rand(1, 3), name="net")
    example = {"ids": torch.zeros(2, 5, dtype=torch.long), "mask": torch.zeros(3, 5)}
    with pytest.raises(ZooError, match="The examples for 'net' are 2 of 'ids', 3 of 'mask'; give the same number"):
        export_network(Tokens(), example, name="net")


def test_a_network_beyond_one_file_is_refused_before_anything_is_copied() -> None:
    network = nn.Linear(40_000, 20_000, device="meta")
    with pytest.raises(
        ZooError, match=r"weights of 'large' take 3.2 GB; one ONNX file holds 2 GB. Store it in float16"
    ):
        export_network(network, torch.rand(2, 40_000), name="large", half=False)
    network = nn.Linear(40_000, 40_000, device="meta")
    with pytest.raises(ZooError, match=r"take 3.2 GB; one ONNX file holds 2 GB. Export a smaller network."):
        export_network(network, torch.rand(2, 40_000), name="large")


def test_a_graph_that_is_right_for_many_samples_and_wrong_for_one_is_refused(images: Tensor) -> None:
    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            values: Tensor = self.conv(x)
            single = not torch.compiler.is_exporting() and len(x) == 1
            return values * 1.01 if single else values

    with pytest.raises(ZooError, match=r"'alone' does not agree with torch: the output differs by 0.0099 relative"):
        export_network(Alone(), images, name="alone")


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
