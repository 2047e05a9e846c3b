"""Activations of networks with a planted block and of networks without one, for tests of what detects blocks.

Every function returns (sample, feature) values by layer name, in float32, of layers in topological order.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

Layers = dict[str, NDArray[np.float32]]
Ground = Literal["noise", "drift", "residual", "shared"]

SAMPLES, LAYERS, WIDTH = 512, 14, 64


def carriers_of(seed: int, *, share: float = 0.05, samples: int = SAMPLES) -> NDArray[np.bool_]:
    """Return the samples that carry the block of :func:`network_with_block` of the same seed."""
    carriers = np.zeros(samples, dtype=bool)
    chosen = np.random.default_rng([seed, 1]).choice(samples, max(1, round(share * samples)), replace=False)
    carriers[chosen] = True
    return carriers


def network_with_block(
    seed: int,
    *,
    ground: Ground = "noise",
    start: int = 4,
    stop: int = 10,
    strength: float = 5.0,
    share: float = 0.05,
    layers: int = LAYERS,
) -> Layers:
    """Return a network of which the layers ``start`` to ``stop - 1`` share a dominant component that few samples carry.

    To each of these layers, ``s d v'`` is added: ``d`` is the indicator of the carriers, ``v`` a unit vector, new
    in every layer but those of a residual network, where a block writes it into the stream and another takes it away.

    Args:
        seed: Of all values.
        ground: What the layers are without it: independent noise; smooth drift (neighbouring CKA 0.95); the stream of
            an untrained residual network; or one representation that all layers share.
        start: First layer of the block.
        stop: First layer behind it.
        strength: ``s``, in units of the distance of a typical sample from the mean.
        share: Of the samples that carry the component.
        layers: How many there are.
    """
    rng = np.random.default_rng([seed, 0])
    make: Mapping[str, Callable[..., list[Float[np.ndarray, "sample feature"]]]] = {
        "noise": _independent,
        "drift": _drift,
        "residual": _stream,
        "shared": _alike,
    }
    values = make[ground](rng, layers)
    carriers = carriers_of(seed, share=share)
    direction = _unit(rng)
    for index in range(start, stop):
        direction = direction if ground == "residual" else _unit(rng)
        distance = np.sqrt(values[start if ground == "residual" else index].var(axis=0).sum())
        values[index] = values[index] + strength * distance * np.outer(carriers, direction)
    return _named(values)


def smooth_drift(seed: int) -> Layers:
    """Return layers that change a little from one to the next: neighbouring CKA 0.95, of distant ones near 0."""
    return _named(_drift(np.random.default_rng(seed), LAYERS))


def residual_checkerboard(seed: int) -> Layers:
    """Return branches and sums of a residual network in turn: sums resemble sums, branches nothing."""
    rng = np.random.default_rng(seed)
    stream = rng.standard_normal((SAMPLES, WIDTH))
    values = []
    for _ in range(LAYERS // 2):
        branch = _branch(rng, stream)
        stream = stream + branch
        values += [branch, stream]
    return _named(values)


def large_mean_relu(seed: int) -> Layers:
    """Return layers normalised, shifted far into the range that a ReLU passes, and rotated: means of 5 deviations."""
    rng = np.random.default_rng(seed)
    current = rng.standard_normal((SAMPLES, WIDTH))
    values = []
    for _ in range(LAYERS):
        current = current @ _rotation(rng)
        current = np.maximum((current - current.mean(axis=0)) / current.std(axis=0) + 5, 0)
        values.append(current)
    return _named(values)


def independent_layers(seed: int) -> Layers:
    """Return layers that have nothing in common."""
    return _named(_independent(np.random.default_rng(seed), LAYERS))


def layers_alike(seed: int) -> Layers:
    """Return layers that are all similar, of a flat spectrum."""
    return _named(_alike(np.random.default_rng(seed), LAYERS))


def shared_subspace(seed: int, *, rank: int = 3) -> Layers:
    """Return layers of which 4 to 9 share a subspace: a bright square that no single component carries."""
    rng = np.random.default_rng(seed)
    common = 20 * rng.standard_normal((SAMPLES, rank))
    values = _independent(rng, LAYERS)
    for index in range(4, 10):
        values[index] = values[index] + common @ _rotation(rng)[:rank]
    return _named(values)


def collapsing_relu(seed: int, *, layers: int = LAYERS) -> Layers:
    """Return the activations of an untrained deep ReLU network, which tend to one line with depth.

    Deeper layers are more similar and of a larger first component. It is carried by all samples alike, and their
    similarity to the layers before falls with distance as it does without it: a drift to a limit, and no square.
    """
    rng = np.random.default_rng(seed)
    current = rng.standard_normal((SAMPLES, WIDTH))
    values = []
    for _ in range(layers):
        current = np.maximum(current @ rng.standard_normal((WIDTH, WIDTH)) * np.sqrt(2 / WIDTH), 0)
        values.append(current)
    return _named(values)


WITHOUT_BLOCK: Mapping[str, Callable[[int], Layers]] = {
    "smooth drift": smooth_drift,
    "residual checkerboard": residual_checkerboard,
    "large-mean ReLU": large_mean_relu,
    "independent layers": independent_layers,
    "all layers alike": layers_alike,
    "shared subspace": shared_subspace,
    "collapsing ReLU": collapsing_relu,
}
"""Networks in which no block may be found, by what they are."""


def _named(values: "list[NDArray[np.float64]]") -> Layers:
    return {f"layer{index}": one.astype(np.float32) for index, one in enumerate(values)}


def _unit(rng: np.random.Generator) -> NDArray[np.float64]:
    direction = rng.standard_normal(WIDTH)
    return np.asarray(direction / np.linalg.norm(direction))


def _rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.asarray(np.linalg.qr(rng.standard_normal((WIDTH, WIDTH))).Q)


def _independent(rng: np.random.Generator, layers: int) -> "list[NDArray[np.float64]]":
    return [rng.standard_normal((SAMPLES, WIDTH)) for _ in range(layers)]


def _drift(rng: np.random.Generator, layers: int, neighbour: float = 0.95) -> "list[NDArray[np.float64]]":
    # Of X and Y = a X + b Z, CKA is close to a^2 where Z is another draw of the same spectrum.
    spectrum = np.arange(1, WIDTH + 1) ** -0.5
    current = rng.standard_normal((SAMPLES, WIDTH)) * spectrum
    values = []
    for _ in range(layers):
        values.append(current)
        fresh = rng.standard_normal((SAMPLES, WIDTH)) * spectrum
        current = np.sqrt(neighbour) * current + np.sqrt(1 - neighbour) * fresh
    return values


def _branch(rng: np.random.Generator, stream: NDArray[np.float64]) -> NDArray[np.float64]:
    hidden = np.maximum(stream @ rng.standard_normal((WIDTH, WIDTH)) / 8, 0)
    return np.asarray(0.4 * hidden @ rng.standard_normal((WIDTH, WIDTH)) / 8)


def _stream(rng: np.random.Generator, layers: int) -> "list[NDArray[np.float64]]":
    current = rng.standard_normal((SAMPLES, WIDTH))
    values = []
    for _ in range(layers):
        current = current + _branch(rng, current)
        values.append(current)
    return values


def _alike(rng: np.random.Generator, layers: int) -> "list[NDArray[np.float64]]":
    common = rng.standard_normal((SAMPLES, WIDTH))
    return [common @ _rotation(rng) + 0.1 * rng.standard_normal((SAMPLES, WIDTH)) for _ in range(layers)]
