"""The multilayer perceptron (doi:10.1038/323533a0) with ReLU, on images or vectors.

Its operations are ``flatten`` (of images), ``hidden1``, ``relu1`` and so on for each hidden layer, and ``classifier``.
"""

from torch import Tensor, nn

from outcrop_zoo.architectures.operations import initialise_he_normal
from outcrop_zoo.architectures.requirements import require_image, require_positive


class Mlp(nn.Module):
    """Dense layers of equal width, each with ReLU, and a dense classifier; without batch norm.

    Args:
        depth: Number of dense layers, the classifier included; of depth 1 it is a linear classifier.
        width: Units of a hidden layer.
        num_classes: Number of logits.
        image: Channels, height and width of an image, which is flattened.
        features: Length of the vectors that it takes instead of images.

    Raises:
        ZooError: A number is not positive.
    """

    def __init__(
        self,
        depth: int,
        *,
        width: int = 1,
        num_classes: int = 10,
        image: tuple[int, int, int] = (3, 32, 32),
        features: int | None = None,
    ) -> None:
        super().__init__()
        require_positive("An MLP", depth=depth, width=width, classes=num_classes)
        if features is None:
            require_image("An MLP", image)
            features = image[0] * image[1] * image[2]
            self.flatten = nn.Flatten()
        require_positive("An MLP", features=features)
        for position in range(1, depth):
            self.add_module(f"hidden{position}", nn.Linear(features, width))
            self.add_module(f"relu{position}", nn.ReLU())
            features = width
        self.classifier = nn.Linear(features, num_classes)
        self.apply(initialise_he_normal)

    def forward(self, x: Tensor) -> Tensor:
        for module in self.children():
            x = module(x)
        return x
