"""Captured values equal those of an independent trace; the trace notices a capture that in-place operations altered."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import onnx
import pytest
import timm
import torch
from torch import Tensor, nn

from outcrop.models import Layer, TorchModel


def load_checks() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks/fidelity_checks.py"
    specification = importlib.util.spec_from_file_location("fidelity_checks", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["fidelity_checks"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


checks = load_checks()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet_ln", "test_maxvit"])
def test_every_layer_of_a_network_of_timm_equals_a_dispatch_level_trace(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False)
    verdict = checks.examine_torch(name, network, tuple(network.pretrained_cfg["input_size"]))
    assert verdict.failures == []
    assert verdict.checked == verdict.layers > 40
    assert verdict.worst <= checks.TOLERANCE
    assert not verdict.fell_back


def test_every_layer_of_a_graph_equals_sessions_of_its_own() -> None:
    path = Path(onnx.__file__).parent / "backend/test/data/light/light_squeezenet.onnx"
    verdict = checks.examine_onnx("squeezenet", path, reference=True)
    assert verdict.failures == []
    assert verdict.checked == verdict.layers == 67
    assert verdict.kinds["conv"] == verdict.kinds["act"] == 26


class InPlace(nn.Module):
    """A residual block that overwrites its own values, as torchvision's do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        y += x
        y = self.relu(y)
        logits: Tensor = self.last(y).mean((2, 3))
        return logits


def captured(network: nn.Module, x: Tensor, *, copied: bool) -> list[tuple[Layer, Tensor]]:
    found: list[tuple[Layer, Tensor]] = []
    model = TorchModel(network, input_shape=tuple(x.shape[1:]))
    model.visit(
        {"input": x},
        [layer.name for layer in model.layers],
        lambda layer, values: found.append((layer, values.clone() if copied else values)),
    )
    return found


def test_the_check_finds_values_that_were_altered_after_they_were_seen() -> None:
    torch.manual_seed(0)
    network = checks.enliven(InPlace())
    x = torch.randn(2, 3, 8, 8)
    good, bad = checks.Verdict("good"), checks.Verdict("bad")
    checks.check_torch(network, {"input": x}, captured(network, x, copied=True), good)
    assert good.failures == []
    assert good.checked == 7
    checks.check_torch(network, {"input": x}, captured(network, x, copied=False), bad)
    assert len(bad.failures) == 2
    assert bad.failures[0].startswith("norm (BatchNorm2d): no operation after those of the layers before")
    assert bad.failures[1].startswith("norm: deviates by")
    assert bad.checked < 7


def test_the_check_finds_a_wrong_digit_and_a_wrong_shape() -> None:
    value = torch.randn(3, 5)
    assert checks.relative_error(value, value) == 0
    assert checks.relative_error(value * (1 + 1e-3), value) == pytest.approx(1e-3, rel=1e-3)
    assert checks.relative_error(value[:2], value) == float("inf")
    assert checks.relative_error(value, torch.full_like(value, float("nan"))) == float("inf")
    verdict = checks.Verdict("net")
    verdict.compare("layer", value * (1 + 1e-4), value, "the truth")
    assert verdict.failures == ["layer: deviates by 1.0e-04 from the truth"]
