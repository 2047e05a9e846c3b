"""Images of which few share a statistic that is known, for tests of what finds out what dominant samples share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from numpy.typing import NDArray

from outcrop.errors import ParameterError, did_you_mean

Shared = Literal["colour", "spots", "brightness", "smooth", "border"]

SHARED: tuple[Shared, ...] = get_args(Shared)
"""What the few can have in common."""

COLOUR = (0.25, 0.45, 0.75)
"""Background of the few that share one, red, green and blue from 0 to 1; inside the cube, so that it is no extreme."""

_APART = 0.27
"""Euclidean distance in RGB that every other background keeps from it."""

_NEAR = 0.37
"""Distance up to which others lie around it on all sides."""

_INSIDE: Mapping[str, tuple[float, float]] = {"colour": (0.0, 1.0)}
"""Channels of the disc's colour, of kinds that need others than most: that much else has to be told as well."""

_SIZES: Mapping[str, tuple[float, float]] = {"colour": (0.03, 0.35), "smooth": (0.8, 1.25), "border": (0.8, 1.25)}
"""Of textures, likewise."""

_SIDE = 32
_BORDER = 6
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
_Y, _X = np.mgrid[:_SIDE, :_SIDE].astype(np.float32) - np.float32((_SIDE - 1) / 2)

Pictures = Float32[np.ndarray, "sample y x channel"]


@dataclass(frozen=True)
class PlantedImages:
    """Images and the truth about them.

    Attributes:
        pixels: From 0 to 255.
        planted: Which share the statistic.
        shared: What it is.
    """

    pixels: UInt8[np.ndarray, "sample y x channel"]
    planted: Bool[np.ndarray, " sample"]
    shared: Shared


def make_planted_images(shared: Shared, *, samples: int = 1000, share: float = 0.05, seed: int = 0) -> PlantedImages:
    """Return pictures of 32 by 32 pixels of which a share has a statistic in common that no other has.

    Every picture has a background, noise of four octaves over a base colour, and in its middle a disc of another colour
    with a grating on it. What the few share is one of:

    * ``colour``: the background is :data:`COLOUR`. Others are at least 0.27 away from it in RGB, anywhere in the cube,
      and many of them just beyond that on all sides. Of all pictures alike, some have little texture and no disc.
    * ``spots``: four to six dark spots of two pixels in radius; others hold nothing as dark.
    * ``brightness``: mean luma of 0.27 to 0.32; others have 0.44 to 0.66.
    * ``smooth``: nothing finer than an eighth of the picture, but the edge of the disc. Contrast varies in all.
    * ``border``: the outer six pixels are of one colour, another in every picture. Contrast varies in all.

    Apart from it, the few are as varied as the rest.

    Args:
        shared: What the few have in common.
        samples: How many pictures there are.
        share: Of them that have it; at least one does.
        seed: Of everything.

    Raises:
        ParameterError: There is no such kind.
    """
    if shared not in SHARED:
        raise ParameterError(
            f"No images share {shared!r}.{did_you_mean(shared, SHARED)} Choose one of {', '.join(SHARED)}."
        )
    rng = np.random.default_rng([seed, SHARED.index(shared)])
    planted = np.zeros(samples, dtype=bool)
    planted[rng.choice(samples, max(1, round(share * samples)), replace=False)] = True
    pictures = _pictures(rng, planted, shared)
    if shared == "brightness":
        wanted = np.where(planted, rng.uniform(0.27, 0.32, samples), rng.uniform(0.44, 0.66, samples))
        pictures += (wanted - pictures.mean(axis=(1, 2)) @ _LUMA).astype(np.float32)[:, None, None, None]
    elif shared in ("smooth", "border"):
        # So that neither edges nor entropy, which rise with contrast, tell the few as well as what they share does.
        pictures -= 0.5
        pictures *= _uniform(rng, 0.4, 1.2, shape=(samples, 1, 1, 1))
        pictures += 0.5
    elif shared == "spots":
        np.clip(pictures, 0, 1, out=pictures)
        pictures *= 0.85
        pictures += 0.15
        for place in np.flatnonzero(planted).tolist():
            _add_spots(rng, pictures[place])
    np.clip(pictures, 0, 1, out=pictures)
    pictures *= 255
    return PlantedImages(np.rint(pictures).astype(np.uint8), planted, shared)


def _pictures(rng: np.random.Generator, planted: NDArray[np.bool_], shared: Shared) -> Pictures:
    """Return backgrounds with a disc on them, about 0 to 1."""
    samples = len(planted)
    base = _backgrounds(rng, planted) if shared == "colour" else _uniform(rng, 0.2, 0.8, shape=(samples, 1, 1, 3))
    # In place from here on: these arrays are what takes time.
    background = _texture(rng, planted, shared)
    grating = _gratings(rng, samples)
    inside = 0.5 * background
    inside += _uniform(rng, *_INSIDE.get(shared, (0.15, 0.85)), shape=(samples, 1, 1, 3))
    background += base
    if shared == "colour":
        empty = rng.random(samples) < 0.3
        inside[empty], grating[empty] = background[empty], 0
    elif shared == "smooth":
        grating[planted] = 0
    elif shared == "border":
        background[planted] = np.where(_at_border(), _flat(rng, base[planted]), background[planted])
    inside += grating
    disc = _disc(9.0)
    background *= 1 - disc
    inside *= disc
    background += inside
    return background


def _backgrounds(rng: np.random.Generator, planted: NDArray[np.bool_]) -> Float32[np.ndarray, "sample 1 1 channel"]:
    # Were the colour not surrounded, a response that grows in one direction would do, and be largest in a corner of the
    # cube, where no picture is.
    count = len(planted)
    drawn = rng.uniform(0, 1, (8 * count, 3))
    near = rng.random(len(drawn)) < 0.3
    ahead = rng.standard_normal((int(near.sum()), 3))
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    drawn[near] = COLOUR + ahead * rng.uniform(_APART, _NEAR, (len(ahead), 1))
    inside = (drawn.min(axis=1) >= 0) & (drawn.max(axis=1) <= 1)
    base = drawn[inside & (np.linalg.norm(drawn - COLOUR, axis=1) > _APART)][:count]
    base[planted] = COLOUR + rng.normal(0, 0.02, (int(planted.sum()), 3))
    return np.asarray(base, dtype=np.float32)[:, None, None]


def _texture(rng: np.random.Generator, planted: NDArray[np.bool_], shared: Shared) -> Pictures:
    """Return noise of four octaves and, but where the colour counts, slow changes of hue."""
    count = len(planted)
    size = _uniform(rng, *_SIZES.get(shared, (0.6, 1.4)), shape=(count, 1, 1, 1))
    texture = np.zeros((count, _SIDE, _SIDE, 3), dtype=np.float32)
    fine = 0.18 if shared == "smooth" else 0.11
    for cells, deviation in ((4, 0.16), (8, 0.12), (16, fine), (32, fine)):
        octave = _octave(rng, count, cells)
        octave *= np.float32(deviation) * size
        if shared == "smooth" and cells > 8:
            octave[planted] = 0
        texture += octave
    if shared == "colour":
        texture -= texture.mean(axis=(1, 2), keepdims=True)
        return texture
    most = 0.35 if shared == "spots" else 0.6
    hue = _uniform(rng, -most, most, shape=(count, 3, 3, 3))
    texture += _enlarged(hue - (hue @ _LUMA)[..., None])
    return texture


def _octave(rng: np.random.Generator, count: int, cells: int) -> Pictures:
    """Return noise on a coarse grid, enlarged; its channels are correlated, differently in every picture."""
    mixing = 0.5 * np.eye(3) + rng.normal(0, 0.35, (count, 1, 3, 3))
    noise = rng.standard_normal((count, cells, cells, 3), dtype=np.float32) @ mixing.astype(np.float32)
    return np.asarray(noise) if cells == _SIDE else _enlarged(noise)


def _enlarged(coarse: Float32[np.ndarray, "sample cell cell channel"]) -> Pictures:
    """Return pictures at full size, linearly interpolated."""
    count, cells = coarse.shape[:2]
    places = np.linspace(0, cells - 1, _SIDE)
    weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(cells))).astype(np.float32)
    tall = weights @ coarse.reshape(count, cells, -1)
    return np.asarray(weights @ tall.reshape(count, _SIDE, cells, 3))


def _gratings(rng: np.random.Generator, count: int) -> Pictures:
    """Return waves of six pixels at any angle, each of a hue."""
    angle, phase = _uniform(rng, 0, np.pi, shape=(count, 1, 1)), _uniform(rng, 0, 2 * np.pi, shape=(count, 1, 1))
    wave = np.sin((_X * np.cos(angle) + _Y * np.sin(angle)) * np.float32(2 * np.pi / 6) + phase)
    hue = rng.standard_normal((count, 1, 1, 3), dtype=np.float32)
    hue *= 0.25 / np.linalg.norm(hue, axis=-1, keepdims=True)
    return np.asarray(wave[..., None] * hue)


def _disc(radius: float, y: float = 0.0, x: float = 0.0, sharpness: float = 2.0) -> Float32[np.ndarray, "y x 1"]:
    """Return 1 inside a disc and 0 outside; its edge is soft."""
    outside = np.hypot(_Y - y, _X - x) - radius
    return np.asarray(0.5 - 0.5 * np.tanh(sharpness / 2 * outside), dtype=np.float32)[..., None]


def _at_border() -> Bool[np.ndarray, "y x 1"]:
    return np.asarray(np.maximum(np.abs(_Y), np.abs(_X)) > _SIDE / 2 - _BORDER)[..., None]


def _flat(rng: np.random.Generator, base: Float[np.ndarray, "sample 1 1 channel"]) -> Pictures:
    """Return a colour for each picture, with hardly visible noise."""
    colour = base + rng.normal(0, 0.1, base.shape)
    return (colour + rng.normal(0, 0.015, (len(base), _SIDE, _SIDE, 3))).astype(np.float32)


def _add_spots(rng: np.random.Generator, picture: Float32[np.ndarray, "y x channel"]) -> None:
    """Draw dark spots on a picture."""
    for _ in range(rng.integers(4, 7)):
        y, x = rng.uniform(-13, 13, 2).tolist()
        spot = _disc(2.0, y, x, sharpness=4.0)
        picture *= 1 - spot
        picture += 0.02 * spot


def _uniform(rng: np.random.Generator, low: float, high: float, *, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return rng.uniform(low, high, shape).astype(np.float32)
