"""The 1,000 classes of ImageNet, and the 20 of its images that the package foolbox ships."""

import hashlib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.data import ContentData
from outcrop.data.images import decode, thumbnail_of
from outcrop.errors import DataNotFoundError

DATA = "imagenet-1k"
"""What cards call the training data of networks with these classes."""

# imagenet_00_243.jpg is the first image, of class 243.
_FILE = re.compile(r"imagenet_(\d+)_(\d+)\.jpg")


def class_names() -> tuple[str, ...]:
    """Return the classes of ImageNet in the order of the logits, as timm describes them."""
    from timm.data import ImageNetInfo

    information = ImageNetInfo(DATA)
    return tuple(information.index_to_description(index) for index in range(information.num_classes()))


def load_foolbox_images() -> "Pictures":
    """Return 20 photographs of the validation images of ImageNet with their labels, from the package foolbox.

    They are too few for an accuracy, and enough to see whether weights landed where they belong: a network that
    guesses names none of them. Source: arXiv:1707.04131.

    Raises:
        DataNotFoundError: The package is not installed, or came without them.
    """
    specification = importlib.util.find_spec("foolbox")
    folders = (specification.submodule_search_locations or ()) if specification else ()
    matched = {path: _FILE.fullmatch(path.name) for folder in folders for path in Path(folder, "data").glob("*.jpg")}
    labels = {path: int(match[2]) for path, match in sorted(matched.items()) if match}
    if not labels:
        raise DataNotFoundError(
            "The ImageNet images are those of the Python package 'foolbox', which is not there; "
            "run 'pip install --no-deps foolbox'."
        )
    return Pictures(list(labels), list(labels.values()), class_names(), name="foolbox-imagenet")


class Pictures(ContentData):
    """Image files of any sizes with the labels that are given.

    Args:
        paths: Of the files, whose names without their ending are the sample ids.
        labels: (sample,), positions in ``classes``.
        classes: Names of the classes.
        name: Short name; the source is ``zoo:NAME``.
    """

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], classes: Sequence[str], *, name: str) -> None:
        self.name, self.source = name, f"zoo:{name}"
        self.sample_ids = [path.stem for path in paths]
        self.labels, self.classes = np.array(labels, dtype=np.int64), tuple(classes)
        self._contents = [path.read_bytes() for path in paths]

    def read(self, index: int) -> Image.Image:
        return decode(self._contents[index])

    def digest(self, index: int) -> bytes:
        return hashlib.sha256(self._contents[index]).digest()

    def thumbnail(self, index: int, size: int = 48) -> NDArray[np.uint8]:
        return thumbnail_of(self.read(index), size)
