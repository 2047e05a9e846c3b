"""WideResNet for CIFAR (arXiv 1605.07146), WRN-d-k: pre-activation residual blocks, k times as many channels.

Batch norm and ReLU come before each 3x3 convolution, convolutions carry no bias, and a 1x1 convolution of the
activated input is the shortcut wherever the number of channels changes (table 1 and the authors' code). Without the
paper's optional dropout. Published parameters: WRN-40-1 0.6 million, WRN-16-8 11.0, WRN-28-10 36.5 (tables 4 and 5).

Every operation is a module of its own: seven in a block, one more for each projection, and six outside.
"""

from torch import Tensor, nn

from outcrop_zoo.architectures.operations import Add, initialise_he_normal
from outcrop_zoo.architectures.staged import StagedNetwork


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU and 3x3 convolution, twice, added to the shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.projects = channels_in != channels
        self.shortcut = (
            nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False) if self.projects else nn.Identity()
        )
        self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu1(self.norm1(x))
        branch = self.conv2(self.relu2(self.norm2(self.conv1(activated))))
        # A projection takes the activated input, as in the authors' code.
        output: Tensor = self.add(branch, self.shortcut(activated if self.projects else x))
        return output


class WideResNet(StagedNetwork):
    """WRN-d-k of depth d ``6n + 4`` and widening factor k.

    Args:
        depth: Number of convolutions, the three projections included: ``6n + 4`` with n blocks in each of three stages.
        width: Multiplies the 16, 32, 64 channels of the three stages; the stem keeps its 16.
        num_classes: Number of logits.
        image: Channels, height and width of an image; height and width are multiples of 4 pixels.

    Raises:
        ZooError: The depth is not of the form ``6n + 4``, another number is not positive, or the image does not fit.
    """

    def __init__(
        self, depth: int, *, width: int = 1, num_classes: int = 10, image: tuple[int, int, int] = (3, 32, 32)
    ) -> None:
        super().__init__("A WideResNet", depth, extra=4, width=width, num_classes=num_classes, image=image)
        self.conv = nn.Conv2d(image[0], 16, 3, padding=1, bias=False)
        self._add_stages(PreActivationBlock, 16)
        self.norm = nn.BatchNorm2d(4 * self._channels)
        self.relu = nn.ReLU()
        self._add_classifier()
        self.apply(initialise_he_normal)
