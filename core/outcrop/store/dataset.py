"""The data of a study: ids, labels and thumbnails of the samples, so that results can be read without the images."""

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
import zarr

from outcrop.progress import Progress
from outcrop.store.layout import escape, strings

if TYPE_CHECKING:
    from outcrop.data.dataset import Data

THUMBNAIL_LIMIT = 4096
"""Data of more samples is stored without thumbnails."""


def data_id(data: "Data") -> str:
    """Return the node name of data in a study: its name and the beginning of its fingerprint."""
    return f"{escape(data.name)}-{data.fingerprint[:8]}"


def write_data(root: zarr.Group, location: str, data: "Data", progress: Progress) -> str:
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
    thumbnails = _thumbnails(data, progress) if len(data) <= THUMBNAIL_LIMIT else None
    if thumbnails is not None:
        dataset["thumbnail"] = (("sample", "y", "x", "channel"), thumbnails, {"long_name": "thumbnail"})
    dataset.to_zarr(location, group=group, mode="a", zarr_format=3, consolidated=False)
    root.require_group(group).attrs["complete"] = True
    return name


def _thumbnails(data: "Data", progress: Progress) -> np.ndarray | None:
    first = data.thumbnail(0)
    if first is None:
        return None
    made = np.zeros((len(data), *first.shape), dtype=np.uint8)
    with progress("thumbnails", len(data)) as advance:
        for index in range(len(data)):
            picture = data.thumbnail(index)
            if picture is not None:
                made[index] = picture
            advance(1)
    return made
