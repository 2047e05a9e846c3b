"""A small residual network with batch statistics of its own, and its export."""

import pytest
import torch
from torch import Tensor, nn

from outcrop.models.preprocessing import ImageRecipe
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.exporting import Export, export_network


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
