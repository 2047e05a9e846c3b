"""A small vision transformer (arXiv 2010.11929): patches, a class token, learned positions, pre-norm encoder blocks.

Queries, keys and values have a dense layer each, and every step of the attention, the additions included, is a module
of its own: fifteen in a block, and six outside.
"""

import torch
from torch import Tensor, nn

from outcrop.errors import ZooError
from outcrop_zoo.architectures.operations import Add
from outcrop_zoo.architectures.requirements import require_image, require_positive

EXPANSION = 4
"""Hidden units of a block's two dense layers, as a multiple of the width (arXiv 2010.11929, table 1)."""

_SPREAD = 0.02


class PatchConv2d(nn.Conv2d):
    """A linear map of each patch of images (sample, channel, y, x), as tokens (sample, token, feature)."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__(channels, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(2).transpose(1, 2)


class ClassToken(nn.Module):
    """A learned token before all others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.token, std=_SPREAD)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.cat((self.token.expand(tokens.shape[0], 1, -1), tokens), dim=1)


class PositionEmbedding(nn.Module):
    """A learned vector for each position, added to the token there."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(tokens, width))
        nn.init.trunc_normal_(self.positions, std=_SPREAD)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.positions


class ClassTokenPool(nn.Module):
    """The class token, which stands for the whole sequence."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


class Scores(nn.Module):
    """The products of queries and keys (sample, token, feature) of each head: (sample, head, token, token of the key).

    Args:
        heads: Equal parts into which the features are cut.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return split_heads(query, self.heads) @ split_heads(key, self.heads).transpose(-2, -1)


class Scale(nn.Module):
    """The product with a constant.

    Args:
        factor: The constant.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Weights(nn.Module):
    """Softmax over the tokens of the key."""

    def forward(self, scores: Tensor) -> Tensor:
        # Not nn.Softmax, which serves classifiers too: a function within attention counts as attention.
        return torch.softmax(scores, dim=-1)


class Mixture(nn.Module):
    """The values (sample, token, feature), averaged by each head's attention, the heads side by side again.

    Args:
        heads: Equal parts into which the features are cut.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, attention: Tensor, value: Tensor) -> Tensor:
        return (attention @ split_heads(value, self.heads)).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head self-attention, ``softmax(q k^T / sqrt(d)) v`` of d features a head (arXiv 1706.03762, equation 1)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.scores = Scores(heads)
        self.scale = Scale((width // heads) ** -0.5)
        self.softmax = Weights()
        self.mixture = Mixture(heads)
        self.projection = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        attention = self.softmax(self.scale(self.scores(self.query(tokens), self.key(tokens))))
        output: Tensor = self.projection(self.mixture(attention, self.value(tokens)))
        return output


class EncoderBlock(nn.Module):
    """Self-attention, then two dense layers with GELU, each behind a layer norm and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = SelfAttention(width, heads)
        self.add1 = Add()
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, EXPANSION * width)
        self.gelu = nn.GELU()
        self.contract = nn.Linear(EXPANSION * width, width)
        self.add2 = Add()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.add1(self.attention(self.norm1(tokens)), tokens)
        output: Tensor = self.add2(self.contract(self.gelu(self.expand(self.norm2(tokens)))), tokens)
        return output


class VisionTransformer(nn.Module):
    """Vision transformer without dropout; the class token is what is classified.

    Args:
        depth: Number of encoder blocks.
        width: Features of a token, a multiple of the heads.
        num_classes: Number of logits.
        image: Channels, height and width of an image; height and width are multiples of the patch.
        patch: Side of a square patch, in pixels.
        heads: Attention heads of a block.

    Raises:
        ZooError: A number is not positive, the heads do not divide the width, or the patch does not divide the image.
    """

    def __init__(
        self,
        depth: int,
        *,
        width: int = 1,
        num_classes: int = 10,
        image: tuple[int, int, int] = (3, 32, 32),
        patch: int = 4,
        heads: int = 4,
    ) -> None:
        super().__init__()
        require_positive(
            "A vision transformer", depth=depth, width=width, classes=num_classes, patch=patch, heads=heads
        )
        require_image("A vision transformer", image, multiple=patch)
        if width % heads:
            raise ZooError(
                f"A vision transformer has a width that its heads divide; got width {width} and {heads} heads. "
                f"Choose a multiple of {heads}, such as {heads * max(round(width / heads), 1)}."
            )
        tokens = 1 + (image[1] // patch) * (image[2] // patch)
        self.patches = PatchConv2d(image[0], width, patch)
        self.class_token = ClassToken(width)
        self.position = PositionEmbedding(tokens, width)
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pool = ClassTokenPool()
        self.classifier = nn.Linear(width, num_classes)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        x = self.position(self.class_token(self.patches(x)))
        x = self.norm(self.blocks(x))
        logits: Tensor = self.classifier(self.pool(x))
        return logits


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Return tokens (sample, token, feature) as (sample, head, token, feature of the head)."""
    return tokens.reshape(*tokens.shape[:-1], heads, tokens.shape[-1] // heads).transpose(1, 2)


def _initialise(module: nn.Module) -> None:
    """Truncated-normal kernels of standard deviation 0.02 and zero biases (arXiv 2012.12877, section 6)."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=_SPREAD)
        assert module.bias is not None  # all of them carry one
        nn.init.zeros_(module.bias)
