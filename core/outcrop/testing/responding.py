"""A model with planted values for the samples of data, and an answer to any other sample."""

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.errors import InputError
from outcrop.models.model import InputSpec, Preprocessing, Visitor
from outcrop.testing.arrays import ArrayModel

if TYPE_CHECKING:
    from torch import Tensor

    from outcrop.data.dataset import Data


class RespondingModel(ArrayModel):
    """A model that gives planted values for the samples of data, and for others what is linear in their input.

    So that analyses which show a model synthetic samples can be tested on a planted truth: a sample that is a weighted
    sum of known ones responds with the same sum of their values (least squares, without an offset). Values that are not
    finite count as zero in these sums.

    Args:
        name: Of the model.
        arrays: Values (sample, ...) by layer name, in topological order.
        data: What the values are of: images, which are brought to the size of the first, or single arrays.

    Raises:
        InputError: The data has several arrays a sample, or another number of samples.
    """

    def __init__(self, name: str, arrays: Mapping[str, NDArray[Any]], data: "Data") -> None:
        super().__init__(name, arrays)
        if len(data) != self.sample_count:
            raise InputError(
                f"Model {name!r} has values of {self.sample_count} samples and data {data.name!r} has {len(data)}; "
                "give one row for each."
            )
        first = data.read(0)
        if isinstance(first, Mapping):
            raise InputError(
                f"Samples of data {data.name!r} are several arrays, {', '.join(first)}; a model that responds to any "
                "sample takes images or single arrays."
            )
        self._data = data
        if isinstance(first, Image.Image):
            size = first.size
            self.preprocessing = Preprocessing(f"{size[0]}x{size[1]}, 0 to 1", lambda image: _pixels(image, size))
            self.inputs = (InputSpec("image", (3, size[1], size[0]), "float32"),)
        else:
            self.inputs = (InputSpec("values", first.shape, str(first.dtype)),)

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash of all values and of the data."""
        return f"{super().fingerprint}{self._data.fingerprint}"

    def visit(self, inputs: "Mapping[str, Tensor]", layers: Collection[str], visitor: Visitor) -> None:
        """Call the visitor with the planted values of known samples and the response to others."""
        import torch

        self.check_inputs(inputs)
        rows = inputs[self.inputs[0].name].flatten(1).numpy()
        places = [self._places.get(row.tobytes()) for row in rows]
        unknown = [number for number, place in enumerate(places) if place is None]
        weights = rows[unknown].astype(np.float64) @ self._inverse if unknown else None
        for layer in self.layers:
            if layer.name in layers:
                planted = self._arrays[layer.name]
                values = planted[[place or 0 for place in places]]
                if weights is not None:
                    known = np.nan_to_num(planted.reshape(len(planted), -1).astype(np.float64), posinf=0, neginf=0)
                    values[unknown] = (weights @ known).reshape(len(unknown), *layer.shape)
                visitor(layer, torch.from_numpy(values))

    @cached_property
    def _samples(self) -> NDArray[Any]:
        """Return the flattened input of every sample of the data."""
        spec = self.inputs[0]
        read = [self._data.read(index) for index in range(self.sample_count)]
        return np.stack([self._input(sample, spec.dtype).ravel() for sample in read])

    def _input(self, sample: Any, dtype: str) -> NDArray[Any]:
        if self.preprocessing is not None:
            return np.asarray(self.preprocessing.transform(sample).numpy())
        return np.asarray(sample, dtype=dtype)

    @cached_property
    def _places(self) -> dict[bytes, int]:
        """Return the position of every sample by its bytes: of those that are equal, the first."""
        found: dict[bytes, int] = {}
        for place, row in enumerate(self._samples):
            found.setdefault(row.tobytes(), place)
        return found

    @cached_property
    def _inverse(self) -> NDArray[np.float64]:
        """Return what turns an input into weights of the known samples (input, sample)."""
        return np.asarray(np.linalg.pinv(self._samples.astype(np.float64)))


def _pixels(image: Image.Image, size: tuple[int, int]) -> "Tensor":
    import torch

    resized = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) / 255)
