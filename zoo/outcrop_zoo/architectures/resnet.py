"""The CIFAR ResNet v1 of the block-structure papers (arXiv 2202.07184, appendix B; arXiv 2010.15327).

Post-activation residual blocks (arXiv 1512.03385) of two 3x3 convolutions in three stages of equal depth, with
convolutions that carry a bias, batch norm at the Keras defaults (epsilon 1e-3, momentum 0.99,
which is 0.01 in torch's convention), and a 1x1 stride-2 convolution without batch norm as the
shortcut wherever the resolution changes. Pixels enter in [0, 1], not normalised further.

Every operation, the residual addition included, is a module of its own, so that hooks and an
exported graph both see the same ``7 * 3n + 8`` named operations (the papers count the input as one more).
"""

from torch import Tensor, nn

from outcrop_zoo.architectures.operations import Add, initialise_he_normal, keras_batch_norm
from outcrop_zoo.architectures.staged import StagedNetwork


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the shortcut, then ReLU."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1)
        self.norm1 = keras_batch_norm(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = keras_batch_norm(channels)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels_in == channels
            else nn.Conv2d(channels_in, channels, 1, stride=stride)
        )
        self.add = Add()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.relu1(self.norm1(self.conv1(x)))
        branch = self.norm2(self.conv2(branch))
        output: Tensor = self.relu2(self.add(branch, self.shortcut(x)))
        return output


class CifarResNet(StagedNetwork):
    """CIFAR ResNet v1 of depth ``6n + 2``.

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
        super().__init__("A CIFAR ResNet", depth, extra=2, width=width, num_classes=num_classes, image=image)
        self.conv = nn.Conv2d(image[0], self._channels, 3, padding=1)
        self.norm = keras_batch_norm(self._channels)
        self.relu = nn.ReLU()
        self._add_stages(ResidualBlock, self._channels)
        self._add_classifier()
        self.apply(initialise_he_normal)
