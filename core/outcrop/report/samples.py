"""Pictures of the samples that a study was made with, and of a model's layers, as embedded PNG files."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.style import MISSING, palette

if TYPE_CHECKING:
    import xarray as xr

_PER_CLASS = 13
_CLASSES = 12
_WITHOUT_CLASSES = 60


@dataclass(frozen=True)
class Thumbnail:
    """One sample: its id, the name of its class (or nothing) and its picture as a data URI."""

    sample: str
    label: str
    picture: str


@dataclass(frozen=True)
class Stratum:
    """Thumbnails of one class, or of all samples where there are no classes."""

    name: str
    count: int
    thumbnails: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class PictureRow:
    """Thumbnails that a drawing shows side by side, with what they are and a remark."""

    name: str
    note: str
    thumbnails: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class Samples:
    """What the report says of one dataset.

    Attributes:
        name: Of the dataset.
        source: The reference it was loaded from.
        fingerprint: Of its content.
        count: Number of samples.
        classes: Number of classes.
        strata: Thumbnails by class; at most a dozen classes are shown.
        skipped: Samples that could not be read.
    """

    name: str
    source: str
    fingerprint: str
    count: int
    classes: int
    strata: tuple[Stratum, ...]
    skipped: tuple[str, ...]


def read_samples(data: "xr.DataTree") -> list[Samples]:
    """Return what each dataset of a study looks like; without thumbnails, only what it is.

    Args:
        data: ``/<dataset>`` with the coordinate ``sample`` and, if known, ``label`` and ``thumbnail``.
    """
    return [_read(name, node.to_dataset()) for name, node in data.children.items() if "sample" in node.dims]


def pictures_at(data: "xr.Dataset", positions: NDArray[np.int64], remarks: Sequence[str]) -> tuple[Thumbnail, ...]:
    """Return thumbnails of samples by their position, labelled with their class, if known, and a remark on each.

    Args:
        data: Of a study, with the variable ``thumbnail``.
        positions: Of the samples.
        remarks: As many.
    """
    classes = [str(entry) for entry in data.attrs.get("classes", ())]
    part = data.isel(sample=positions)
    labels = part["label"].values.astype(int).tolist() if "label" in part else []
    named = [class_name(classes, each) for each in labels] or [""] * len(positions)
    return tuple(
        Thumbnail(str(sample), ", ".join(filter(None, (name, remark))), data_uri(picture))
        for sample, name, remark, picture in zip(
            part["sample"].values, named, remarks, part["thumbnail"].values, strict=True
        )
    )


def core_picture(shares: Sequence[float]) -> str:
    """Return a picture one pixel high: a drill core, each layer in the colour of its value (0 to 1), or grey."""
    colours = np.array([_rgb(colour) for colour in (*palette(), MISSING)], dtype=np.uint8)
    values = np.asarray(shares, dtype=float)
    index = np.full(len(values), 256)
    known = np.isfinite(values)
    index[known] = np.clip(np.round(values[known] * 255), 0, 255).astype(int)
    return data_uri(colours[index][np.newaxis])


def _read(name: str, dataset: "xr.Dataset") -> Samples:
    classes = [str(entry) for entry in dataset.attrs.get("classes", ())]
    labels = dataset["label"].values.astype(int) if "label" in dataset else None
    strata: tuple[Stratum, ...] = ()
    if "thumbnail" in dataset:
        strata = tuple(_stratum(dataset, title, where, classes, labels) for title, where in _choose(dataset, classes))
    return Samples(
        name=str(dataset.attrs.get("name", name)),
        source=str(dataset.attrs.get("source", "")),
        fingerprint=str(dataset.attrs.get("fingerprint", "")),
        count=dataset.sizes["sample"],
        classes=len(classes),
        strata=strata,
        skipped=tuple(str(entry) for entry in dataset.attrs.get("skipped", ())),
    )


def _choose(dataset: "xr.Dataset", classes: Sequence[str]) -> list[tuple[str, NDArray[np.int64]]]:
    """Return (class, positions of its samples); one unnamed class where there are no labels."""
    every = np.arange(dataset.sizes["sample"])
    if "label" not in dataset or len(every) == 0:
        return [("", every)]
    labels = dataset["label"].values.astype(int)
    present = np.unique(labels)
    shown = present[np.linspace(0, len(present) - 1, min(_CLASSES, len(present))).round().astype(int)]
    return [(class_name(classes, label), every[labels == label]) for label in shown]


def _stratum(
    dataset: "xr.Dataset",
    title: str,
    where: NDArray[np.int64],
    classes: Sequence[str],
    labels: NDArray[np.int64] | None,
) -> Stratum:
    wanted = min(len(where), _PER_CLASS if title else _WITHOUT_CLASSES)
    chosen = where[np.linspace(0, len(where) - 1, wanted).round().astype(int)] if wanted else where[:0]
    part = dataset[["thumbnail"]].isel(sample=chosen)
    return Stratum(
        title,
        len(where),
        tuple(
            Thumbnail(str(sample), class_name(classes, int(labels[i])) if labels is not None else "", data_uri(picture))
            for i, sample, picture in zip(chosen, part["sample"].values, part["thumbnail"].values, strict=True)
        ),
    )


def class_name(classes: Sequence[str], label: int) -> str:
    """Return the name of a class by its number, which is negative for samples without one."""
    if label < 0:
        return "without a label"
    return classes[label] if label < len(classes) else f"class {label}"


def data_uri(pixels: NDArray[Any]) -> str:
    """Return pixels (y, x), (y, x, 1), (y, x, 3) or (y, x, 4), from 0 to 255, as a PNG file in a data URI."""
    from PIL import Image

    squeezed = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(squeezed, dtype=np.uint8)).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
