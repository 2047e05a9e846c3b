"""Draw results of kind ``probe_verdict``: whether synthetic samples excite a block as its most dominant sample does."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.figure import Cell, Drawing, Figure, Picture, Run, Table
from outcrop.report.probes.answers import (
    comparison_sentences,
    found_sentence,
    level_of,
    search_sentence,
    short_name,
    title_of,
)
from outcrop.report.probes.probed import FOUND, Probed, read_probed, swatch, table_of, two_lines, verdict_rows
from outcrop.report.samples import data_uri

if TYPE_CHECKING:
    import xarray as xr

_COLUMNS = (
    "", "sample", "distance\ndominant = 1", "percentile\nof distance", "norm\nmedian = 1", "norm\ndominant = 1",
)  # fmt: skip


_SUBJECTS = {
    "carrying": "strongest stimulus with what dominant samples share",
    "control": "strongest stimulus without it",
    "own": "one value of a dominant sample, alone",
    "colour": "solid colour that a search found",
    "statistic": "family of one parameter, searched",
}


def draw_probe_verdict(dataset: "xr.Dataset", run: Run) -> Sequence[Drawing]:
    """Return for each model the answer with its numbers, and the strongest stimuli beside the most dominant sample."""
    rows = verdict_rows(dataset)
    response = run.of_kind("probe_response")
    probed = {one.model: one for one in read_probed(response, run)} if response is not None else {}
    drawings = []
    for model, row in rows.items():
        several = len(rows) > 1
        title = f"{model}: {title_of(row)}" if several else title_of(row).capitalize()
        table = table_of(_COLUMNS, _table(row, probed.get(model), run))
        drawings.append(Drawing(title, _sentences(row), table=table))
        if int(row["compared_count"]):
            drawings.append(_comparison(row, f"{model}: " if several else "", dataset.attrs.get("sample_count")))
    return drawings


def _sentences(row: Mapping[str, Any]) -> str:
    """Return whether synthetic samples with a shared statistic excite the block, with numbers."""
    said = [found_sentence(row), search_sentence(row)]
    if str(row["verdict"]) == "no block":
        evidence = str(row["evidence"]).strip().rstrip(".").removeprefix("no block; ")
        said.insert(0, f"No block was found, so this is said of one layer ({evidence}).")
    return " ".join(filter(None, said))


def _comparison(row: Mapping[str, Any], named: str, sample_count: Any) -> Drawing:
    """Return stimuli that have what is shared beside those without it and the real samples, as groups."""
    count = int(row["compared_count"])
    columns = ("", "how many", "the farthest", f"expected farthest\nof {count:,}", "as far as the\nmost dominant")
    nothing = float("nan")
    rows: tuple[tuple[Cell, ...], ...] = (
        (
            f"stimuli with a {row['shared']}", int(row["carrying_count"]), float(row["carrying_excitation"]),
            float(row["carrying_expected"]), int(row["reaching_count"]),
        ),
        (
            "stimuli without it", int(row["control_count"]), float(row["control_excitation"]),
            float(row["control_expected"]), int(row["control_reaching_count"]),
        ),
        ("real samples", nothing if sample_count is None else int(sample_count), 1.0, float(row["real_expected"]), 1),
    )  # fmt: skip
    caption = " ".join(filter(None, comparison_sentences(row)))
    title = f"{named}equally many compared"
    return Drawing(title if named else title.capitalize(), caption, table=Table(columns, rows))


def _table(row: Mapping[str, Any], probed: Probed | None, run: Run) -> tuple[tuple[Cell, ...], ...]:
    dominant = float(row["dominant_norm_ratio"])

    def line(picture: Cell, what: str, which: str, far: float, percentile: float, norm: float) -> tuple[Cell, ...]:
        return picture, two_lines(what, which), far, percentile, norm, norm / dominant if dominant else np.nan

    picture, which = _dominant(int(row["dominant_sample"]), run)
    if not picture and probed is not None and probed.dominant is not None:
        picture = probed.picture(probed.dominant)
    rows = [line(picture, "most dominant sample", which, 1.0 if dominant == dominant else np.nan, np.nan, dominant)]
    for subject, what in _SUBJECTS.items():
        far, norm = float(row[f"{subject}_excitation"]), float(row[f"{subject}_norm_ratio"])
        percentile = float(row[f"{subject}_percentile"])
        if str(row[subject]):
            rows.append(line(_picture(row, subject, probed), what, _which(row, subject), far, percentile, norm))
        elif subject == "colour" and probed is not None and (best := _strongest_colour(probed)) is not None:
            far, norm = float(probed.excitation[best]), float(probed.here("norm_ratio")[best])
            percentile = float(probed.here("projection_percentile")[best])
            rows.append(
                line(
                    probed.picture(best),
                    "strongest solid colour, without search",
                    probed.title(best),
                    far,
                    percentile,
                    norm,
                )
            )
    return tuple(rows)


def _dominant(position: int, run: Run) -> tuple[Cell, str]:
    """Return picture and name of the most dominant sample; its number where the study does not keep it."""
    if run.data is None or position >= run.data.sizes["sample"]:
        return "", f"number {position}"
    name = str(run.data["sample"].values[position])
    if "thumbnail" not in run.data:
        return "", name
    return Picture(data_uri(run.data["thumbnail"].values[position]), name), name


def _picture(row: Mapping[str, Any], subject: str, probed: Probed | None) -> Cell:
    if probed is not None:
        stimulus = probed.named(str(row[subject]))
        if stimulus is None:
            # A statistic goes by its family: the stimuli that its search ended at are named after it.
            searched = f"{FOUND} {row[subject]}".replace("_", " ")
            ended = [i for i in range(len(probed.columns)) if probed.kind(i) == searched]
            stimulus = ended[0] if ended else None
        if stimulus is not None:
            return probed.picture(stimulus)
    if f"{subject}_red" in row:
        colour = np.array([float(row[f"{subject}_{channel}"]) for channel in ("red", "green", "blue")])
        return swatch(colour, short_name(row, subject))
    return ""


def _strongest_colour(probed: Probed) -> int | None:
    """Return the strongest of the stimuli that stand for a colour; None where there is none."""
    known: NDArray[np.bool_] = np.isfinite(probed.colours).all(axis=1) & ~probed.keeps_content
    return next((one for one in probed.ranked.tolist() if known[one]), None)


def _which(row: Mapping[str, Any], subject: str) -> str:
    if subject == "statistic":
        return level_of(row)
    edge = ", at the edge of the RGB cube" if subject == "colour" and row["colour_at_edge"] else ""
    return short_name(row, subject) + edge


PROBE_VERDICT = Figure(
    kind="probe_verdict",
    title="Do synthetic samples excite the block as much as its most dominant sample does?",
    draw=draw_probe_verdict,
)
