"""What all networks have in common: named operations, used parameters, seeds, and what is refused."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from outcrop.errors import ZooError
from outcrop_zoo.architectures import (
    Architecture,
    CifarResNet,
    Mlp,
    PlainCnn,
    ShakeShake,
    Vgg,
    VisionTransformer,
    WideResNet,
    build_architecture,
)

SMALL = {
    "cifar_resnet": Architecture(depth=8),
    "plain_cnn": Architecture(name="plain_cnn", depth=14),
    "shake_shake": Architecture(name="shake_shake", depth=8),
    "shake_shake wide": Architecture(name="shake_shake", depth=8, width=2, classes=3),
    "wide_resnet": Architecture(name="wide_resnet", depth=16, width=2, image=(1, 28, 28)),
    "vgg": Architecture(name="vgg", depth=11, image=(1, 64, 32)),
    "vgg without batch norm": Architecture(name="vgg", depth=13, batch_norm=False),
    "mlp": Architecture(name="mlp", depth=4, width=24),
    "mlp of vectors": Architecture(name="mlp", depth=2, width=24, features=7),
    "vit": Architecture(name="vit", depth=2, width=24, heads=3, patch=8),
}


def prepared(name: str) -> nn.Module:
    """Return a network whose running statistics and shifts are not at their start, in evaluation mode."""
    torch.manual_seed(0)
    network = build_architecture(SMALL[name]).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.bias, std=0.1)
    return network


def samples(name: str, count: int = 4) -> Tensor:
    architecture = SMALL[name]
    shape = architecture.image if architecture.features is None else (architecture.features,)
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def operations(network: nn.Module) -> dict[str, nn.Module]:
    return {
        path: module
        for path, module in network.named_modules()
        if not any(module.children()) and not isinstance(module, nn.Identity)
    }


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("training", [False, True])
def test_every_operation_is_a_module_that_is_called_once(name: str, training: bool) -> None:
    network = prepared(name).train(training)
    called: list[str] = []
    for path, module in operations(network).items():
        module.register_forward_hook(lambda *_, path=path: called.append(path))
    logits = network(samples(name))
    assert logits.shape == (4, SMALL[name].classes)
    assert sorted(called) == sorted(operations(network))


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_is_used(name: str) -> None:
    network = prepared(name).train()
    x = samples(name)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(x).float()
    loss = functional.cross_entropy(logits, torch.arange(4) % SMALL[name].classes)
    torch.autograd.backward(loss)
    assert math.isfinite(float(loss.detach()))
    for path, parameter in network.named_parameters():
        assert parameter.grad is not None, path
        assert torch.isfinite(parameter.grad).all(), path
        # Batch norm takes the bias of the convolution before it away again.
        assert parameter.ndim == 1 or parameter.grad.any(), path


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_determines_the_weights(name: str) -> None:
    first, again = prepared(name).state_dict(), prepared(name).state_dict()
    torch.manual_seed(1)
    other = build_architecture(SMALL[name]).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items() if key.endswith("weight"))


@pytest.mark.parametrize(
    "network", [CifarResNet, PlainCnn, ShakeShake, WideResNet, Vgg, Mlp, VisionTransformer], ids=lambda n: n.__name__
)
@pytest.mark.parametrize("width", [0, -1, 1.5, True])
def test_a_width_that_is_no_positive_whole_number_is_refused(network: type[nn.Module], width: object) -> None:
    depth = {WideResNet: 10, Vgg: 11}.get(network, 8)
    with pytest.raises(ZooError, match=rf"^An? .* is built of whole numbers of at least 1; got width {width}.$"):
        network(depth, width=width)


def test_all_wrong_numbers_are_named_at_once() -> None:
    with pytest.raises(ZooError, match="at least 1; got width 0, classes -3.$"):
        CifarResNet(8, width=0, num_classes=-3)


@pytest.mark.parametrize(
    ("network", "depth", "image", "message"),
    [
        (CifarResNet, 8, (3, 30, 32), "A CIFAR ResNet takes images whose sides are multiples of 4 pixels; got 30 x 32"),
        (PlainCnn, 8, (3, 32, 30), "A plain CNN takes images whose sides are multiples of 4 pixels; got 32 x 30"),
        (ShakeShake, 8, (3, 33, 33), "A Shake-Shake network takes images .* of 4 pixels; got 33 x 33. Resize or pad"),
        (WideResNet, 10, (3, 2, 2), "A WideResNet takes images whose sides are multiples of 4 pixels; got 2 x 2"),
        (Vgg, 11, (1, 28, 28), "A VGG takes images whose sides are multiples of 32 pixels; got 28 x 28"),
        (VisionTransformer, 1, (3, 30, 30), "A vision transformer takes .* multiples of 4 pixels; got 30 x 30"),
        (Mlp, 2, (3, 32), r"An MLP takes images of \(channels, height, width\); got \(3, 32\)"),
        (Mlp, 2, (0, 32, 32), "An MLP is built of whole numbers of at least 1; got channels 0"),
        (Vgg, 11, (3, 0, 32), "A VGG is built of whole numbers of at least 1; got height 0"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    network: type[nn.Module], depth: int, image: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ZooError, match=message):
        network(depth, image=image)
