"""The data of a study: ids, labels, statistics and thumbnails, so that results can be read without the images."""

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
import zarr

from outcrop.data.statistics import describe
from outcrop.progress import Progress
from outcrop.store.layout import escape, strings, write_dataset

if TYPE_CHECKING:
    from outcrop.data.dataset import Data

THUMBNAIL_LIMIT = 4096
"""Data of more samples is stored without thumbnails."""

STATISTICS_LIMIT = 16_384
"""Data of more samples is stored without statistics: they take a second reading of every sample."""


def data_id(data: "Data") -> str:
    """Return the node name of data in a study: its name and the beginning of its fingerprint."""
    return f"{escape(data.name)}-{data.fingerprint[:8]}"


def write_data(root: zarr.Group, data: "Data", progress: Progress) -> str:
    """Store what a reader needs to know of the samples, once, and return its node name."""
    name = data_id(data)
    group = f"data/{name}"
    if group in root and root[group].attrs.get("complete"):
        return name
    dataset = xr.Dataset(
        coords={"sample": ("sample", strings(list(data.sample_ids)), {"long_name": "sample"})},
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
    if len(data) <= STATISTICS_LIMIT:
        described = describe(data, thumbnails=len(data) <= THUMBNAIL_LIMIT, progress=progress)
        for statistic, values in zip(described.statistics, described.values, strict=True):
            attributes = {"long_name": statistic.long_name} | ({"units": statistic.units} if statistic.units else {})
            dataset[statistic.name] = ("sample", values, attributes)
        if described.thumbnails is not None:
            dataset["thumbnail"] = (("sample", "y", "x", "channel"), described.thumbnails, {"long_name": "thumbnail"})
    write_dataset(root, group, dataset)
    root.require_group(group).attrs["complete"] = True
    return name
