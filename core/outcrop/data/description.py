"""What is known of samples without reading them again: ids, labels, statistics and thumbnails as one dataset."""

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from outcrop.data.selection import subset
from outcrop.data.statistics import describe
from outcrop.progress import Progress, silent

if TYPE_CHECKING:
    from outcrop.data.dataset import Data

THUMBNAIL_LIMIT = 4096
"""Data of more samples is described without thumbnails."""


def described_data(data: "Data", *, statistics: bool = True, progress: Progress = silent) -> xr.Dataset:
    """Return what can be said of all samples, along ``sample``.

    Coordinate ``sample`` holds the ids. Variables, each where it is known: ``label`` (position in the attribute
    ``classes``), every statistic under its name, with ``long_name`` and ``units``, and ``thumbnail`` (sample, y, x,
    channel). Every sample is read once.

    Args:
        data: The samples.
        statistics: Whether to read them; ids and labels alone take no reading.
        progress: Told of every sample.

    Raises:
        DataReadError: A sample cannot be read.
    """
    ids = np.asarray(list(data.sample_ids), dtype=np.dtypes.StringDType())
    dataset = xr.Dataset(
        coords={"sample": ("sample", ids, {"long_name": "sample"})},
        attrs={
            "name": data.name,
            "source": data.source,
            "fingerprint": data.fingerprint,
            "classes": list(data.classes or ()),
            "skipped": [f"{skipped.sample_id}: {skipped.reason}" for skipped in data.skipped],
        },
    )
    if data.limit is not None:
        dataset.attrs["limit"] = data.limit
    if data.labels is not None:
        dataset["label"] = ("sample", np.asarray(data.labels, dtype=np.int64), {"long_name": "class index"})
    if statistics:
        described = describe(data, thumbnails=len(data) <= THUMBNAIL_LIMIT, progress=progress)
        for statistic, values in zip(described.statistics, described.values, strict=True):
            attributes = {"long_name": statistic.long_name} | ({"units": statistic.units} if statistic.units else {})
            dataset[statistic.name] = ("sample", values, attributes)
        if described.thumbnails is not None:
            dataset["thumbnail"] = (("sample", "y", "x", "channel"), described.thumbnails, {"long_name": "thumbnail"})
    return dataset


def describes(dataset: xr.Dataset, data: "Data") -> bool:
    """Return whether a dataset holds every statistic that data has, so that no sample needs to be read again."""
    known = describe(subset(data, [0]), thumbnails=False, progress=silent).statistics
    return all(statistic.name in dataset for statistic in known)
