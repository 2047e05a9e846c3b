"""Colour patches cut from the photographs that scikit-image and scikit-learn ship.

One class a photograph. Training patches come from its left 70 %, test patches from its right
30 %, and no patch crosses the line, so that the two splits share no pixel. Positions lie on
an even grid: the data set is the same on every machine, without a random number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

PATCH_SIZE = 32
TRAIN_SHARE_OF_WIDTH = 0.7
PATCHES_PER_PHOTOGRAPH = {"train": 1000, "test": 300}

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Patches:
    """Patches of one split, ordered so that any prefix is as class-balanced as can be.

    Attributes:
        images: (sample, y, x, channel), uint8.
        labels: (sample,), index into ``classes``.
        ids: (sample,), photograph and top-left pixel of the patch, such as ``coffee:0012:0340``.
        classes: Names of the photographs.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: list[str]
    classes: tuple[str, ...]


def photographs() -> dict[str, Callable[[], NDArray[np.uint8]]]:
    """Return the photographs by class name; each is read when called, as (y, x, channel) uint8."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    return {
        "astronaut": data.astronaut,
        "cat": data.chelsea,
        "coffee": data.coffee,
        "flower": lambda: load_sample_image("flower.jpg"),
        "galaxies": data.hubble_deep_field,
        "motorcycle": lambda: data.stereo_motorcycle()[0],
        "retina": data.retina,
        "rocket": data.rocket,
        "temple": lambda: load_sample_image("china.jpg"),
        "tissue": data.immunohistochemistry,
    }


def load_patches(split: Split, *, per_class: int | None = None) -> Patches:
    """Return one split of the patches, samples interleaved over classes.

    Args:
        split: ``train`` (left 70 % of each photograph) or ``test`` (right 30 %).
        per_class: Patches of each photograph; by default 1,000 of train and 300 of test. Positions are
            an even grid of that many patches, so fewer are spread over the whole region.

    Raises:
        ValueError: The split is unknown or ``per_class`` is not positive.
    """
    if split not in PATCHES_PER_PHOTOGRAPH:
        raise ValueError(f"Unknown split {split!r} of the patches; expected 'train' or 'test'.")
    count = PATCHES_PER_PHOTOGRAPH[split] if per_class is None else per_class
    if count < 1:
        raise ValueError(f"Patches per class must be at least 1; got {count}.")
    classes = tuple(photographs())
    images = np.empty((count, len(classes), PATCH_SIZE, PATCH_SIZE, 3), dtype=np.uint8)
    ids = np.empty((count, len(classes)), dtype=object)
    for index, (name, read) in enumerate(photographs().items()):
        photograph = np.ascontiguousarray(read()[..., :3])
        for sample, (top, left) in enumerate(_positions(photograph.shape[0], photograph.shape[1], split, count)):
            images[sample, index] = photograph[top : top + PATCH_SIZE, left : left + PATCH_SIZE]
            ids[sample, index] = f"{name}:{top:04d}:{left:04d}"
    labels = np.tile(np.arange(len(classes)), count)
    flat = images.reshape(-1, PATCH_SIZE, PATCH_SIZE, 3)
    return Patches(images=flat, labels=labels, ids=list(ids.reshape(-1)), classes=classes)


def _positions(height: int, width: int, split: Split, count: int) -> list[tuple[int, int]]:
    """Return the top-left pixels of ``count`` patches, evenly spread over the region of a split.

    The order is a fixed stride through the grid that is coprime to it, so that any prefix of the
    samples covers the whole region rather than its upper rows.
    """
    border = round(width * TRAIN_SHARE_OF_WIDTH)
    left_edge, right_edge = (0, border) if split == "train" else (border, width)
    rows = max(1, round(np.sqrt(count * height / (right_edge - left_edge))))
    columns = -(-count // rows)
    tops = np.linspace(0, height - PATCH_SIZE, rows).round().astype(int)
    lefts = np.linspace(left_edge, right_edge - PATCH_SIZE, columns).round().astype(int)
    grid = [(int(top), int(left)) for top in tops for left in lefts]
    kept = [grid[i] for i in np.linspace(0, len(grid) - 1, count).round().astype(int)]
    stride = next(s for s in range(max(1, round(count * 0.618)), 2 * count + 2) if np.gcd(s, count) == 1)
    return [kept[(i * stride) % count] for i in range(count)]
