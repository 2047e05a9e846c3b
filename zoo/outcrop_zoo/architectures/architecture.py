"""The description of a network as data, as recipes and cards hold it. Imports no torch."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

ArchitectureName = Literal["cifar_resnet", "plain_cnn", "shake_shake", "wide_resnet", "vgg", "mlp", "vit"]

REFERENCES: dict[ArchitectureName, tuple[str, ...]] = {
    "cifar_resnet": (
        "https://arxiv.org/abs/1512.03385",
        "https://arxiv.org/abs/2010.15327",
        "https://arxiv.org/abs/2202.07184",
    ),
    "plain_cnn": ("https://arxiv.org/abs/1512.03385", "https://arxiv.org/abs/2010.15327"),
    "shake_shake": ("https://arxiv.org/abs/1705.07485", "https://arxiv.org/abs/2202.07184"),
    "wide_resnet": ("https://arxiv.org/abs/1605.07146",),
    "vgg": ("https://arxiv.org/abs/1409.1556", "https://arxiv.org/abs/1502.03167"),
    "mlp": ("https://doi.org/10.1038/323533a0",),
    "vit": ("https://arxiv.org/abs/2010.11929",),
}
"""Where each architecture was published."""

_ALWAYS_WRITTEN = {"name", "depth", "width", "classes"}


class Architecture(BaseModel):
    """Which network is built.

    What it cannot be (a depth that the architecture does not have, an option of another architecture) is refused
    when it is built. Options that have their default are not written, so that a card shows those that matter.

    Attributes:
        name: Architecture.
        depth: Number of weighted layers as the papers count them: 6n + 2 of ``cifar_resnet``, ``plain_cnn`` and
            ``shake_shake``, 6n + 4 of ``wide_resnet``, 11, 13, 16 or 19 of ``vgg``, any of ``mlp`` (the last is the
            classifier); of ``vit`` the number of encoder blocks.
        width: Multiplies the channels of the published network; of ``mlp`` the units of a hidden layer, of ``vit``
            the features of a token.
        classes: Number of logits.
        image: Channels, height and width of an image, the last two in pixels.
        features: Of ``mlp``: length of the vectors that it takes instead of images.
        batch_norm: Of ``vgg``: whether batch norm follows each convolution.
        patch: Of ``vit``: side of a patch, in pixels.
        heads: Of ``vit``: attention heads of a block.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ArchitectureName = "cifar_resnet"
    depth: int
    width: int = 1
    classes: int = 10
    image: tuple[int, int, int] = (3, 32, 32)
    features: int | None = None
    batch_norm: bool = True
    patch: int = 4
    heads: int = 4

    def options(self) -> dict[str, Any]:
        """Return the fields beyond name, depth, width and classes that differ from their default."""
        fields = type(self).model_fields
        return {key: value for key, value in self if key not in _ALWAYS_WRITTEN and value != fields[key].default}

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = _ALWAYS_WRITTEN | self.options().keys()
        return {key: value for key, value in handler(self).items() if key in written}
