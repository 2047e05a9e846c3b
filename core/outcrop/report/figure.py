"""What draws a kind of result: the values that a plugin returns to put its own kind into the report.

A plugin offers figures through the hook ``outcrop_figures``::

    def draw(dataset: xr.Dataset, run: Run) -> list[Drawing]:
        from bokeh.plotting import figure

        plot = figure(height=300, sizing_mode="stretch_width")
        plot.line(dataset["step"].values, dataset["loss"].values)
        return [Drawing(title="Loss along the path", plots=(plot,))]

    Figure(kind="curve", title="Curves", draw=draw)

Text is escaped by the page, so layer and sample names go in as they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from outcrop.report.samples import PictureRow


@dataclass(frozen=True)
class Picture:
    """A small picture in a cell of a table.

    Attributes:
        source: The picture as a data URI.
        text: What it shows, for those who do not see it, and for whoever points at it.
        framed: Whether it has an outline, without which a picture in the colour of the page cannot be seen.
    """

    source: str
    text: str
    framed: bool = True


Cell = str | int | float | bool | Picture


@dataclass(frozen=True)
class Run:
    """One run of an analysis, as the study keeps it.

    Attributes:
        analysis: Name of the analysis.
        run_id: Name of the run, unique in its analysis.
        leaves: Datasets of the result by leaf name.
        provenance: What determined the numbers: parameters, models, data, environment, times. Empty if unrecorded.
        data: What the study keeps of the samples: ids and, if known, labels and thumbnails, in the order of their
            positions; None if unrecorded.
    """

    analysis: str
    run_id: str
    leaves: "Mapping[str, xr.Dataset]"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    data: "xr.Dataset | None" = None

    def of_kind(self, kind: str) -> "xr.Dataset | None":
        """Return the first leaf of a kind, else of one that extends it (``my_plugin.per_layer``), or None."""
        kinds = [(kind_of(leaf, name), leaf) for name, leaf in self.leaves.items()]
        extended = [leaf for found, leaf in kinds if found.endswith(f".{kind}")]
        return next((leaf for found, leaf in kinds if found == kind), extended[0] if extended else None)


@dataclass(frozen=True)
class Table:
    """A table of the report; numbers are aligned right, NaN shows as a dash, pictures are small.

    Attributes:
        columns: Headings.
        rows: Cells, as many per row as there are headings.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Sign:
    """A line of a drawing's key: how something looks in its plots, and what it is.

    Attributes:
        text: What it is.
        colour: As in the plots.
        look: "line", "dashed", "dotted", "dot", "ring" or "area".
    """

    text: str
    colour: str
    look: str = "line"


@dataclass(frozen=True)
class Drawing:
    """One titled piece of the report.

    Attributes:
        title: Heading.
        caption: What one sees, in a sentence or two.
        plots: Bokeh models; those of one drawing share a document, so they may share ranges.
        table: A table, below the plots.
        assets: JSON values by key that the plots read; one key is written to the page once, however many use it.
        layout: "stack" (one below the other), "panel" (one large, its strip below it, the others beside), "row"
            (small ones side by side) or "halves" (two side by side).
        pictures: Rows of samples' thumbnails, below the plots.
        key: What colours and lines of the plots stand for, above them; for plots that share one key.
    """

    title: str
    caption: str = ""
    plots: tuple[Any, ...] = ()
    table: Table | None = None
    assets: Mapping[str, Any] = field(default_factory=dict)
    layout: str = "stack"
    pictures: "tuple[PictureRow, ...]" = ()
    key: tuple[Sign, ...] = ()


@dataclass(frozen=True)
class Figure:
    """How results of a kind are drawn.

    Attributes:
        kind: Of the results that it draws.
        title: Heading of the section.
        draw: Takes a dataset of the kind and the run that it belongs to, returns what to show. Import bokeh inside.
    """

    kind: str
    title: str
    draw: "Callable[[xr.Dataset, Run], Sequence[Drawing]]"

    @property
    def name(self) -> str:
        """What the plugin host knows the figure by: its kind, which has one figure of any plugin."""
        return self.kind


def kind_of(dataset: "xr.Dataset", leaf: str) -> str:
    """Return the declared kind of a dataset; an undeclared one goes by the name of its leaf."""
    return str(dataset.attrs.get("kind", leaf))


def bases_of(kind: str) -> Iterator[str]:
    """Yield a kind and what it extends, from the nearest on: ``my_plugin.per_layer``, then ``per_layer``."""
    while kind:
        yield kind
        kind = kind.partition(".")[2]
