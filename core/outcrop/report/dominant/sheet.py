"""Pictures of many samples as one sheet that the page holds once, for whoever points at a dot."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.figure import Run
from outcrop.report.samples import class_name
from outcrop.report.style import label

if TYPE_CHECKING:
    import xarray as xr

_SIDE, _SMALL_SIDE = 48, 32
_MANY = 500
"""Pictures from which on a sheet has small ones."""

_QUALITY = 82
_SHOWN_SIDE = 112


@dataclass(frozen=True)
class Sheet:
    """Pictures and names of some samples.

    Attributes:
        key: Of the page's asset.
        asset: The pictures, as the page reads them; empty where the study keeps none.
        names: Text of each sample by its position in the data: its id and, if known, its class.
    """

    key: str
    asset: dict[str, Any]
    names: dict[int, str]
    _places: dict[int, int] = field(repr=False)

    @property
    def assets(self) -> dict[str, Any]:
        return {self.key: self.asset} if self.asset else {}

    def columns(self, positions: NDArray[np.int64]) -> dict[str, Any]:
        """Return what a hover template of :meth:`template` reads, for samples of the sheet by their positions."""
        # A template of HTML takes its values as they are, so they are escaped here.
        return {
            "sample": [html.escape(label(self.names[position])) for position in positions.tolist()],
            "place": [self._places[position] for position in positions.tolist()],
        }

    def template(self, rows: Sequence[tuple[str, str]]) -> str:
        """Return the HTML of a tooltip: the picture, the name, and rows of (what it is, placeholder)."""
        lines = "".join(
            f'<div><span style="color:#8a8178">{html.escape(name)}</span> {value}</div>' for name, value in rows
        )
        side = f"width:{_SHOWN_SIDE}px;height:{_SHOWN_SIDE}px"
        image = (
            f'<img src="@place{{picture}}" alt="" style="{side};display:block;image-rendering:pixelated">'
            if self.asset
            else ""
        )
        name = '<div style="font-weight:600;overflow-wrap:anywhere">@sample</div>'
        return f'<div style="max-width:240px">{image}{name}{lines}</div>'

    def formatters(self) -> dict[str, Any]:
        """Return what turns a place into a picture."""
        import json

        from bokeh.models import CustomJSHover

        if not self.asset:
            return {}
        return {"@place": CustomJSHover(code=f"return outcrop.picture({json.dumps(self.key)}, value)")}


def build_sheet(run: Run, positions: NDArray[np.int64], name: str) -> Sheet:
    """Return pictures and names of samples by their positions in the data, in the order given, each once.

    Args:
        run: With what the study keeps of the samples, or without: then they are named by their positions.
        positions: Of the samples.
        name: Of the sheet, unique in the run.
    """
    wanted = list(dict.fromkeys(positions.tolist()))
    names = dict(zip(wanted, sample_names(run.data, np.array(wanted, dtype=np.int64)), strict=True))
    key = f"{run.analysis}/{run.run_id}/{name}"
    places = {position: place for place, position in enumerate(wanted)}
    return Sheet(key, _asset(run.data, wanted) if has_pictures(run.data, wanted) else {}, names, places)


def has_pictures(data: "xr.Dataset | None", positions: Sequence[int]) -> bool:
    """Return whether a study keeps pictures of all samples at these positions, of which there is at least one."""
    return bool(data is not None and "thumbnail" in data and len(positions) and max(positions) < data.sizes["sample"])


def sample_names(data: "xr.Dataset | None", positions: NDArray[np.int64]) -> list[str]:
    """Return the id of each sample, with its class if that is known; ``sample 17`` where nothing is."""
    if data is None or (positions.size and positions.max() >= data.sizes["sample"]):
        return [f"sample {position}" for position in positions.tolist()]
    part = data.isel(sample=positions)
    ids = [str(sample) for sample in part["sample"].values]
    if "label" not in part:
        return ids
    classes = [str(entry) for entry in data.attrs.get("classes", ())]
    known = part["label"].values.astype(int).tolist()
    return [f"{one}, {class_name(classes, index)}" for one, index in zip(ids, known, strict=True)]


def _asset(data: "xr.Dataset | None", positions: Sequence[int]) -> dict[str, Any]:
    from PIL import Image

    assert data is not None
    side = _SIDE if len(positions) <= _MANY else _SMALL_SIDE
    columns = int(np.ceil(np.sqrt(len(positions))))
    sheet = Image.new("RGB", (columns * side, -(-len(positions) // columns) * side))
    for place, pixels in enumerate(data["thumbnail"].isel(sample=list(positions)).values):
        flat = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        one = Image.fromarray(np.ascontiguousarray(flat, dtype=np.uint8)).convert("RGB")
        # Enlarged without smoothing, as everywhere on the page; reduced with it.
        resample = Image.Resampling.NEAREST if one.width <= side else Image.Resampling.LANCZOS
        sheet.paste(one.resize((side, side), resample), (place % columns * side, place // columns * side))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return {"codes": base64.b64encode(stream.getvalue()).decode(), "side": side, "columns": columns}
