"""The layers of torch networks: found, named and read at the moment their values exist."""

import copy

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # the field's own name for it

from outcrop.errors import InputError, LayerNotFoundError, ModelLoadError
from outcrop.models import InputSpec, TorchModel, select_layers
from outcrop_zoo.architectures import CifarResNet


def capture(model: TorchModel, inputs: Tensor, names: list[str] | None = None) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def keep(layer, values):
        assert layer.name not in found
        found[layer.name] = values.clone()

    model.visit({model.inputs[0].name: inputs}, names or [layer.name for layer in model.layers], keep)
    return found


def seeded(factory, seed: int = 0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory()


class Functional(nn.Module):
    """Functions instead of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.first(x))
        y = self.relu(self.second(y) + y)
        scores = F.softmax(y.unsqueeze(2) @ y.unsqueeze(1), dim=-1)
        y = (scores @ y.unsqueeze(2)).squeeze(2)
        y += x
        return torch.cat([F.relu(y), x], dim=1)


class ManyOutputs(nn.Module):
    """A tuple from within, a dictionary from the whole, integers and parameters among them."""

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor], None]:
            return x * self.scale, {"argmax": x.argmax(1), "double": x * 2}, None

    def __init__(self) -> None:
        super().__init__()
        self.pair = self.Pair()
        self.bias = nn.Parameter(torch.ones(3, 4))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        one, rest, _ = self.pair(x)
        table = self.bias * 3
        return {"sum": one + rest["double"] + table.sum(0), "index": rest["argmax"]}


class Windows(nn.Module):
    """Values whose first dimension is samples times windows, in sample order and in window order."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.mixed = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        samples = x.shape[0]
        windows = self.linear(x.reshape(samples * 3, 4))
        mixed = self.mixed(x.reshape(samples, 3, 4).transpose(0, 1).reshape(samples * 3, 4))
        return windows.reshape(samples, 12) + mixed.reshape(3, samples, 4).transpose(0, 1).reshape(samples, 12)


@pytest.mark.parametrize("depth", [8, 14, 20, pytest.param(164, marks=pytest.mark.slow)])
def test_cifar_resnet_has_the_papers_number_of_layers(depth):
    model = TorchModel(seeded(lambda: CifarResNet(depth)))
    layers = select_layers(model, "all")
    assert layers == model.layers
    assert len(layers) == 7 * 3 * ((depth - 2) // 6) + 9
    assert [layer.index for layer in layers] == list(range(len(layers)))
    assert len({layer.name for layer in layers}) == len(layers)
    assert (layers[0].name, layers[0].kind) == ("input", "input")
    assert (layers[-1].name, layers[-1].kind, layers[-1].operation) == ("classifier", "output", "Linear")


def test_a_block_is_one_layer_that_answers_to_the_name_of_its_last_operation():
    model = TorchModel(seeded(lambda: CifarResNet(8)))
    block = model.layer("stage1.0")
    assert (block.kind, block.operation) == ("block", "ReLU")
    assert block.dims == ("channel", "y", "x")
    assert block.shape == (16, 32, 32)
    assert model.layer("stage1.0.relu2") == model.layer("stage1") == block
    assert [layer.name for layer in model.layers if layer.kind == "block"] == ["stage1.0", "stage2.0", "stage3.0"]


def resnet18_by_hand(network, x: Tensor) -> dict[str, Tensor]:
    """Return every value of torchvision's resnet18, out of place and without hooks."""
    values = {"input": x, "conv1": network.conv1(x)}
    values["bn1"] = network.bn1(values["conv1"])
    values["relu"] = torch.clamp(values["bn1"], min=0)
    values["maxpool"] = x = network.maxpool(values["relu"])
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        for position, block in enumerate(getattr(network, stage)):
            name = f"{stage}.{position}"
            shortcut = x
            values[f"{name}.conv1"] = x = block.conv1(x)
            values[f"{name}.bn1"] = x = block.bn1(x)
            values[f"{name}.relu:0"] = x = torch.clamp(x, min=0)
            values[f"{name}.conv2"] = x = block.conv2(x)
            values[f"{name}.bn2"] = x = block.bn2(x)
            if block.downsample is not None:
                values[f"{name}.downsample.0"] = shortcut = block.downsample[0](shortcut)
                values[f"{name}.downsample.1"] = shortcut = block.downsample[1](shortcut)
            values[f"{name}.add"] = x = torch.stack([x, shortcut]).sum(0)
            values[name] = x = torch.clamp(x, min=0)
    values["avgpool"] = x = network.avgpool(x)
    values["flatten"] = x = x.reshape(len(x), -1)
    values["fc"] = network.fc(x)
    return values


def test_in_place_operations_never_alter_a_captured_value():
    network = seeded(lambda: torchvision.models.resnet18(weights=None)).eval()
    model = TorchModel(network, input_shape=(3, 64, 64))
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found = capture(model, images)
    with torch.no_grad():
        expected = resnet18_by_hand(copy.deepcopy(network), images)
    assert list(found) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-6, atol=1e-6 * float(values.abs().max()))
    assert not torch.allclose(found["layer1.0.bn2"], found["layer1.0"])
    assert not torch.allclose(found["layer1.0.bn2"], found["layer1.0.add"])


def test_functions_and_repeated_calls_have_names_of_their_own():
    model = TorchModel(seeded(Functional))
    assert [(layer.name, layer.kind) for layer in model.layers] == [
        ("input", "input"),
        ("first", "linear"),
        ("relu:0", "act"),
        ("second", "linear"),
        ("add:0", "add"),
        ("relu:1", "act"),
        ("matmul:0", "attention"),
        ("softmax", "attention"),
        ("matmul:1", "attention"),
        ("add:1", "add"),
        ("relu:2", "act"),
        ("cat", "output"),
    ]
    x = torch.randn(5, 6)
    found = capture(model, x)
    with torch.no_grad():
        first = model.network.first(x)
        torch.testing.assert_close(found["first"], first)
        torch.testing.assert_close(found["relu:0"], first.clamp(min=0))
        torch.testing.assert_close(found["cat"], model.forward({"input": x}))
    assert found["matmul:0"].shape == (5, 6, 6)


def test_tensors_in_tuples_and_dictionaries_are_named_and_those_without_samples_left_out():
    model = TorchModel(ManyOutputs(), input_shape=(4,))
    assert [layer.name for layer in model.layers] == ["input", "pair.0", "pair.1.double", "add:0", "add:1"]
    assert model.layer("output.sum") == model.layer("add:1")
    assert model.layer("pair").name == "pair.0"
    x = torch.randn(3, 4)
    found = capture(model, x)
    torch.testing.assert_close(found["pair.1.double"], 2 * x)
    torch.testing.assert_close(model.forward({"input": x}), found["add:1"])


def test_windows_belong_to_their_sample_and_values_in_another_order_are_left_out():
    model = TorchModel(seeded(Windows), input_shape=(12,))
    names = [layer.name for layer in model.layers]
    assert names == ["input", "linear", "add"]
    assert model.layer("linear").shape == (3, 4)
    assert [layer.index for layer in model.layers] == [0, 1, 2]
    x = torch.randn(5, 12)
    with torch.no_grad():
        expected = model.network.linear(x.reshape(5, 3, 4))
    torch.testing.assert_close(capture(model, x)["linear"], expected)


def test_a_sequence_first_layer_is_turned_to_sample_first():
    class SequenceFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.TransformerEncoderLayer(8, 2, 16)

        def forward(self, x: Tensor) -> Tensor:
            return self.encoder(x.transpose(0, 1)).mean(0)

    model = TorchModel(seeded(SequenceFirst), input_shape=(7, 8))
    x = torch.randn(3, 7, 8)
    found = capture(model, x)
    assert model.layer("encoder.norm2").name == "encoder"
    assert found["encoder"].shape == (3, 7, 8)
    torch.testing.assert_close(found["encoder"].mean(1), model.forward({"input": x}), rtol=1e-4, atol=1e-5)
    assert model.layer("encoder.self_attn.0").kind == "attention"
    assert model.layer("encoder.self_attn").shape == (7, 8)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["relu_", "add_", "mul", "tanh", "relu", "sigmoid_"]), min_size=1, max_size=8))
def test_any_chain_of_in_place_and_other_operations_is_captured_value_by_value(chain):
    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.linear(x)
            for name in chain:
                x = x * 1.5 if name == "mul" else x.add_(0.25) if name == "add_" else getattr(x, name)()
            return x

    model = TorchModel(seeded(Chain))
    x = torch.randn(4, 3)
    found = list(capture(model, x).values())
    with torch.no_grad():
        value = model.network.linear(x)
        expected = [x, value]
        for name in chain:
            plain = {"relu_": torch.relu, "relu": torch.relu, "tanh": torch.tanh, "sigmoid_": torch.sigmoid}
            value = value * 1.5 if name == "mul" else value + 0.25 if name == "add_" else plain[name](value)
            expected.append(value)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_layers_are_visited_once_in_execution_order_and_the_run_stops_after_the_last():
    runs = []
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    network[2].register_forward_pre_hook(lambda *_: runs.append(1))
    model = TorchModel(network)
    assert [layer.name for layer in model.layers] == ["input", "0", "1", "2"]
    runs.clear()
    seen = []
    model.visit({"input": torch.randn(3, 4)}, ["1", "0", "1"], lambda layer, _: seen.append(layer.name))
    assert seen == ["0", "1"]
    assert not runs


def hook_count(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())


def test_hooks_are_gone_after_a_visit_and_after_an_error_in_the_visitor():
    model = TorchModel(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    capture(model, torch.randn(2, 4))
    assert hook_count(model.network) == 0

    def fail(layer, values):
        raise ZeroDivisionError(layer.name)

    with pytest.raises(ZeroDivisionError, match="0"):
        model.visit({"input": torch.randn(2, 4)}, ["0"], fail)
    assert hook_count(model.network) == 0
    assert list(capture(model, torch.randn(2, 4))) == ["input", "0", "1"]


def test_the_visitor_may_compute_without_being_watched_itself():
    model = TorchModel(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)))
    seen = []
    model.visit(
        {"input": torch.randn(2, 4)},
        [layer.name for layer in model.layers],
        lambda layer, values: seen.append((layer.name, float((values @ values.T).relu().sum()))),
    )
    assert [name for name, _ in seen] == [layer.name for layer in model.layers]


def test_a_network_in_training_is_run_in_evaluation_mode_and_left_in_training():
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 4))
    network[1].eval()
    network.train()
    network[1].eval()
    model = TorchModel(network)
    before = copy.deepcopy(network.state_dict())
    x = torch.randn(6, 4)
    found = capture(model, x)
    torch.testing.assert_close(found["3"], model.forward({"input": x}))
    assert [module.training for module in network] == [True, False, True, True]
    assert network.training
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name])
    assert not found["3"].requires_grad


def test_the_input_is_seen_and_left_as_the_caller_gave_it():
    class Destroys(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x *= 0
            return self.linear(x)

    model = TorchModel(Destroys())
    x = torch.randn(3, 4)
    kept = x.clone()
    assert torch.equal(capture(model, x)["input"], kept)
    model.forward({"input": x})
    assert torch.equal(x, kept)


def test_a_fingerprint_follows_weights_structure_and_options():
    network = seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.1)))
    model = TorchModel(network)
    first = model.fingerprint
    assert TorchModel(copy.deepcopy(network)).fingerprint == first
    with torch.no_grad():
        network[0].weight[0, 0] += 1
    changed = model.fingerprint
    assert changed != first
    other = nn.Sequential(copy.deepcopy(network[0]), nn.LeakyReLU(0.2))
    assert len({first, changed, TorchModel(other).fingerprint}) == 3
    half = copy.deepcopy(network).to(torch.bfloat16)
    assert TorchModel(half).fingerprint != changed


@pytest.mark.parametrize(
    ("network", "shape", "dtype"),
    [
        (nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1)), (1, 32, 32), "float32"),
        (nn.Sequential(nn.Conv2d(3, 4, 7, stride=2), nn.AdaptiveAvgPool2d(1)), (3, 224, 224), "float32"),
        (nn.Sequential(nn.Conv2d(1, 2, 5), nn.Flatten(), nn.Linear(2 * 24 * 24, 3)), (1, 28, 28), "float32"),
        (nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten()), (2, 128), "float32"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), (3072,), "float32"),
        (nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 2)), (16,), "int64"),
        (nn.Linear(5, 2).double(), (5,), "float64"),
    ],
)
def test_an_input_shape_that_nobody_states_is_found_by_trying(network, shape, dtype):
    assert TorchModel(network).inputs == (InputSpec("input", shape, dtype),)


def test_a_network_without_a_clue_asks_for_its_input_shape():
    class Wants(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(len(x), 5, 7)

    with pytest.raises(ModelLoadError, match=r"input shape of Wants is not known.*input_shape=\(3, 64, 64\)"):
        TorchModel(Wants())
    with pytest.raises(ModelLoadError, match=r"none of .*\(3, 32, 32\).* runs"):
        TorchModel(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(7, 2)))


def test_a_stated_input_shape_that_does_not_run_is_refused_with_the_reason():
    model = TorchModel(nn.Linear(4, 2), input_shape=(5,))
    with pytest.raises(ModelLoadError, match=r"'Linear' does not run on input \(2, 5\): .*mat1 and mat2"):
        _ = model.layers


def test_a_network_that_returns_no_tensor_is_refused():
    class Silent(nn.Module):
        def forward(self, x: Tensor) -> str:
            return "nothing"

    with pytest.raises(ModelLoadError, match="'Silent' returns str; expected a tensor"):
        _ = TorchModel(Silent(), input_shape=(3,)).layers


def test_an_unknown_layer_suggests_near_names():
    model = TorchModel(seeded(lambda: CifarResNet(8)))
    with pytest.raises(LayerNotFoundError, match=r"no layer 'stage1.0.norm3'. Did you mean 'stage1.0.norm"):
        model.visit({"input": torch.randn(2, 3, 32, 32)}, ["stage1.0.norm3"], lambda *_: None)


def test_inputs_of_another_shape_are_refused():
    model = TorchModel(nn.Linear(4, 2))
    for run in (lambda x: model.visit(x, ["output"], lambda *_: None), model.forward):
        with pytest.raises(InputError, match=r"takes 'input' of shape \(4\) per sample; the data has \(5\)"):
            run({"input": torch.randn(2, 5)})


def test_a_layer_that_a_batch_does_not_pass_is_named():
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.always = nn.Linear(3, 3)
            self.seldom = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.always(x)
            return x if float(x.abs().max()) > 1e6 else self.seldom(x)

    model = TorchModel(seeded(Gate))
    with pytest.raises(InputError, match="took another path on this batch and did not compute 'seldom'"):
        model.visit({"input": torch.full((2, 3), 1e9)}, ["always", "seldom"], lambda *_: None)


class Chunks(nn.Module):
    """Works through its batch four samples at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.relu(self.linear(part)) for part in x.split(4)]) + 1


@pytest.mark.parametrize("count", [5, 8, 16])
def test_a_network_that_splits_a_large_batch_is_refused_rather_than_seen_in_part(count):
    model = TorchModel(seeded(Chunks), input_shape=(4,))
    names = [layer.name for layer in model.layers]
    seen = []
    with pytest.raises(InputError, match=f"took another path for this batch of {count}: layer 'linear' .* 4 samples"):
        model.visit({"input": torch.randn(count, 4)}, names, lambda layer, _: seen.append(layer.name))
    assert seen == ["input"]
    assert list(capture(model, torch.randn(4, 4))) == names
    assert capture(model, torch.randn(count, 4), [names[-1]])[names[-1]].shape == (count, 4)


def test_windows_of_a_split_batch_are_counted_by_sample():
    class SplitWindows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.linear(part.reshape(-1, 4)).reshape(-1, 12) for part in x.split(4)])

    model = TorchModel(seeded(SplitWindows), input_shape=(12,))
    assert capture(model, torch.randn(3, 12))["linear"].shape == (3, 3, 4)
    with pytest.raises(InputError, match="this batch of 6: layer 'linear' came with 4 samples"):
        capture(model, torch.randn(6, 12), ["linear"])


def test_the_first_tensor_of_nested_outputs_answers_to_the_name_output():
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(4, 4)
            self.two = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> dict[str, object]:
            return {"a": [self.one(x), (self.two(x),)], "b": None}

    model = TorchModel(Nested())
    assert model.layer("output").name == model.layer("output.a.0").name == "one"
    assert model.layer("output.a.1.0").name == "two"


def test_parameters_make_no_residual_addition_and_no_attention():
    class Parameters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.ones(1, 7, 4))
            self.weight = nn.Parameter(torch.eye(4))
            self.register_buffer("bias", torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            y = x + self.position[:, : x.shape[1]]
            y = y @ self.weight
            y = y + self.bias
            y = y + self.bias.expand(len(x), 7, 4)
            y = torch.einsum("snf,fg->sng", y, self.weight)
            y = torch.bmm(y, self.weight.expand(len(x), 4, 4))
            y = y + x
            y = y @ (y.transpose(1, 2) @ x)
            return (y + 1).mean(1)

    layers = TorchModel(Parameters(), input_shape=(7, 4)).layers
    assert [(layer.operation, layer.kind) for layer in layers] == [
        ("input", "input"),
        ("add", "other"),
        ("matmul", "linear"),
        ("add", "other"),
        ("add", "other"),
        ("einsum", "linear"),
        ("bmm", "linear"),
        ("add", "add"),
        ("matmul", "attention"),
        ("matmul", "attention"),
        ("add", "other"),
        ("mean", "output"),
    ]


def test_a_layer_whose_shape_depends_on_the_values_is_named():
    class Ragged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.linear(x)
            return torch.relu(x[:, :2] if float(x.abs().max()) > 1e6 else x)

    model = TorchModel(seeded(Ragged))
    with pytest.raises(InputError, match=r"Layer 'relu' has the shape \(3,\) per sample, and \(2, 2\) on this batch"):
        model.visit({"input": torch.full((2, 3), 1e9)}, ["relu"], lambda *_: None)


def test_inputs_of_another_shape_come_with_how_to_state_it():
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1))
    model = TorchModel(network)
    with pytest.raises(InputError, match=r"load it with input_shape=\(3, 48, 40\) or '\?input_shape=3x48x40'"):
        model.forward({"input": torch.zeros(1, 3, 48, 40)})
    with pytest.raises(InputError, match=r"the data offers image\.$"):
        model.forward({"image": torch.zeros(1, 3, 48, 40)})
    TorchModel(network, input_shape=(3, 48, 40)).forward({"input": torch.zeros(1, 3, 48, 40)})
    named = TorchModel(nn.Linear(4, 2), inputs=[InputSpec("input", (4,), "float32")], keywords=True)
    with pytest.raises(InputError, match=r"the data has \(5\)\.$"):
        named.forward({"input": torch.zeros(1, 5)})


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_module_is_refused_with_a_way_out():
    linear = nn.Linear(4, 2)
    for module in (torch.jit.script(linear), torch.jit.trace(linear, torch.zeros(1, 4))):
        with pytest.raises(ModelLoadError, match=r"^Linear is a TorchScript module.*export it to ONNX") as caught:
            TorchModel(module)
        assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ModelLoadError, match="'Linear' cannot run on device 'nowhere'"):
        TorchModel(nn.Linear(2, 2), device="nowhere")


@pytest.mark.slow  # torch.compile imports its compiler
def test_a_network_compiled_by_torch_is_read_through_its_original():
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert TorchModel(torch.compile(network)).network is network


def test_a_network_of_colour_images_without_preprocessing_gets_the_plain_one():
    from PIL import Image

    model = TorchModel(seeded(lambda: CifarResNet(8)))
    assert model.preprocessing is not None
    assert "assumed" in model.preprocessing.description
    assert model.preprocessing.assumed
    pixels = model.preprocessing.transform(Image.new("RGB", (64, 48), (255, 0, 0)))
    assert pixels.shape == (3, 32, 32)
    assert float(pixels[0].min()) == pytest.approx(1.0)
    assert TorchModel(nn.Linear(4, 2)).preprocessing is None


def test_windows_and_heads_are_no_images() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.qkv, self.norm = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 8), nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x)  # (sample, 8, 4, 4)
            left, right = x.chunk(2, dim=1)
            gated = left * right.sigmoid()
            windows = x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 4, 5, 1).reshape(len(x) * 4, 4, 8)
            mixed = self.qkv(windows)
            heads = x.flatten(2).transpose(1, 2).reshape(len(x), 16, 2, 4).transpose(1, 2)
            return (self.norm(heads * 2).mean((1, 2, 3)) + gated.mean((1, 2, 3)))[:, None] + mixed.mean((0, 1))[None]

    dims = {layer.name: layer.dims for layer in TorchModel(Attention(), input_shape=(3, 8, 8)).layers}
    assert dims["patches"] == dims["mul:0"] == ("channel", "y", "x")
    assert dims["qkv"] == dims["mul:1"] == dims["norm"] == ("dim_1", "dim_2", "dim_3")
