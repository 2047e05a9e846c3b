"""What the figures of probes share: where each model is judged, the stimuli made for it, and their pictures."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.figure import Cell, Picture, Run, Table
from outcrop.report.maps import read_axis
from outcrop.report.samples import data_uri

if TYPE_CHECKING:
    import xarray as xr

FOUND = "found"
"""Family of the stimuli that a search ended at."""

_SAME = 1e-3
"""Relative difference of norms below which a stimulus is the sample that it shows."""

_CHANNELS = ("red", "green", "blue")


@dataclass(frozen=True)
class Probed:
    """One model of a result of kind ``probe_response``, and the layer that its stimuli are compared at.

    Attributes:
        model: Its name.
        response: The result.
        rows: (layer,), positions of the model's layers in the result, in topological order.
        names: Of these layers.
        place: Of the reference layer among them.
        verdict: Values of the model's row in the result of kind ``probe_verdict``; empty where there is none.
        columns: (stimulus,), positions of the stimuli that were made for all models or for this one.
    """

    model: str
    response: "xr.Dataset"
    rows: NDArray[np.int64]
    names: tuple[str, ...]
    place: int
    verdict: Mapping[str, Any]
    columns: NDArray[np.int64]

    def along(self, name: str) -> NDArray[np.float64]:
        """Return a variable of the model's layers: (layer,) or (layer, stimulus)."""
        values = self.response[name].values[self.rows].astype(float)
        return values[:, self.columns] if values.ndim == 2 else values

    def here(self, name: str) -> NDArray[np.float64]:
        """Return a variable (stimulus,) at the reference layer."""
        return np.asarray(self.along(name)[self.place])

    @property
    def layer(self) -> str:
        """Return the name of the reference layer."""
        return self.names[self.place]

    @property
    def excitation(self) -> NDArray[np.float64]:
        """Return projections (stimulus,) over that of the most dominant sample; NaN where there is none."""
        farthest = float(self.along("dominant_projection")[self.place])
        return self.here("projection") / (farthest if farthest else np.nan)

    @cached_property
    def strength(self) -> NDArray[np.float64]:
        """Return what stimuli (stimulus,) are ranked by: the excitation, or the norm where no projection is known."""
        excitation = self.excitation
        return excitation if np.isfinite(excitation).any() else self.here("norm_ratio")

    @cached_property
    def ranked(self) -> NDArray[np.int64]:
        """Return stimuli, as positions in ``columns``, the strongest first; those without a known strength left out."""
        order = np.argsort(-self.strength, kind="stable")
        return order[np.isfinite(self.strength[order])]

    @cached_property
    def families(self) -> NDArray[np.object_]:
        """Return the families (stimulus,)."""
        return np.array([str(name) for name in self.response["family"].values[self.columns]], dtype=object)

    @cached_property
    def colours(self) -> NDArray[np.float64]:
        """Return the colours (stimulus, channel); NaN where a stimulus stands for none."""
        return np.stack([self.response[name].values[self.columns] for name in _CHANNELS], axis=1).astype(float)

    @cached_property
    def keeps_content(self) -> NDArray[np.bool_]:
        """Return which stimuli (stimulus,) still show a dominant sample, so that they prove nothing."""
        return np.asarray(self.response["keeps_content"].values[self.columns].astype(bool))

    @cached_property
    def carries(self) -> NDArray[np.bool_] | None:
        """Return which stimuli (stimulus,) have what the model's dominant samples share; None where nothing is."""
        subjects = [str(name) for name in self.response["subject"].values] if "carries" in self.response else []
        if self.model not in subjects:
            return None
        flags = self.response["carries"].values[subjects.index(self.model)].astype(bool)[self.columns]
        return np.asarray(flags) if flags.any() else None

    def title(self, stimulus: int) -> str:
        """Return what a stimulus is called beside its family: without that and without the name of the model."""
        name = str(self.response["stimulus"].values[self.columns[stimulus]])
        family, found, rest = name.partition(": ")
        named = rest if found and family.split(" ")[0] == self.families[stimulus] else name
        return named.removesuffix(f" ({self.model})")

    def kind(self, stimulus: int) -> str:
        """Return the family of a stimulus for people; of what a search found, also what was searched."""
        family = str(self.families[stimulus])
        if family == FOUND:
            family = str(self.response["stimulus"].values[self.columns[stimulus]]).partition(": ")[0]
        return family.replace("_", " ")

    def distinct(self, stimuli: Iterable[int]) -> Iterator[int]:
        """Yield stimuli (positions in ``columns``), of those of one colour or of one response only the first."""
        seen: set[object] = set()
        with np.errstate(divide="ignore"):
            # To four digits: the same sample in another batch is rounded otherwise.
            sizes = np.round(np.log(self.along("norm")), 4)
        for stimulus in stimuli:
            colour = self.colours[stimulus]
            marks: set[object] = {sizes[:, stimulus].tobytes()} if np.isfinite(sizes[:, stimulus]).any() else set()
            marks |= {hexadecimal(colour)} if np.isfinite(colour).all() else set()
            if not marks & seen:
                yield stimulus
            seen |= marks

    @cached_property
    def dominant(self) -> int | None:
        """Return the stimulus that is the most dominant sample itself: it has its norm in all layers; None if none."""
        norms, wanted = self.along("norm"), self.along("dominant_norm")[:, None]
        known = np.isfinite(wanted[:, 0]) & (wanted[:, 0] > 0)
        if not known.any():
            return None
        differ = np.abs(norms[known] / wanted[known] - 1).max(axis=0)
        differ = np.where(self.keeps_content & np.isfinite(differ), differ, np.inf)
        best = int(differ.argmin())
        return best if differ[best] < _SAME else None

    def named(self, name: str) -> int | None:
        """Return the position in ``columns`` of a stimulus by its name in the result; None where it is none of them."""
        found = [i for i, column in enumerate(self.columns) if str(self.response["stimulus"].values[column]) == name]
        return found[0] if found else None

    def picture(self, stimulus: int) -> Cell:
        """Return a small picture of a stimulus; its colour where none is kept, an empty text where it has none."""
        if "thumbnail" in self.response:
            column = self.columns[stimulus]
            return Picture(data_uri(self.response["thumbnail"].values[column]), self.title(stimulus))
        return swatch(self.colours[stimulus], self.title(stimulus))


def read_probed(response: "xr.Dataset", run: Run) -> list[Probed]:
    """Return the models of a result; each at the layer that its verdict names, else where stimuli excite it most."""
    axis = read_axis(response, "layer")
    verdicts = verdict_rows(run.of_kind("probe_verdict"))
    made_for = [str(name) for name in response["made_for"].values]
    found = []
    for span in axis.spans:
        rows = axis.order[span.start : span.stop]
        names = axis.names[span.start : span.stop]
        verdict = verdicts.get(span.model, {})
        columns = np.array([i for i, model in enumerate(made_for) if model in ("", span.model)], dtype=np.int64)
        if not len(columns):
            continue
        reference = str(verdict.get("reference_layer", ""))
        place = names.index(reference) if reference in names else _strongest_layer(response, rows)
        found.append(Probed(span.model, response, rows, names, place, verdict, columns))
    return found


def verdict_rows(verdicts: "xr.Dataset | None") -> dict[str, Mapping[str, Any]]:
    """Return the values of each model in a result of kind ``probe_verdict``; none without one."""
    if verdicts is None or "block_model" not in verdicts:
        return {}
    names = [str(name) for name, variable in verdicts.data_vars.items() if variable.dims == ("block",)]
    return {
        str(model): {name: verdicts[name].values[row] for name in names}
        for row, model in enumerate(verdicts["block_model"].values)
    }


def table_of(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    """Return a table without the columns that are empty in all rows, as pictures are where none are kept."""
    kept = [place for place, cells in enumerate(zip(*rows, strict=True)) if any(cell != "" for cell in cells)]
    return Table(tuple(columns[place] for place in kept), tuple(tuple(row[place] for place in kept) for row in rows))


def two_lines(title: str, kind: str) -> str:
    """Return the text of a table cell: a name, and below it of what kind it is."""
    return f"{title}\n{kind}"


def swatch(colour: NDArray[np.float64], text: str) -> Cell:
    """Return a picture of a single colour (channel,) from 0 to 1; an empty text where it is not known."""
    if not np.isfinite(colour).all():
        return ""
    return Picture(data_uri(np.round(255 * np.reshape(colour, (1, 1, 3))).astype(np.uint8)), text)


def hexadecimal(colour: NDArray[np.float64]) -> str:
    """Return a colour (channel,) from 0 to 1 as ``#rrggbb``."""
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in colour)


def times(value: float) -> str:
    """Return a factor in words: ``12.4 times``; what is not known is said to be so."""
    return f"{value:.3g} times" if np.isfinite(value) else "an unknown number of times"


def _strongest_layer(response: "xr.Dataset", rows: NDArray[np.int64]) -> int:
    ratios = response["norm_ratio"].values[rows].astype(float)
    return int(np.where(np.isfinite(ratios), ratios, -1.0).max(axis=1).argmax())
