"""VGG for CIFAR (arXiv 1409.1556, table 1, configurations A, B, D, E): its convolutions, and one dense layer.

Images of 32 pixels are a single pixel after the five poolings, so that the common CIFAR form leaves out the two wide
dense layers of the original, and counts them in the depth all the same. With batch norm (arXiv 1502.03167) after each
convolution, or without.

Every operation is a module of its own, named ``stage1.conv1``, ``stage1.norm1``, ``stage1.relu1``, ``stage1.pool``.
"""

from torch import Tensor, nn

from outcrop.errors import ZooError
from outcrop_zoo.architectures.operations import initialise_he_normal
from outcrop_zoo.architectures.requirements import require_image, require_positive

CHANNELS = (64, 128, 256, 512, 512)
"""Of the convolutions of each stage."""

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Number in each stage, by depth."""


class Vgg(nn.Module):
    """VGG-11, -13, -16 or -19.

    Args:
        depth: Weighted layers of the original, which are two more than in the CIFAR form.
        width: Multiplies the 64 to 512 channels.
        num_classes: Number of logits.
        image: Channels, height and width of an image; height and width are multiples of 32 pixels.
        batch_norm: Whether batch norm follows each convolution.

    Raises:
        ZooError: There is no VGG of this depth, another number is not positive, or the image does not fit.
    """

    def __init__(
        self,
        depth: int,
        *,
        width: int = 1,
        num_classes: int = 10,
        image: tuple[int, int, int] = (3, 32, 32),
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        if depth not in CONVOLUTIONS:
            raise ZooError(
                f"A VGG has depth {', '.join(map(str, CONVOLUTIONS))}; got depth {depth}. Choose one of them."
            )
        require_positive("A VGG", width=width, classes=num_classes)
        require_image("A VGG", image, multiple=32)
        previous = image[0]
        for position, (channels, convolutions) in enumerate(zip(CHANNELS, CONVOLUTIONS[depth], strict=True), start=1):
            stage = _stage(previous, width * channels, convolutions, batch_norm=batch_norm)
            self.add_module(f"stage{position}", stage)
            previous = width * channels
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(previous * (image[1] // 32) * (image[2] // 32), num_classes)
        self.apply(initialise_he_normal)

    def forward(self, x: Tensor) -> Tensor:
        for position in range(1, len(CHANNELS) + 1):
            x = self.get_submodule(f"stage{position}")(x)
        logits: Tensor = self.classifier(self.flatten(x))
        return logits


def _stage(channels_in: int, channels: int, convolutions: int, *, batch_norm: bool) -> nn.Sequential:
    stage = nn.Sequential()
    for position in range(1, convolutions + 1):
        stage.add_module(f"conv{position}", nn.Conv2d(channels_in, channels, 3, padding=1))
        if batch_norm:
            stage.add_module(f"norm{position}", nn.BatchNorm2d(channels))
        stage.add_module(f"relu{position}", nn.ReLU())
        channels_in = channels
    stage.add_module("pool", nn.MaxPool2d(2))
    return stage
