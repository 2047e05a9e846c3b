"""What the convolutional networks for CIFAR have in common: three stages of blocks, between a stem and a classifier."""

from collections.abc import Callable

from torch import Tensor, nn

from outcrop_zoo.architectures.operations import average_pool
from outcrop_zoo.architectures.requirements import require_image, require_positive, stage_blocks

MakeBlock = Callable[[int, int, int], nn.Module]
"""From the channels that come in, those that go out, and the stride."""


class StagedNetwork(nn.Module):
    """A stem, three stages at 1, 1/2 and 1/4 of the resolution, pooling, and a dense classifier.

    A subclass registers its operations in the order in which they run: its stem, :meth:`_add_stages`, what it has
    behind them, :meth:`_add_classifier`. Names, and the order in which weights are drawn, follow from that.

    Args:
        title: Of the network, with its article, to begin a sentence.
        depth: Number of weighted layers, ``6n + extra`` with n blocks in each stage.
        extra: Weighted layers outside the blocks, as the papers count them.
        width: Multiplies the 16, 32, 64 channels of the stages.
        num_classes: Number of logits.
        image: Channels, height and width of an image; height and width are multiples of 4 pixels.

    Raises:
        ZooError: The depth is not of that form, another number is not positive, or the image does not fit.
    """

    conv: nn.Conv2d
    stage1: nn.Sequential
    stage2: nn.Sequential
    stage3: nn.Sequential
    pool: nn.AvgPool2d
    flatten: nn.Flatten
    classifier: nn.Linear

    def __init__(
        self, title: str, depth: int, *, extra: int, width: int, num_classes: int, image: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self._blocks = stage_blocks(title, depth, extra)
        require_positive(title, width=width, classes=num_classes)
        require_image(title, image, multiple=4)
        self._channels, self._classes, self._image = 16 * width, num_classes, image

    def forward(self, x: Tensor) -> Tensor:
        for operation in self.children():
            x = operation(x)
        return x

    def _add_stages(self, make_block: MakeBlock, channels_in: int) -> None:
        """Register ``stage1`` to ``stage3``, of n blocks each; the first of the second and third has stride 2."""
        for position in range(3):
            channels = self._channels * 2**position
            first = make_block(channels_in, channels, 1 if position == 0 else 2)
            others = (make_block(channels, channels, 1) for _ in range(self._blocks - 1))
            self.add_module(f"stage{position + 1}", nn.Sequential(first, *others))
            channels_in = channels

    def _add_classifier(self) -> None:
        """Register ``pool``, ``flatten`` and ``classifier``."""
        _, height, width = self._image
        self.pool = average_pool(height // 4, width // 4)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(4 * self._channels, self._classes)
