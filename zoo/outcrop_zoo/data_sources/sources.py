"""From ``zoo:NAME/SPLIT?per_class=N`` to data."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from outcrop.errors import DataNotFoundError, ParameterError, did_you_mean
from outcrop_zoo.data_sources.class_folders import load_cifar10_jpeg
from outcrop_zoo.data_sources.fashion_mnist import load_fashion_mnist
from outcrop_zoo.patches import load_patches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from outcrop.data import Data


class _Loaded(Protocol):
    @property
    def images(self) -> "NDArray[np.uint8]": ...
    @property
    def labels(self) -> "NDArray[np.int64]": ...
    @property
    def ids(self) -> list[str]: ...
    @property
    def classes(self) -> tuple[str, ...]: ...


class _Loader(Protocol):
    # The split is one of the loader's own, by the table below.
    def __call__(self, split: str, *, per_class: int | None = None) -> _Loaded: ...


_LOADERS: Mapping[str, tuple[_Loader, tuple[str, ...]]] = {
    "patches": (load_patches, ("test", "train", "fit", "held_out")),  # type: ignore[dict-item] # splits, as above
    "cifar10-jpeg": (load_cifar10_jpeg, ("test", "train")),  # type: ignore[dict-item] # splits, as above
    "fashion-mnist": (load_fashion_mnist, ("test", "train")),  # type: ignore[dict-item] # splits, as above
}


def load_zoo_data(reference: str) -> "Data":
    """Return ``patches``, ``cifar10-jpeg`` or ``fashion-mnist``: the test split, or ``NAME/train`` or ``NAME/test``.

    With ``?per_class=N``, the first N of each class; of the patches, N spread over each photograph. The patches' train
    split has two parts that share no pixel, ``patches/fit`` and ``patches/held_out``, for choosing among networks.

    Raises:
        DataNotFoundError: The zoo has no such data, or it is not on this machine.
        DataReadError: What is there cannot be read.
        ParameterError: ``per_class`` is no positive whole number.
    """
    from outcrop.data import ImageArray

    name, _, query = reference.partition("?")
    splits: dict[str, tuple[str, str]] = {}
    for data, (_, own) in _LOADERS.items():
        splits |= {data: (data, "test"), **{f"{data}/{split}": (data, split) for split in own}}
    if name not in splits:
        raise DataNotFoundError(
            f"The zoo has no data {name!r}.{did_you_mean(name, splits)} It offers {', '.join(splits)}."
        )
    key, _, value = query.partition("=")
    if query and (key != "per_class" or not value.isdecimal()):
        raise ParameterError(f"zoo:{name} takes ?per_class=N with a positive whole number; got {query!r}.")
    data, split = splits[name]
    loaded = _LOADERS[data][0](split, per_class=int(value) if query else None)
    return ImageArray(
        loaded.images,
        name=name.replace("/", "-"),
        source=f"zoo:{reference}",
        sample_ids=loaded.ids,
        labels=loaded.labels,
        classes=loaded.classes,
    )
