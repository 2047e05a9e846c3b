"""The CIFAR ResNet v1 without its residual connections: the CNN of arXiv 2010.15327, the plain net of arXiv 1512.03385.

All operations but the additions and the shortcuts of :mod:`outcrop_zoo.architectures.resnet` remain, under the same
names, at the same depth and with the same initialisation: ``6 * 3n + 6`` named operations. Deep ones are hard to train
at width 1 (arXiv 1512.03385, section 4.2), so that the papers widen them.
"""

from torch import Tensor, nn

from outcrop_zoo.architectures.operations import initialise_he_normal, keras_batch_norm
from outcrop_zoo.architectures.staged import StagedNetwork


class PlainBlock(nn.Module):
    """Two 3x3 convolutions, each with batch norm and ReLU."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1)
        self.norm1 = keras_batch_norm(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = keras_batch_norm(channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.norm1(self.conv1(x)))
        output: Tensor = self.relu2(self.norm2(self.conv2(x)))
        return output


class PlainCnn(StagedNetwork):
    """CIFAR ResNet of depth ``6n + 2`` without residual connections.

    Args:
        depth: Number of weighted layers, ``6n + 2`` with n blocks in each of three stages.
        width: Multiplies the 16, 32, 64 channels of the three stages.
        num_classes: Number of logits.
        image: Channels, height and width of an image; height and width are multiples of 4 pixels.

    Raises:
        ZooError: The depth is not of the form ``6n + 2``, another number is not positive, or the image does not fit.
    """

    def __init__(
        self, depth: int, *, width: int = 1, num_classes: int = 10, image: tuple[int, int, int] = (3, 32, 32)
    ) -> None:
        super().__init__("A plain CNN", depth, extra=2, width=width, num_classes=num_classes, image=image)
        self.conv = nn.Conv2d(image[0], self._channels, 3, padding=1)
        self.norm = keras_batch_norm(self._channels)
        self.relu = nn.ReLU()
        self._add_stages(PlainBlock, self._channels)
        self._add_classifier()
        self.apply(initialise_he_normal)
