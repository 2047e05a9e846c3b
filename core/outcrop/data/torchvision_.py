"""Benchmark data sets by name, through torchvision: ``torchvision:CIFAR10``, ``torchvision:MNIST/train?root=PATH``."""

import contextlib
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.errors import DataNotFoundError, DataReadError, did_you_mean

if TYPE_CHECKING:
    from outcrop.data.arrays import ImageArray

SPLITS = ("test", "train")
# Whether torchvision calls the split by ``train=``, otherwise by ``split=``.
_BY_TRAIN = {
    "CIFAR10": True,
    "CIFAR100": True,
    "FashionMNIST": True,
    "KMNIST": True,
    "MNIST": True,
    "STL10": False,
    "SVHN": False,
    "USPS": True,
}
NAMES = tuple(_BY_TRAIN)


def load_torchvision(reference: str) -> "ImageArray":
    """Return a data set of images as ``NAME``, ``NAME/train`` or ``NAME/test`` (the default), with ``?root=PATH``.

    It is looked for under the root, by default in the user's cache folder, and downloaded when not there.

    Raises:
        DataNotFoundError: No such name or split; not there, and it cannot be downloaded.
        DataReadError: What is there is broken.
    """
    address, _, option = reference.partition("?")
    name, _, split = address.partition("/")
    split = split or "test"
    if name not in _BY_TRAIN:
        raise DataNotFoundError(
            f"There is no data 'torchvision:{name}'.{did_you_mean(name, NAMES)} Available: {', '.join(NAMES)}."
        )
    if split not in SPLITS:
        raise DataNotFoundError(f"Data 'torchvision:{name}' has no split {split!r}; expected one of 'train', 'test'.")
    if option and not option.startswith("root="):
        raise DataNotFoundError(f"Data 'torchvision:{reference}' has an option {option!r}; expected 'root=PATH'.")
    if not option:
        import pooch

        root = Path(pooch.os_cache("outcrop"), "torchvision")
    else:
        root = Path(option.removeprefix("root=")).expanduser()
        if not root.is_dir():
            raise DataNotFoundError(f"There is no folder {str(root)!r} to look for 'torchvision:{name}' in.")
    # torchvision prints as it downloads; standard output belongs to the caller.
    with contextlib.redirect_stdout(sys.stderr):
        dataset = _open(name, split, root)
    return _data(dataset, name, split)


def _open(name: str, split: str, root: Path) -> Any:
    import torchvision.datasets
    from filelock import FileLock

    options: dict[str, Any] = {"train": split == "train"} if _BY_TRAIN[name] else {"split": split}
    create: Callable[..., Any] = getattr(torchvision.datasets, name)
    try:
        return create(root, download=False, **options)
    except (OSError, RuntimeError):
        # Not there, or not whole; torchvision does not tell which.
        pass
    except (AssertionError, EOFError, KeyError, ValueError, struct.error) as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise DataReadError(
            f"Data 'torchvision:{name}' under {str(root)!r} is broken ({reason}); remove it, and it is downloaded."
        ) from error
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):
            return create(root, download=True, **options)
    except (OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise DataNotFoundError(
            f"Data 'torchvision:{name}' is not under {str(root)!r} and cannot be downloaded ({reason}). "
            f"Where it is elsewhere on this machine, say 'torchvision:{name}/{split}?root=PATH'."
        ) from error


def _data(dataset: Any, name: str, split: str) -> "ImageArray":
    from outcrop.data.arrays import ImageArray

    images = _array(dataset.data)
    targets = _array(dataset.targets if hasattr(dataset, "targets") else dataset.labels)
    classes = getattr(dataset, "classes", None) or [str(digit) for digit in range(int(targets.max()) + 1)]
    return ImageArray(
        images, name=f"{name}-{split}", source=f"torchvision:{name}/{split}", labels=targets, classes=classes
    )


def _array(values: Any) -> NDArray[Any]:
    # Arrays, lists, and tensors alike, all of them in memory.
    return np.asarray(values)
