"""Draw results of kind ``probe_verdict``: whether synthetic samples excite a block as its most dominant sample does."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.figure import Cell, Drawing, Figure, Picture, Run
from outcrop.report.probes.probed import FOUND, Probed, read_probed, swatch, table_of, times, two_lines, verdict_rows
from outcrop.report.samples import data_uri

if TYPE_CHECKING:
    import xarray as xr

_COLUMNS = ("", "sample", "distance\ndominant = 1", "norm\nmedian = 1", "norm\ndominant = 1")


def draw_probe_verdict(dataset: "xr.Dataset", run: Run) -> Sequence[Drawing]:
    """Return for each model the answer with its numbers, and the strongest stimuli beside the most dominant sample."""
    rows = verdict_rows(dataset)
    response = run.of_kind("probe_response")
    probed = {one.model: one for one in read_probed(response, run)} if response is not None else {}
    return [
        Drawing(
            f"{model}: {_answer(row)}" if len(rows) > 1 else _answer(row).capitalize(),
            _sentences(row),
            table=table_of(_COLUMNS, _table(row, probed.get(model), run)),
        )
        for model, row in rows.items()
    ]


def _answer(row: Mapping[str, Any]) -> str:
    return {"excited": "yes, they do", "not excited": "no, they do not"}.get(str(row["verdict"]), "no block to excite")


def _sentences(row: Mapping[str, Any]) -> str:
    """Return whether synthetic samples with a shared statistic excite the block, with numbers."""
    block, layer = f"{row['first_layer']} to {row['last_layer']}", str(row["reference_layer"])
    dominant = f"The most dominant sample has {times(float(row['dominant_norm_ratio']))} the median norm"
    said = []
    if str(row["verdict"]) == "no block":
        evidence = str(row["evidence"]).strip().rstrip(".").removeprefix("no block; ")
        said.append(f"No block was found: {evidence}.")
        answer = "synthetic samples reach as far as" if row["excited"] else "no synthetic sample reaches as far as"
        said.append(f"On the first principal component of {layer}, {answer} the most dominant real sample.")
    else:
        answer = "Synthetic samples excite" if row["excited"] else "No synthetic sample excites"
        said.append(
            f"{answer} the block {block} at least as much as its most dominant real sample does, on the first "
            f"principal component of {layer}."
        )
    if lies := _lies(row, "strongest"):
        said.append(f"{dominant}; the strongest synthetic one, {_short_name(row, 'strongest')}, {lies}.")
    else:
        said.append(f"{dominant}; no stimulus has a known response.")
    if lies := _lies(row, "colour"):
        near = float(row["colour_distance"])
        nearest = f"; the nearest colour of a dominant image differs by {near:.2f} of 1 in a channel"
        said.append(f"The solid colour that a search found {lies}{nearest if near == near else ''}.")
    if lies := _lies(row, "statistic"):
        said.append(f"The best statistic, {_which(row, 'statistic')}, {lies}.")
    if int(row["evaluations"]):
        said.append(f"Searches tried {int(row['evaluations']):,} points.")
    return " ".join(said)


def _lies(row: Mapping[str, Any], subject: str) -> str:
    """Return how far out a subject lies, as a verb with its object; an empty text where there is none."""
    if not str(row[subject]):
        return ""
    far, norm = float(row[f"{subject}_excitation"]), float(row[f"{subject}_norm_ratio"])
    side = " to the other side" if far < 0 else ""
    return f"lies {times(abs(far))} as far out{side}, with {times(norm)} the median norm"


def _table(row: Mapping[str, Any], probed: Probed | None, run: Run) -> tuple[tuple[Cell, ...], ...]:
    dominant = float(row["dominant_norm_ratio"])

    def line(picture: Cell, what: str, which: str, far: float, norm: float) -> tuple[Cell, ...]:
        return picture, two_lines(what, which), far, norm, norm / dominant if dominant else np.nan

    picture, which = _dominant(int(row["dominant_sample"]), run)
    if not picture and probed is not None and probed.dominant is not None:
        picture = probed.picture(probed.dominant)
    rows = [line(picture, "most dominant sample", which, 1.0 if dominant == dominant else np.nan, dominant)]
    labels = {
        "strongest": "strongest synthetic sample",
        "own": "one value of a dominant sample",
        "colour": "strongest solid colour",
        "statistic": "best statistic",
    }
    for subject, what in labels.items():
        far, norm = float(row[f"{subject}_excitation"]), float(row[f"{subject}_norm_ratio"])
        if str(row[subject]):
            rows.append(line(_picture(row, subject, probed), what, _which(row, subject), far, norm))
        elif subject == "colour" and probed is not None and (best := _strongest_colour(probed)) is not None:
            far, norm = float(probed.excitation[best]), float(probed.here("norm_ratio")[best])
            rows.append(line(probed.picture(best), f"{what}, without search", probed.title(best), far, norm))
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
        return swatch(colour, _short_name(row, subject))
    return ""


def _strongest_colour(probed: Probed) -> int | None:
    """Return the strongest of the stimuli that stand for a colour; None where there is none."""
    known: NDArray[np.bool_] = np.isfinite(probed.colours).all(axis=1) & ~probed.keeps_content
    return next((one for one in probed.ranked.tolist() if known[one]), None)


def _which(row: Mapping[str, Any], subject: str) -> str:
    if subject == "statistic":
        level = float(row["statistic_level"])
        return _readable(row[subject]) + (f", level {level:.2f}" if level == level else "")
    return _short_name(row, subject)


def _short_name(row: Mapping[str, Any], subject: str) -> str:
    """Return the name of a stimulus without its family and its model."""
    family, found, rest = str(row[subject]).partition(": ")
    return (rest if found else family).removesuffix(f" ({row['block_model']})")


def _readable(name: object) -> str:
    return str(name).replace("_", " ")


PROBE_VERDICT = Figure(
    kind="probe_verdict",
    title="Do synthetic samples excite the block as its most dominant sample does?",
    draw=draw_probe_verdict,
)
