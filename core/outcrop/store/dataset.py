"""The data of a study: ids, labels, statistics and thumbnails, so that results can be read without the images."""

from typing import TYPE_CHECKING

import xarray as xr
import zarr

from outcrop.data.description import described_data
from outcrop.progress import Progress
from outcrop.store.layout import escape, read_dataset, write_dataset

if TYPE_CHECKING:
    from outcrop.data.dataset import Data

STATISTICS_LIMIT = 16_384
"""Data of more samples is stored without statistics: they take a second reading of every sample."""


def data_id(data: "Data") -> str:
    """Return the node name of data in a study: its name and the beginning of its fingerprint."""
    return f"{escape(data.name)}-{data.fingerprint[:8]}"


def write_data(root: zarr.Group, data: "Data", progress: Progress, described: xr.Dataset | None = None) -> str:
    """Store what a reader needs to know of the samples, once, and return its node name.

    Args:
        root: Of the study.
        data: The samples.
        progress: Told of every sample that is read.
        described: What :func:`outcrop.data.description.described_data` has returned of them, where that is at hand.
    """
    name = data_id(data)
    if read_data(root, name) is None:
        if described is None:
            described = described_data(data, statistics=len(data) <= STATISTICS_LIMIT, progress=progress)
        write_dataset(root, f"data/{name}", described)
        root.require_group(f"data/{name}").attrs["complete"] = True
    return name


def read_data(root: zarr.Group, name: str) -> xr.Dataset | None:
    """Return what a study holds of data by its node name; None where it does not, or not all of it."""
    group = f"data/{name}"
    if group not in root or not root[group].attrs.get("complete"):
        return None
    dataset = read_dataset(root[group])  # type: ignore[arg-type] # a group
    dataset.attrs.pop("complete")
    return dataset
