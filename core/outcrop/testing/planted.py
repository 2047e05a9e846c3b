"""Small synthetic activations whose structure is known."""

import numpy as np
from numpy.typing import NDArray

Layers = dict[str, NDArray[np.float32]]


def noise_layers(*, layers: int = 5, samples: int = 96, features: int = 12, seed: int = 0) -> Layers:
    """Return layers of independent standard normal values (sample, feature): nothing is shared between them.

    Args:
        layers: Number of layers; widths grow by one from layer to layer, so that none can be mistaken for another.
        samples: Samples per layer.
        features: Features of the first layer.
        seed: Of the values.
    """
    rng = np.random.default_rng(seed)
    return {
        f"layer{index}": rng.standard_normal((samples, features + index)).astype(np.float32) for index in range(layers)
    }


def planted_block(
    *,
    layers: int = 12,
    start: int = 4,
    stop: int = 10,
    samples: int = 128,
    features: int = 24,
    strength: float = 12.0,
    share: float = 0.05,
    seed: int = 0,
) -> Layers:
    """Return layers of which ``start`` to ``stop - 1`` share one dominant component, carried by few samples.

    Every layer is independent noise of unit variance per feature. In the layers of the block, a fixed set of samples
    is moved along one direction of that layer's own (arXiv 2202.07184, section 4: dominant datapoints).

    Args:
        layers: Number of layers.
        start: First layer of the block.
        stop: First layer behind it.
        samples: Samples per layer.
        features: Features per layer.
        strength: Distance moved, in standard deviations of the noise's length.
        share: Share of the samples that carry the component; at least one does.
        seed: Of all values.
    """
    rng = np.random.default_rng(seed)
    carriers = rng.choice(samples, max(1, round(share * samples)), replace=False)
    scores = np.zeros(samples)
    scores[carriers] = strength * np.sqrt(features) * (1 + 0.1 * rng.standard_normal(len(carriers)))
    planted: Layers = {}
    for index in range(layers):
        values = rng.standard_normal((samples, features))
        if start <= index < stop:
            direction = rng.standard_normal(features)
            values += np.outer(scores, direction / np.linalg.norm(direction))
        planted[f"layer{index}"] = values.astype(np.float32)
    return planted


def rotated(values: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Return the values (sample, ...) after a random rotation of their flattened features."""
    flat = values.reshape(len(values), -1)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((flat.shape[1], flat.shape[1])))
    return np.asarray(flat.astype(np.float64) @ rotation, np.float32).reshape(values.shape)
