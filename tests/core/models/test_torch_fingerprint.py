"""Equal networks have equal fingerprints, and any change of what they compute shows."""

import collections
import copy
import functools
import operator
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # the field's own name for it

from outcrop.models import TorchModel
from outcrop.models.digests import Digester
from outcrop.models.own_code import is_library
from outcrop.models.torch_fingerprint import fingerprint_network


class Network(nn.Module):
    """A linear layer with constant weights, and whatever else it is given."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        nn.init.constant_(self.linear.weight, 0.5)
        nn.init.zeros_(self.linear.bias)
        for name, value in options.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Scale:
    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.factor


class Settings:
    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.whole = self  # a cycle


def times(factor: float):
    return lambda x: x * factor


def plus(x: Tensor, amount: float = 1.0) -> Tensor:
    return x + amount


def with_global(value: object) -> types.FunctionType:
    """Return a function whose only difference is a global value that it uses."""
    namespace: dict[str, object] = {"__name__": "a_users_module", "AMOUNT": value}
    exec("def add(x):\n    return x + AMOUNT", namespace)
    function = namespace["add"]
    assert isinstance(function, types.FunctionType)
    return function


def with_helper(factor: float) -> types.FunctionType:
    """Return a function that calls one of another module, which differs."""
    helpers = types.ModuleType("a_users_helpers")
    vars(helpers)["scale"] = times(factor)
    namespace: dict[str, object] = {"__name__": "a_users_module", "helpers": helpers}
    exec("def apply(x):\n    return helpers.scale(x)", namespace)
    function = namespace["apply"]
    assert isinstance(function, types.FunctionType)
    return function


def fingerprint(**options: object) -> str:
    return fingerprint_network(Network(**options))


DIFFERENT = {
    "functions of torch": (F.relu, F.gelu, torch.tanh, torch.sigmoid, torch.relu, F.max_pool2d, F.max_pool1d),
    "methods of tensors": (Tensor.relu, Tensor.sigmoid),
    "lambdas on one line": (lambda x: x * 2, lambda x: x * 7, lambda x: x + 2),
    "closures": (times(2.0), times(3.0)),
    "defaults": (plus, types.FunctionType(plus.__code__, plus.__globals__, "plus", (2.0,))),
    "globals": (with_global(1), with_global(2)),
    "helpers in a user's modules": (with_helper(1.0), with_helper(2.0)),
    "partial functions": (functools.partial(plus, amount=2.0), functools.partial(plus, amount=3.0)),
    "bound methods": (Settings(1.0).__eq__, Settings(2.0).__eq__),
    "cached functions": (functools.lru_cache(times(2.0)), functools.lru_cache(times(3.0))),
    "callable objects": (Scale(1.0), Scale(2.0)),
    "objects in a cycle": (Settings(1.0), Settings(2.0)),
    "objects without attributes": (operator.itemgetter(0), operator.itemgetter(1)),
    "numbers": (1, 2, 1.0, True, None, 1j),
    "texts": ("a", b"a", "b"),
    "lists": ([1], [2], [1, 1], [[1]]),
    "queues": (collections.deque([1]), collections.deque([2])),
    "dictionaries": ({"k": 1.0}, {"k": 5.0}, {"m": 1.0}, {"k": {"k": 1.0}}),
    "sets": ({"a"}, {"b"}, {"a", "b"}, frozenset()),
    "tensors": (torch.zeros(4), torch.ones(4), torch.zeros(4, 1), torch.zeros(4, dtype=torch.int32)),
    "sparse tensors": (torch.eye(2).to_sparse(), 2 * torch.eye(2).to_sparse()),
    "tensors of other dtypes": tuple(torch.ones(2, dtype=one) for one in (torch.bfloat16, torch.half, torch.cfloat)),
    "arrays": (np.zeros(4), np.ones(4), np.zeros((2, 2)), np.array(["a"], dtype=object), np.float32(1)),
    "dtypes": (torch.float32, torch.float16, np.dtype("float32")),
    "classes": (nn.ReLU, nn.GELU, Scale, Settings),
    "modules in a list": ([nn.ReLU()], [nn.GELU()]),
    "slices": (slice(1), slice(2), range(1), range(2)),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_different_options_have_different_fingerprints(what):
    values = DIFFERENT[what]
    for name in ("act", "_act"):
        assert len({fingerprint(**{name: value}) for value in values}) == len(values), name
        for value in values:
            assert fingerprint(**{name: value}) == fingerprint(**{name: value})


EQUAL = {
    "lambdas": (lambda x: x * 2, lambda y: y * 2),
    "sets": ({"a", "b", "c"}, {"c", "b", "a"}),
    "devices": (torch.device("cpu"), torch.device("cuda:0")),
    "tensors in another layout": (torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 2).to(memory_format=torch.channels_last)),
    "closures": (times(2.0), times(2.0)),
    "objects": (Settings(1.0), Settings(1.0)),
    "generic objects": (object(), object()),
}


@pytest.mark.parametrize("what", EQUAL)
def test_equal_options_have_equal_fingerprints(what):
    assert len({fingerprint(act=value) for value in EQUAL[what]}) == 1


def test_where_a_network_came_from_does_not_matter():
    assert fingerprint(pretrained_cfg={"file": "/a"}) == fingerprint(pretrained_cfg={"file": "/b"}) == fingerprint()


def test_buffers_count_whether_saved_or_not():
    prints = set()
    for persistent in (True, False):
        for value in (0.0, 1.0):
            network = Network()
            network.register_buffer("frequency", torch.full((4,), value), persistent=persistent)
            prints.add(fingerprint_network(network))
    assert len(prints) == 2


def test_the_activation_of_a_transformer_layer_counts():
    def layer(activation):
        torch.manual_seed(0)
        return nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True)

    with torch.random.fork_rng(devices=[]):
        prints = [fingerprint_network(layer(one)) for one in (torch.tanh, torch.sigmoid, F.relu, torch.tanh)]
    assert len(set(prints)) == 3
    assert prints[0] == prints[3]


def test_a_forward_given_to_one_instance_counts():
    network = Network()
    network.forward = lambda x: network.linear(x) * 2
    other = Network()
    other.forward = lambda x: other.linear(x) * 3
    assert len({fingerprint_network(one) for one in (network, other, Network())}) == 3


def test_a_users_hook_that_changes_values_counts():
    network = Network()
    handle = network.linear.register_forward_hook(lambda *values: values[-1] * 2)
    changed = fingerprint_network(network)
    handle.remove()
    assert changed != fingerprint_network(network) == fingerprint()


def test_code_counts_wherever_in_the_classes_it_stands():
    def kind(scale, base_scale):
        class Base(Network):
            def scaled(self, x: Tensor) -> Tensor:
                return x * base_scale

        class Child(Base):
            factor = scale

            def forward(self, x: Tensor) -> Tensor:
                return self.scaled(self.linear(x)) * self.factor

        return Child()

    prints = [fingerprint_network(kind(*numbers)) for numbers in ((1, 1), (2, 1), (1, 2), (1, 1))]
    assert len(set(prints)) == 3
    assert prints[0] == prints[3]


def test_wiring_counts_and_sharing_does_not():
    def network(second, third):
        layers = [nn.Linear(2, 2) for _ in range(2)]
        for value, layer in enumerate(layers):
            nn.init.constant_(layer.weight, value)
            nn.init.zeros_(layer.bias)
        return nn.Sequential(layers[0], layers[second], copy.deepcopy(layers[third]))

    prints = {wiring: fingerprint_network(network(*wiring)) for wiring in ((0, 0), (0, 1), (1, 0), (1, 1))}
    assert len(set(prints.values())) == 4
    shared = network(0, 1)
    assert fingerprint_network(shared) == fingerprint_network(nn.Sequential(*map(copy.deepcopy, shared)))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_traced_and_scripted_parts_count():
    def traced(factor):
        return torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2, bias=False), nn.Threshold(factor, 0)))

    def scripted(factor):
        return Network(part=torch.jit.script(nn.Threshold(factor, 0.0)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one = traced(1.0)
    assert fingerprint_network(one) == fingerprint_network(copy.deepcopy(one)) != fingerprint_network(traced(2.0))
    prints = [fingerprint_network(scripted(factor)) for factor in (1.0, 2.0, 1.0)]
    assert prints[0] == prints[2] != prints[1]


def test_weights_altered_behind_torchs_back_are_seen():
    network = Network()
    model = TorchModel(network)
    prints = [model.fingerprint]
    network.linear.weight.data.mul_(3.0)
    prints.append(model.fingerprint)
    network.linear.weight.data = torch.zeros(4, 4)
    prints.append(model.fingerprint)
    network.linear.weight.numpy(force=True)[0, 0] = 7
    prints.append(model.fingerprint)
    assert len(set(prints)) == 4
    assert prints[-1] == fingerprint_network(copy.deepcopy(network))


def test_what_a_run_leaves_in_a_network_is_no_part_of_its_function():
    class Remembers(Network):
        def __init__(self, scale: float) -> None:
            super().__init__(scale=scale, calls=0, last=None)
            self.register_buffer("seen", torch.zeros(4), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.last = self.linear(x)
            self.seen = self.last.mean(0)
            return self.last * self.scale

    model = TorchModel(Remembers(2.0))
    before = model.fingerprint
    model.forward({"input": torch.randn(3, 4)})
    assert model.fingerprint == before == TorchModel(Remembers(2.0), input_shape=(4,)).fingerprint
    assert TorchModel(Remembers(3.0)).fingerprint != before
    model.network.scale = 5.0
    assert model.fingerprint != before


def test_lazy_weights_have_a_fingerprint_once_they_are_there():
    model = TorchModel(nn.Sequential(nn.LazyLinear(3)), input_shape=(4,))
    first = model.fingerprint
    assert first == model.fingerprint
    assert first != TorchModel(nn.Sequential(nn.LazyLinear(2)), input_shape=(4,)).fingerprint


_SCRIPT = """
import functools, torch
from torch import nn
from outcrop.models import TorchModel

class Typed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 4)
        self.names = {"one", "two", "three", ("four", 5)}
        self.act = functools.partial(lambda x, names: x if "one" in {"one", "two", "three"} else -x, names=self.names)
        self.anything = object()
        self.parent = [self]
        self.kind = Typed

    def forward(self, x):
        return self.act(self.linear(x))

found = TorchModel(Typed()).fingerprint
print(found)
"""


def test_a_fingerprint_is_the_same_in_every_process():
    environment = {**os.environ, "PYTHONHASHSEED": "1"}  # of this process it is another, mostly
    run = subprocess.run([sys.executable, "-c", _SCRIPT], env=environment, capture_output=True, text=True, check=True)
    namespace: dict[str, object] = {"__name__": "__main__"}
    with torch.random.fork_rng(devices=[]):
        exec(_SCRIPT, namespace)
    assert namespace["found"] == run.stdout.strip()


def test_contiguous_weights_are_hashed_where_they_are(monkeypatch):
    """The bytes that are hashed are those of the weight itself."""
    import outcrop.models.digests as digests

    seen = []
    monkeypatch.setattr(digests, "_with_bytes", lambda _, content: seen.append(content) or b"")
    weight = torch.ones(3, 5)
    Digester().digest(weight)
    assert np.frombuffer(seen[0], dtype=np.uint8).ctypes.data == weight.data_ptr()
    assert seen[0].nbytes == weight.nbytes


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("torch.nn.functional", True),
        ("functools", True),
        ("pytest", True),
        ("_operator", True),
        (None, True),
        ("__main__", False),
        ("a_module_that_is_not_loaded", False),
        ("outcrop.models", False),
    ],
)
def test_installed_modules_are_told_from_a_users_own(module, library):
    assert is_library(module) is library
