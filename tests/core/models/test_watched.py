"""Networks that cannot be watched in full, networks that return nothing, and batches of one sample or none."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # the field's own name for it

from outcrop.errors import InputError, ModelLoadError
from outcrop.models import TorchModel
from outcrop.models.watched import UnseenOperationsWarning


class Inner(nn.Module):
    """A residual step, as plain code."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x))) + x


class Outer(nn.Module):
    """Holds a step of some sort between two layers of its own."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.inner = inner
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.gelu(self.inner(self.first(x))))


class Refuses(nn.Module):
    """Runs under no function mode, as code that torch compiles for itself may."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        if torch._C._len_torch_function_stack():
            raise RuntimeError("function modes are not supported here")
        return F.gelu(self.inner(x))


def scripted(network: nn.Module, *, traced: bool = False) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript outdated
        return torch.jit.trace(network, torch.zeros(2, 4)) if traced else torch.jit.script(network)


def captured(model: TorchModel, x: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    model.visit(
        {"input": x},
        [layer.name for layer in model.layers],
        lambda layer, values: found.update({layer.name: values.clone()}),
    )
    return found


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("traced", [False, True])
def test_of_a_torchscript_module_the_output_is_a_layer_and_the_rest_is_said_to_be_unseen(traced: bool) -> None:
    network = Outer(scripted(Inner(), traced=traced)).eval()
    model = TorchModel(network, input_shape=(4,))
    with pytest.warns(
        UnseenOperationsWarning, match=r"'Outer' computes is seen: not operations inside TorchScript \('inner'\)\.$"
    ):
        layers = model.layers
    assert [(layer.name, layer.kind, layer.operation) for layer in layers] == [
        ("input", "input", "input"),
        ("first", "linear", "Linear"),
        ("inner", "other", "Inner"),
        ("gelu", "act", "gelu"),
        ("last", "output", "Linear"),
    ]
    assert model.unseen == "operations inside TorchScript ('inner')"
    x = torch.randn(3, 4)
    found = captured(model, x)
    with torch.no_grad():
        torch.testing.assert_close(found["inner"], network.inner(network.first(x)))
        torch.testing.assert_close(found["last"], network(x))
    assert torch.nn.modules.module._global_forward_hooks == {}
    assert torch.nn.modules.module._global_forward_pre_hooks == {}
    with pytest.warns(UnseenOperationsWarning):
        assert model.fingerprint == TorchModel(network, input_shape=(4,)).fingerprint


def test_a_torchscript_function_is_said_to_be_unseen() -> None:
    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.step = scripted(F.silu)

        def forward(self, x: Tensor) -> Tensor:
            return self.step(self.linear(x))

    model = TorchModel(Calls(), input_shape=(4,))
    with pytest.warns(UnseenOperationsWarning, match=r"not operations inside TorchScript \('step'\)"):
        assert [layer.name for layer in model.layers] == ["input", "linear", "output"]


def test_many_torchscript_modules_are_counted() -> None:
    network = nn.Sequential(*(scripted(nn.Linear(4, 4)) for _ in range(5)))
    model = TorchModel(network, input_shape=(4,))
    with pytest.warns(UnseenOperationsWarning, match=r"\('0', '1', '2' and 2 more\)"):
        assert [layer.kind for layer in model.layers] == ["input", *["linear"] * 4, "output"]


def test_where_functions_cannot_be_watched_module_outputs_are_listed_and_it_is_said() -> None:
    network = Refuses().eval()
    model = TorchModel(network, input_shape=(4,))
    words = (
        r"'Refuses' computes is seen: not functions between its modules, which cannot be watched "
        r"\(function modes are not supported here\): its layers are module outputs\.$"
    )
    with pytest.warns(UnseenOperationsWarning, match=words):
        names = [layer.name for layer in model.layers]
    assert names == ["input", "inner.first", "inner.second", "inner", "output"]
    x = torch.randn(3, 4)
    found = captured(model, x)
    with torch.no_grad():
        torch.testing.assert_close(found["inner.second"] + x, found["inner"])
        torch.testing.assert_close(found["output"], network(x))


def test_a_network_that_does_not_run_at_all_is_refused_for_its_own_reason() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("three channels are needed")

    with pytest.raises(
        ModelLoadError, match=r"^Model 'Fails' does not run on input \(2, 4\): three channels are needed$"
    ):
        _ = TorchModel(Fails(), input_shape=(4,)).layers


@pytest.mark.filterwarnings("ignore::outcrop.models.watched.UnseenOperationsWarning")
def test_attention_maps_of_what_cannot_be_seen_are_refused_with_the_reason() -> None:
    with pytest.raises(ModelLoadError, match=r"computes no attention among what is seen of it \(not functions between"):
        _ = TorchModel(Refuses(), input_shape=(4,), attention_maps=True).layers


def test_operations_inside_a_vmap_are_said_to_be_unseen() -> None:
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.vmap(lambda row: F.relu(self.linear(row)) + row)(x)

    model = TorchModel(Maps(), input_shape=(4,))
    with pytest.warns(UnseenOperationsWarning, match=r"not operations inside torch\.vmap \('add', 'relu'\)"):
        assert [layer.name for layer in model.layers] == ["input", "output"]


@pytest.mark.slow  # torch.compile imports its compiler
def test_a_compiled_part_is_watched_uncompiled_under_its_own_name() -> None:
    inner = Inner()
    network = Outer(torch.compile(inner, backend="eager")).eval()
    model = TorchModel(network, input_shape=(4,))
    assert [layer.name for layer in model.layers] == [
        "input", "first", "inner.first", "inner.relu", "inner.second", "inner.add", "gelu", "last",
    ]  # fmt: skip
    assert model.unseen is None
    x = torch.randn(3, 4)
    found = captured(model, x)
    with torch.no_grad():
        torch.testing.assert_close(found["last"], network(x))
        torch.testing.assert_close(found["inner.add"], inner(network.first(x)))
    function = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    function[1].compile(backend="eager")
    assert [layer.name for layer in TorchModel(function).layers] == ["input", "0", "1"]


class Returns(nn.Module):
    """Computes a layer, and returns what it is told to."""

    def __init__(self, made: object) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.made = made

    def forward(self, x: Tensor) -> object:
        y = self.linear(x)
        return y.argmax(1) if self.made == "argmax" else self.made


@pytest.mark.parametrize(
    ("made", "found"), [(None, "nothing"), ((), "tuple"), ({}, "dict"), ([None, None], "list"), (3, "int")]
)
def test_a_network_that_returns_no_tensor_is_refused_in_one_line(made: object, found: str) -> None:
    model = TorchModel(Returns(made), input_shape=(3,))
    for use in (lambda: model.layers, lambda: model.forward({"input": torch.zeros(1, 3)})):
        with pytest.raises(
            ModelLoadError, match=f"^Model 'Returns' returns {found}; expected a tensor.*them.$"
        ) as caught:
            use()
        assert "\n" not in str(caught.value)


def test_a_network_that_returns_whole_numbers_has_layers_all_the_same() -> None:
    model = TorchModel(Returns("argmax"), input_shape=(3,))
    assert [layer.name for layer in model.layers] == ["input", "linear"]
    x = torch.randn(4, 3)
    assert torch.equal(model.forward({"input": x}), model.network(x))


def test_one_sample_is_visited_and_no_sample_is_refused() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 2)
    )
    model = TorchModel(network, input_shape=(3, 8, 8))
    x = torch.randn(1, 3, 8, 8)
    found = captured(model, x)
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(found, 1)
    torch.testing.assert_close(found["4"], captured(model, x.repeat(2, 1, 1, 1))["4"][:1])
    for run in (lambda x: model.visit({"input": x}, ["4"], lambda *_: None), lambda x: model.forward({"input": x})):
        with pytest.raises(
            InputError, match=r"^Model 'Sequential' was given no samples of 'input'; give one or more\.$"
        ):
            run(torch.randn(0, 3, 8, 8))
