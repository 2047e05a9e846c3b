"""Shake-Shake (arXiv 1705.07485) as the block-structure paper trains it (arXiv 2202.07184, section 5).

A residual block adds two convolutional branches to its shortcut, mixed in training by weights that are drawn anew for
every image, once for the forward and once more, independently, for the backward pass; in evaluation each counts half.
As in the papers' code there is no ReLU after the stem, batch norm shifts and does not scale, and its running
statistics have momentum 0.999 in the convention of Keras (0.001 in torch's): they mean nothing before a few thousand
steps, so recalibrate those of a shorter training.

Every operation is a module of its own: sixteen in a block, seven more where it has a projection, and six outside.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from outcrop_zoo.architectures.operations import Add
from outcrop_zoo.architectures.staged import StagedNetwork


class ShiftingBatchNorm(nn.BatchNorm2d):
    """Batch norm that learns a shift and no scale (Keras ``scale=False``)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=1e-3)
        self.register_parameter("weight", None)

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        nn.init.zeros_(self.bias)


class _WeightBothWays(torch.autograd.Function):
    """The product with one weight per image, whose gradient is multiplied by another."""

    @staticmethod
    def forward(x: Tensor, forward_weight: Tensor, backward_weight: Tensor) -> Tensor:  # noqa: ARG004 - for backward
        return x * forward_weight

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (backward_weight,) = ctx.saved_tensors
        return gradient * backward_weight, None, None


_weight_both_ways: Callable[[Tensor, Tensor, Tensor], Tensor] = _WeightBothWays.apply


class Shake(nn.Module):
    """The share of one branch: ``b x + stop_gradient(f x - b x)`` with weights f and b per image, ``x / 2`` without.

    The value is therefore ``f x`` and its gradient ``b`` (arXiv 1705.07485, section 1.3, the variant
    Shake-Shake-Image).
    """

    def forward(self, x: Tensor, weights: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return the weighted branch.

        Args:
            x: Branch (sample, channel, y, x).
            weights: Of the forward and of the backward pass, each (sample,); one half in both where there are none.
        """
        if weights is None:
            return x * 0.5
        forward_weight, backward_weight = (weight.to(x.dtype)[:, None, None, None] for weight in weights)
        return _weight_both_ways(x, forward_weight, backward_weight)


def draw_shares(samples: int, *, device: torch.device | None = None) -> Tensor:
    """Return random weights (pass, branch, sample) of two passes and two branches, which sum to 1 over the branches.

    Each is a uniform number over the sum of both, drawn from torch's generator of the device; the passes are forward
    and backward.
    """
    # Above zero, so that the sum can be divided by.
    uniform = 1 - torch.rand(2, 2, samples, device=device)
    return uniform / uniform.sum(dim=1, keepdim=True)


class Branch(nn.Module):
    """ReLU, 3x3 convolution and batch norm, twice."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1)
        self.norm1 = ShiftingBatchNorm(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = ShiftingBatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(self.relu1(x)))
        output: Tensor = self.norm2(self.conv2(self.relu2(x)))
        return output


class Concatenate(nn.Module):
    """The channels of two tensors, one after the other."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat((first, second), dim=1)


class Projection(nn.Module):
    """Shortcut to another number of channels: two subsampled copies, the second shifted by a pixel, each to one half.

    Each is pooled (1x1, with the stride) and convolved (1x1) to half of the channels; batch norm follows their
    concatenation.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.pool1 = nn.AvgPool2d(1, stride)
        self.conv1 = nn.Conv2d(channels_in, channels // 2, 1)
        # Moved by one pixel up and left, zeros coming in.
        self.shift = nn.ZeroPad2d((-1, 1, -1, 1))
        self.pool2 = nn.AvgPool2d(1, stride)
        self.conv2 = nn.Conv2d(channels_in, channels // 2, 1)
        self.concatenate = Concatenate()
        self.norm = ShiftingBatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(self.pool1(x))
        second = self.conv2(self.pool2(self.shift(x)))
        output: Tensor = self.norm(self.concatenate(first, second))
        return output


class ShakeShakeBlock(nn.Module):
    """Two branches, weighted and added, added to the shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.branch1 = Branch(channels_in, channels, stride)
        self.shake1 = Shake()
        self.branch2 = Branch(channels_in, channels, stride)
        self.shake2 = Shake()
        self.mix = Add()
        self.shortcut = nn.Identity() if channels_in == channels else Projection(channels_in, channels, stride)
        self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        first, second = None, None
        if self.training:
            (forward1, forward2), (backward1, backward2) = draw_shares(len(x), device=x.device).unbind()
            first, second = (forward1, backward1), (forward2, backward2)
        branches = self.mix(self.shake1(self.branch1(x), first), self.shake2(self.branch2(x), second))
        output: Tensor = self.add(branches, self.shortcut(x))
        return output


class ShakeShake(StagedNetwork):
    """Shake-Shake network of depth ``6n + 2``.

    In training the weights of the branches come from torch's own generator: ``torch.manual_seed`` determines them.

    Args:
        depth: Number of weighted layers along one branch, ``6n + 2`` with n blocks in each of three stages.
        width: Multiplies the 16, 32, 64 channels of the three stages; the stem keeps its 16. The paper's 26 2x32d has
            depth 26 and width 2.
        num_classes: Number of logits.
        image: Channels, height and width of an image; height and width are multiples of 4 pixels.

    Raises:
        ZooError: The depth is not of the form ``6n + 2``, another number is not positive, or the image does not fit.
    """

    def __init__(
        self, depth: int, *, width: int = 1, num_classes: int = 10, image: tuple[int, int, int] = (3, 32, 32)
    ) -> None:
        super().__init__("A Shake-Shake network", depth, extra=2, width=width, num_classes=num_classes, image=image)
        self.conv = nn.Conv2d(image[0], 16, 3, padding=1)
        self.norm = ShiftingBatchNorm(16)
        self._add_stages(ShakeShakeBlock, 16)
        self.relu = nn.ReLU()
        self._add_classifier()
        self.apply(_initialise)


def _initialise(module: nn.Module) -> None:
    """Glorot-uniform kernels and zero biases: the defaults of Keras, which the papers' code leaves."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        assert module.bias is not None  # all of them carry one
        nn.init.zeros_(module.bias)
