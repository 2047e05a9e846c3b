"""What networks of three stages have in common."""

import hashlib

import pytest
import torch
from torch import nn

from outcrop_zoo.architectures import Architecture, ArchitectureName, build_architecture

STAGED: list[ArchitectureName] = ["cifar_resnet", "plain_cnn", "shake_shake", "wide_resnet"]

# Architecture, depth, width: names and shapes, state of the generator behind it, sum of squares.
RECORDED: list[tuple[ArchitectureName, int, int, str, str, float]] = [
    ("plain_cnn", 14, 2, "2f5879fcd74e1d37", "6b4b8121e827a25c", 3731.930027622569),
    ("shake_shake", 8, 1, "cedae7851ece6e6c", "5ea7294e426226e5", 1064.3481510184386),
    ("wide_resnet", 16, 2, "7695317c8c9b6a21", "3fc676dd26add615", 4096.956530551784),
]
"""Of networks seeded with 0: files and checkpoints of those that were trained must go on to fit."""


def _network(name: ArchitectureName, image: tuple[int, int, int] = (3, 32, 32)) -> nn.Module:
    return build_architecture(Architecture(name=name, depth=16 if name == "wide_resnet" else 14, image=image))


@pytest.mark.parametrize(("name", "depth", "width", "names", "generator", "squares"), RECORDED)
def test_a_seed_gives_the_weights_that_it_always_gave(
    name: ArchitectureName, depth: int, width: int, names: str, generator: str, squares: float
) -> None:
    torch.manual_seed(0)
    network = build_architecture(Architecture(name=name, depth=depth, width=width))
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(f"{key} {tuple(value.shape)} ".encode())
    assert digest.hexdigest()[:16] == names
    assert hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:16] == generator
    found = sum(float(value.double().square().sum()) for value in network.state_dict().values())
    assert found == pytest.approx(squares, rel=1e-8)


@pytest.mark.parametrize("name", STAGED)
def test_operations_run_in_the_order_in_which_they_are_named(name: ArchitectureName) -> None:
    network, ran = _network(name).eval(), []
    for path, module in network.named_children():
        module.register_forward_hook(lambda *_, path=path: ran.append(path))
    with torch.no_grad():
        network(torch.rand(1, 3, 32, 32))
    assert ran == [path for path, _ in network.named_children()]
    assert ran[-3:] == ["pool", "flatten", "classifier"]


@pytest.mark.parametrize("name", STAGED)
def test_stages_double_the_channels_and_halve_the_resolution(name: ArchitectureName) -> None:
    network, shapes = _network(name, (1, 16, 24)).eval(), {}
    for path, module in network.named_children():
        module.register_forward_hook(lambda *call, path=path: shapes.update({path: tuple(call[-1].shape[1:])}))
    with torch.no_grad():
        network(torch.rand(2, 1, 16, 24))
    assert [shapes[f"stage{stage}"] for stage in (1, 2, 3)] == [(16, 16, 24), (32, 8, 12), (64, 4, 6)]
    assert shapes["pool"] == (64, 1, 1)
    assert [len(network.get_submodule(f"stage{stage}")) for stage in (1, 2, 3)] == [2, 2, 2]  # type: ignore[arg-type] # stages are sequential
