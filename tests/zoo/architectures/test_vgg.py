import pytest
import torch
import torchvision
from torch import nn

from outcrop.errors import ZooError
from outcrop_zoo.architectures import Vgg


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_it_computes_what_torchvision_computes_up_to_the_dense_layers(depth: int, batch_norm: bool) -> None:
    torch.manual_seed(0)
    network = Vgg(depth, batch_norm=batch_norm, image=(3, 64, 32)).eval()
    theirs = torchvision.models.get_model(f"vgg{depth}{'_bn' * batch_norm}", weights=None, init_weights=False).features
    ours = [value for name, value in network.state_dict().items() if name.startswith("stage")]
    names = list(theirs.state_dict())
    assert len(ours) == len(names)
    theirs.load_state_dict(dict(zip(names, ours, strict=True)))
    images = torch.rand(1, 3, 64, 32)
    with torch.no_grad():
        expected = network.classifier(theirs.eval()(images).flatten(1))
        torch.testing.assert_close(network(images), expected)


@pytest.mark.parametrize(
    ("depth", "parameters"), [(11, 9_231_114), (13, 9_416_010), (16, 14_728_266), (19, 20_040_522)]
)
def test_parameters_are_as_many_as_those_of_the_common_cifar_form(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        network = Vgg(depth)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_width_multiplies_all_channels() -> None:
    with torch.device("meta"):
        network = Vgg(11, width=2, num_classes=7)
    channels = [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert channels == [128, 256, 512, 512, 1024, 1024, 1024, 1024]
    assert network.classifier.weight.shape == (7, 1024)


def test_operations_are_named_by_stage_and_position() -> None:
    with torch.device("meta"):
        assert [name for name, _ in Vgg(11).stage3.named_children()] == [
            *("conv1", "norm1", "relu1", "conv2", "norm2", "relu2", "pool")
        ]
        assert [name for name, _ in Vgg(11, batch_norm=False).named_children()] == [
            *("stage1", "stage2", "stage3", "stage4", "stage5", "flatten", "classifier")
        ]


@pytest.mark.parametrize("depth", [0, 12, 20])
def test_another_depth_is_refused(depth: int) -> None:
    with pytest.raises(ZooError, match=f"A VGG has depth 11, 13, 16, 19; got depth {depth}. Choose one"):
        Vgg(depth)
