"""Colour patches cut from the photographs that scikit-image and scikit-learn ship.

One class a photograph. Training patches come from its left 70 %, test patches from its right
30 %, and no patch crosses the line, so that the two splits share no pixel. Where a network is chosen by
held-out images, the training part is divided in the same way, at 55 %. Positions lie on
an even grid: the data set is the same on every machine, without a random number.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.errors import DataNotFoundError, ParameterError

PATCH_SIZE = 32
TRAIN_SHARE_OF_WIDTH = 0.7
FIT_SHARE_OF_WIDTH = 0.55

Split = Literal["train", "test", "fit", "held_out"]
PATCHES_PER_PHOTOGRAPH: Mapping[Split, int] = {"train": 1000, "test": 300, "fit": 800, "held_out": 200}

_REGIONS: Mapping[Split, tuple[float, float]] = {
    "train": (0, TRAIN_SHARE_OF_WIDTH),
    "test": (TRAIN_SHARE_OF_WIDTH, 1),
    "fit": (0, FIT_SHARE_OF_WIDTH),
    "held_out": (FIT_SHARE_OF_WIDTH, TRAIN_SHARE_OF_WIDTH),
}


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


# Package and file of every photograph, by class. The files are read directly: the packages' own functions
# give the same pixels, and take seconds to import.
_PHOTOGRAPHS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "galaxies": ("skimage", "data/hubble_deep_field.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "retina": ("skimage", "data/retina.jpg"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
    "tissue": ("skimage", "data/ihc.png"),
}
CLASSES = tuple(_PHOTOGRAPHS)


def photograph(name: str) -> NDArray[np.uint8]:
    """Return one photograph by its class name, (y, x, channel).

    Raises:
        DataNotFoundError: The package that ships the photograph is not there, or came without it.
    """
    package, file = _PHOTOGRAPHS[name]
    specification = importlib.util.find_spec(package)
    for folder in (specification.submodule_search_locations or ()) if specification else ():
        path = Path(folder, file)
        if path.is_file():
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
    distribution = {"skimage": "scikit-image", "sklearn": "scikit-learn"}.get(package, package)
    raise DataNotFoundError(
        f"The photograph {name!r} of the patches is the file {file} of the package {package}, which is not there; "
        f"reinstall it with 'pip install --force-reinstall {distribution}'."
    )


def load_patches(split: Split, *, per_class: int | None = None) -> Patches:
    """Return one split of the patches, samples interleaved over classes.

    Args:
        split: ``train`` (left 70 % of each photograph) or ``test`` (right 30 %); or a part of train: ``fit`` (left
            55 %) or ``held_out`` (the 15 % right of it).
        per_class: Patches of each photograph; by default 1,000 of train, 300 of test, 800 and 200 of the parts.
            Positions are an even grid of that many patches, so fewer are spread over the whole region.

    Raises:
        ParameterError: The split is unknown or ``per_class`` is not positive.
        DataNotFoundError: A photograph is not installed.
    """
    if split not in PATCHES_PER_PHOTOGRAPH:
        known = ", ".join(map(repr, PATCHES_PER_PHOTOGRAPH))
        raise ParameterError(f"Unknown split {split!r} of the patches; expected one of {known}.")
    count = PATCHES_PER_PHOTOGRAPH[split] if per_class is None else per_class
    if count < 1:
        raise ParameterError(f"Patches per class must be at least 1; got {count}.")
    images = np.empty((count, len(CLASSES), PATCH_SIZE, PATCH_SIZE, 3), dtype=np.uint8)
    ids = np.empty((count, len(CLASSES)), dtype=object)
    for index, name in enumerate(CLASSES):
        pixels = photograph(name)
        for sample, (top, left) in enumerate(_positions(pixels.shape[0], pixels.shape[1], split, count)):
            images[sample, index] = pixels[top : top + PATCH_SIZE, left : left + PATCH_SIZE]
            ids[sample, index] = f"{name}:{top:04d}:{left:04d}"
    labels = np.tile(np.arange(len(CLASSES)), count)
    flat = images.reshape(-1, PATCH_SIZE, PATCH_SIZE, 3)
    return Patches(images=flat, labels=labels, ids=list(ids.reshape(-1)), classes=CLASSES)


def _positions(height: int, width: int, split: Split, count: int) -> list[tuple[int, int]]:
    """Return the top-left pixels of ``count`` patches, evenly spread over the region of a split.

    The order is a fixed stride through the grid that is coprime to it, so that any prefix of the
    samples covers the whole region rather than its upper rows.
    """
    left_edge, right_edge = (round(width * share) for share in _REGIONS[split])
    rows = max(1, round(np.sqrt(count * height / (right_edge - left_edge))))
    columns = -(-count // rows)
    tops = np.linspace(0, height - PATCH_SIZE, rows).round().astype(int)
    lefts = np.linspace(left_edge, right_edge - PATCH_SIZE, columns).round().astype(int)
    grid = [(int(top), int(left)) for top in tops for left in lefts]
    kept = [grid[i] for i in np.linspace(0, len(grid) - 1, count).round().astype(int)]
    stride = next(s for s in range(max(1, round(count * 0.618)), 2 * count + 2) if np.gcd(s, count) == 1)
    return [kept[(i * stride) % count] for i in range(count)]
