"""Draw what is best read as a table: results of kind ``blocks``, and of any kind that no figure is known for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.report.figure import Cell, Drawing, Figure, Run, Table
from outcrop.report.verdicts import hangs_on_empty_layers, percent, read_thresholds

if TYPE_CHECKING:
    import xarray as xr

_ROWS = 50


def draw_blocks(dataset: "xr.Dataset", _run: Run) -> Sequence[Drawing]:
    """Return every interval of similar layers with the evidence for and against it."""
    columns = (
        "model", "layers", "count", "block", "score", "mean CKA", "contrast", "PC1 share inside", "PC1 share outside",
        "PC1 alignment", "contrast without PC1", "mean CKA without PC1", "removal effect", "PC1 share raised",
        "removal dissolves",
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for i in range(dataset.sizes.get("block", 0)):
        one = {str(name): dataset[name].values[i] for name in dataset.variables if dataset[name].dims == ("block",)}
        rows.append(
            (
                str(one["block_model"]), f"{one['first_layer']}\nto {one['last_layer']}", int(one["layer_count"]),
                bool(one["is_block"]),
                _with_interval(one, "score"), _with_interval(one, "similarity"), _with_interval(one, "contrast"),
                _with_interval(one, "pc_support"), _with_interval(one, "pc_support_outside"),
                float(one["pc_alignment"]),
                _with_interval(one, "contrast_without_pc1"), float(one.get("similarity_without_pc1", np.nan)),
                _with_interval(one, "removal_effect"),
                bool(one["supported"]),
                "not known" if hangs_on_empty_layers(one) else bool(one["dissolved"]),
            )
        )  # fmt: skip
    if not rows:
        return []
    return [Drawing(BLOCKS.title, _rules(dataset), table=Table(columns, tuple(rows)))]


def draw_anything(dataset: "xr.Dataset", _run: Run) -> Sequence[Drawing]:
    """Return a table of the variables, and the values themselves where they lie along one short dimension."""
    rows = tuple(_summary(str(name), variable) for name, variable in dataset.data_vars.items())
    table = Table(("variable", "dimensions", "unit", "minimum", "mean", "maximum", "missing"), rows)
    drawings = [Drawing("Variables", "", table=table)]
    for dim in dataset.sizes:
        listed = {str(name): v.values for name, v in dataset.variables.items() if v.dims == (dim,)}
        if listed and dataset.sizes[dim] > 0:
            shown = min(_ROWS, dataset.sizes[dim])
            values = tuple(tuple(_cell(column[i]) for column in listed.values()) for i in range(shown))
            more = f"The first {shown} of {dataset.sizes[dim]}." if shown < dataset.sizes[dim] else ""
            drawings.append(Drawing(f"Along {dim}", more, table=Table(tuple(listed), values)))
    return drawings


def _rules(dataset: "xr.Dataset") -> str:
    """Return the three rules of a block with the thresholds that were asked for."""
    asked = read_thresholds(dataset)
    confidence = float(dataset.attrs.get("confidence", 0.95))
    known = "score_low" in dataset and np.isfinite(dataset["score_low"].values).any()
    lines = f"Second lines: {100 * confidence:g} % bootstrap intervals. " if known else ""
    left = f"leaves at most {percent(asked.removal_share)} of its length similar"
    alone = f" (of at least {percent(asked.support_share)} where there is nothing outside to compare with)"
    if "contrast_without_pc1" in dataset:
        alone = ""
        left = (
            f"leaves at most {percent(asked.removal_share)} of its contrast, the mean CKA inside less that between "
            "inside and outside. The removal effect, the share of all layers that are no longer similar without the "
            "component, is no part of the rule: neighbours may stay similar where the square is gone. Where nothing is "
            "outside, there is no contrast, and no block"
        )
    return (
        f"Similar layers: an interval of at least {asked.minimum_layers} layers and {percent(asked.minimum_share)} of "
        f"those searched, with a mean CKA of at least {asked.similarity:.2f} over its pairs; at most "
        f"{percent(asked.quantile)} of the pairs, and no layer's own mean, lie below "
        f"{asked.similarity - asked.slack:.2f}. "
        "It is called a block where, besides, the first principal component (PC1) has a mean share of variance inside "
        f"of at least {asked.support_ratio:g} times that outside{alone}, and where removing that component from every "
        f"layer {left}. "
        f"{lines}A dash stands for what is not defined or not known."
    )


def _with_interval(row: dict[str, Any], name: str) -> str:
    low, high = float(row.get(f"{name}_low", np.nan)), float(row.get(f"{name}_high", np.nan))
    value = f"{float(row[name]):.2f}" if np.isfinite(row.get(name, np.nan)) else "\u2013"
    return f"{value}\n{low:.2f} to {high:.2f}" if np.isfinite(low) and np.isfinite(high) else value


def _summary(name: str, variable: "xr.DataArray") -> tuple[Cell, ...]:
    dims = " x ".join(f"{dim} {size}" for dim, size in variable.sizes.items()) or "one value"
    unit = str(variable.attrs.get("units", ""))
    if variable.dtype.kind not in "fiub" or variable.size == 0:
        return name, dims, unit, "", "", "", ""
    values = np.asarray(variable.values, dtype=float)
    finite = values[np.isfinite(values)]
    missing = int(values.size - finite.size)
    if not finite.size:
        return name, dims, unit, "", "", "", missing
    return name, dims, unit, float(finite.min()), float(finite.mean()), float(finite.max()), missing


def _cell(value: Any) -> Cell:
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, bool | int | float | str) else str(value)


BLOCKS = Figure(kind="blocks", title="Intervals of similar layers", draw=draw_blocks)
