"""Data known by its content: one digest a sample, and the checks of ids and labels that all sources share."""

import hashlib
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.data.dataset import Data, Skipped
from outcrop.data.threads import map_in_threads
from outcrop.errors import DataNotFoundError, DataReadError

NAMED_IN_A_WARNING = 3


class SkippedSamplesWarning(UserWarning):
    """Some samples cannot be read and were left out; ``Data.skipped`` names all of them."""


class ContentData(Data):
    """Data whose fingerprint is made of one digest a sample.

    A concrete class sets the attributes of :class:`Data` and implements :meth:`read` and :meth:`digest`. A subset
    then has the fingerprint that the same samples have on their own, and needs to hash no other.

    Attributes:
        concurrent: Whether several threads may read at once.
    """

    concurrent: bool = True
    _fingerprint: str | None = None

    @abstractmethod
    def digest(self, index: int) -> bytes:
        """Return a hash of the content of one sample, equal on any machine; without its id and label.

        Raises:
            DataReadError: The sample cannot be read.
        """

    @property
    def fingerprint(self) -> str:
        """Return a hash of contents, order, ids, labels and classes; computed once."""
        if self._fingerprint is None:
            positions = range(len(self))
            digests = map_in_threads(self.digest, positions) if self.concurrent else map(self.digest, positions)
            total = hashlib.sha256(repr(self.classes).encode())
            for index, digest in enumerate(digests):
                label = None if self.labels is None else int(self.labels[index])
                total.update(repr((self.sample_ids[index], label, digest.hex())).encode())
            self._fingerprint = total.hexdigest()
        return self._fingerprint


def array_digest(value: NDArray[Any] | Mapping[str, NDArray[Any]]) -> bytes:
    """Return a hash of an array's bytes, shape and dtype, whatever its memory layout; of a mapping, by name."""
    total = hashlib.sha256()
    named = sorted(value.items()) if isinstance(value, Mapping) else [("", value)]
    for name, array in named:
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        total.update(repr((name, array.shape, little.dtype.str)).encode())
        total.update(little.data if little.size else b"")
    return total.digest()


def checked_ids(sample_ids: Sequence[Any] | NDArray[Any] | None, count: int, name: str) -> tuple[str, ...]:
    """Return ids as text; decimal positions where none are given.

    Raises:
        DataReadError: Their number is not the number of samples, or one occurs twice.
    """
    if sample_ids is None:
        return tuple(map(str, range(count)))
    ids = tuple(str(one) for one in (sample_ids.tolist() if isinstance(sample_ids, np.ndarray) else sample_ids))
    if len(ids) != count:
        raise DataReadError(f"Data {name!r} has {count} samples and {len(ids)} sample ids; give one id a sample.")
    if len(set(ids)) != count:
        seen: set[str] = set()
        twice = next(one for one in ids if one in seen or seen.add(one))  # type: ignore[func-returns-value] # remembers
        raise DataReadError(f"Data {name!r} has the sample id {twice!r} more than once; ids must be unique.")
    return ids


def checked_labels(
    labels: Sequence[Any] | NDArray[Any] | None, classes: Sequence[Any] | NDArray[Any] | None, count: int, name: str
) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None]:
    """Return labels (sample,) as positions in the classes, and the classes as text.

    Labels given as text become positions in the classes, or in their own sorted names where no classes are given.

    Raises:
        DataReadError: Their number is not the number of samples, they are neither whole numbers nor text, or they
            point outside the classes.
    """
    names = None if classes is None else tuple(map(str, classes))
    if labels is None:
        return None, names
    values = np.asarray(labels)
    if values.shape not in {(count,), (count, 1)}:
        raise DataReadError(
            f"Data {name!r} has {count} samples and labels of shape {values.shape}; give one label a sample."
        )
    values = values.reshape(count)
    if values.dtype.kind in "UT":
        names = names or tuple(sorted(set(values.tolist())))
        unknown = sorted(set(values.tolist()) - set(names))
        if unknown:
            raise DataReadError(f"Data {name!r} has the label {unknown[0]!r}, which is none of its classes {names}.")
        return np.array([names.index(value) for value in values.tolist()], dtype=np.int64), names
    whole = values.dtype.kind in "iub" or (values.dtype.kind == "f" and bool(np.all(values == np.round(values))))
    if not whole:
        raise DataReadError(f"Data {name!r} has labels of type {values.dtype}; expected whole numbers or names.")
    numbers = values.astype(np.int64)
    if names is not None and (numbers.min() < 0 or numbers.max() >= len(names)):
        raise DataReadError(
            f"Data {name!r} has labels from {numbers.min()} to {numbers.max()} and {len(names)} classes; "
            f"expected 0 to {len(names) - 1}."
        )
    return numbers, names


def refuse_or_warn(skipped: Sequence[Skipped], found: int, name: str, *, strict: bool, what: str = "images") -> None:
    """Warn in one line of what was skipped.

    Raises:
        DataReadError: Something cannot be read and ``strict``, or nothing can.
    """
    if not skipped:
        return
    first = f"{skipped[0].sample_id} ({skipped[0].reason})"
    if len(skipped) == found:
        raise DataReadError(f"None of the {found} {what} of {name!r} can be read; the first: {first}.")
    if strict:
        more = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        raise DataReadError(
            f"{name!r} holds {what} that cannot be read: {first}{more}. Repair or remove them, or read without strict."
        )
    named = ", ".join(f"{one.sample_id} ({one.reason})" for one in skipped[:NAMED_IN_A_WARNING])
    more = f" and {len(skipped) - NAMED_IN_A_WARNING} more" if len(skipped) > NAMED_IN_A_WARNING else ""
    warnings.warn(
        f"Skipped {len(skipped)} of {found} {what} of {name!r} that cannot be read: {named}{more}.",
        SkippedSamplesWarning,
        stacklevel=3,
    )


def refuse_empty(count: int, name: str) -> None:
    """Check that there is a sample.

    Raises:
        DataNotFoundError: There is none.
    """
    if count == 0:
        raise DataNotFoundError(f"Data {name!r} holds no sample; expected at least one.")
