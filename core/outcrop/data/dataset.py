"""What data is to the rest of outcrop: samples with ids, read one at a time."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Sample = "Image | NDArray[Any] | Mapping[str, NDArray[Any]]"
"""An RGB image (the model's preprocessing is applied), an array (taken as it is), or arrays by input name."""


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be read and was left out."""

    sample_id: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Samples ready for a model.

    Attributes:
        sample_index: (sample,), positions in the data.
        inputs: Tensors (sample, ...) by the model's input names.
    """

    sample_index: NDArray[np.int64]
    inputs: "Mapping[str, Tensor]"


class Data(ABC):
    """An ordered, finite collection of samples.

    Attributes:
        name: Short name, unique in a study: ``patches``.
        source: The reference it was loaded from: ``zoo:patches``.
        sample_ids: (sample,), unique names: file paths, patch positions, or decimal positions.
        labels: (sample,), index into ``classes``, or None.
        classes: Names of the classes, or None.
        skipped: Samples that could not be read, left out of everything above.
        limit: The number of samples asked for, where these are a choice of all that the source has.
        concurrent: Whether several threads may read at once.
    """

    name: str
    source: str
    sample_ids: Sequence[str]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] | None = None
    skipped: tuple[Skipped, ...] = ()
    limit: int | None = None
    concurrent: bool = False

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of the content and order of all samples, on any machine."""

    @abstractmethod
    def read(self, index: int) -> "Image | NDArray[Any] | Mapping[str, NDArray[Any]]":
        """Return one sample: an RGB image, an array, or arrays by input name.

        Raises:
            DataReadError: The sample cannot be read.
        """

    def thumbnail(self, index: int, size: int = 48) -> NDArray[np.uint8] | None:  # noqa: ARG002 - for those who can
        """Return a small square picture (y, x, channel) of a sample, or None where it cannot be shown."""
        return None
