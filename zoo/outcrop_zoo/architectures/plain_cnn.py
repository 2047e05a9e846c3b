"""The CIFAR ResNet v1 without its residual connections: the CNN of arXiv 2010.15327, the plain net of arXiv 1512.03385.

All operations but the additions and the shortcuts of :mod:`outcrop_zoo.architectures.resnet` remain, under the same
names, at the same depth and with the same initialisation: ``6 * 3n + 6`` named operations. Deep ones are hard to train
at width 1 (arXiv 1512.03385, section 4.2), so that the papers widen them.
"""

from torch import Tensor, nn

from outcrop_zoo.architectures.operations import average_pool, initialise_he_normal, keras_batch_norm
from outcrop_zoo.architectures.requirements import require_image, require_positive, stage_blocks


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


class PlainCnn(nn.Module):
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
        super().__init__()
        blocks = stage_blocks("A plain CNN", depth, 2)
        require_positive("A plain CNN", width=width, classes=num_classes)
        require_image("A plain CNN", image, multiple=4)
        channels = 16 * width
        self.conv = nn.Conv2d(image[0], channels, 3, padding=1)
        self.norm = keras_batch_norm(channels)
        self.relu = nn.ReLU()
        self.stage1 = _stage(channels, channels, blocks, stride=1)
        self.stage2 = _stage(channels, 2 * channels, blocks, stride=2)
        self.stage3 = _stage(2 * channels, 4 * channels, blocks, stride=2)
        self.pool = average_pool(image[1] // 4, image[2] // 4)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(4 * channels, num_classes)
        self.apply(initialise_he_normal)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        logits: Tensor = self.classifier(self.flatten(self.pool(x)))
        return logits


def _stage(channels_in: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = PlainBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(PlainBlock(channels, channels, 1) for _ in range(blocks - 1)))
