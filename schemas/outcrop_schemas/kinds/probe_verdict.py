"""``probe_verdict``: whether samples with what dominant ones share excite a block as much as the most dominant does."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr

VERDICTS = ("excited", "unspecific", "not excited", "not comparable", "no block")
_BLOCK = ("block",)
_CHANNELS = ("red", "green", "blue")
_SUBJECTS = {
    "carrying": "strongest stimulus that has what dominant samples share",
    "control": "strongest stimulus that has it not",
    "strongest": "strongest synthetic stimulus",
    "own": "strongest stimulus of one value that a dominant sample has",
    "colour": "solid colour that a search found",
    "statistic": "family of one parameter that excites most",
}


def verdicts_follow(dataset: "xr.Dataset") -> Iterator[Problem]:
    """The verdict is 'no block' exactly where there is none, and else follows from the comparison."""
    import numpy as np

    found = {name: dataset[name].values for name in ("is_block", "excited", "compared_count", "carrying_reach")}
    reaches = found["carrying_reach"] >= 1
    specific = dataset["control_expected"].values < 1
    excited = (found["compared_count"] > 0) & reaches & specific
    answers = np.where(reaches, np.where(specific, "excited", "unspecific"), "not excited")
    answers = np.where(found["compared_count"] > 0, answers, "not comparable")
    answers = np.where(found["is_block"], answers, "no block")
    wrong = sum(
        verdict != answer for verdict, answer in zip(dataset["verdict"].values.tolist(), answers.tolist(), strict=True)
    )
    if wrong:
        yield Problem(
            "data_vars/verdict", "a verdict that fits is_block and the comparison", f"another in {wrong} blocks"
        )
    differ = int((excited != found["excited"]).sum())
    if differ:
        expected = "true exactly where those that have what is shared reach 1 and as many without it do not"
        yield Problem("data_vars/excited", expected, f"otherwise in {differ} blocks")


def _excited(prefix: str, what: str) -> tuple[Variable, ...]:
    return (
        Variable(prefix, _BLOCK, "str", f"{what}; empty where there is none"),
        Variable(
            f"{prefix}_excitation",
            _BLOCK,
            "float",
            f"projection of the {what} over that of the most dominant sample",
            "1",
            nullable=True,
        ),
        Variable(f"{prefix}_norm_ratio", _BLOCK, "float", f"norm of the {what} over the median", "1", 0, nullable=True),
        Variable(
            f"{prefix}_percentile",
            _BLOCK,
            "float",
            f"real samples nearer to the mean than the {what}",
            "percent",
            0,
            100,
            nullable=True,
        ),
        *(
            Variable(f"{prefix}_{channel}", _BLOCK, "float", f"{channel} of the {what}", "1", 0, 1, nullable=True)
            for channel in _CHANNELS
            if prefix in ("own", "colour")
        ),
    )


def _expected(name: str, what: str) -> Variable:
    long_name = f"farthest expected of {what}, the most dominant sample being 1"
    return Variable(name, _BLOCK, "float", long_name, "1", nullable=True)


PROBE_VERDICT = Kind(
    name="probe_verdict",
    version="1.0",
    summary="Whether synthetic samples excite a model's block as much as its most dominant sample does.",
    dims={"block": 1},
    variables=(
        Variable("block_model", _BLOCK, "str", "model"),
        Variable("first_layer", _BLOCK, "str", "first layer"),
        Variable("last_layer", _BLOCK, "str", "last layer"),
        Variable("reference_layer", _BLOCK, "str", "layer at which projections are compared"),
        Variable("is_block", _BLOCK, "bool", "whether it is a block"),
        Variable("evidence", _BLOCK, "str", "what was found in the model"),
        Variable("verdict", _BLOCK, "str", "what was found", values=VERDICTS),
        Variable("text", _BLOCK, "str", "the verdict with its numbers"),
        Variable(
            "excited",
            _BLOCK,
            "bool",
            "whether stimuli with what is shared lie as far out as the most dominant sample, and as many others do not",
        ),
        Variable("shared", _BLOCK, "str", "what dominant samples share; empty where no statistic tells them"),
        Variable("shared_auroc", _BLOCK, "float", "how well that tells them", "1", 0.5, 1, nullable=True),
        Variable(
            "shared_p_value",
            _BLOCK,
            "float",
            "chance that any statistic tells as many random samples as well",
            "1",
            0,
            1,
            nullable=True,
        ),
        Variable("carrying_count", _BLOCK, "int", "stimuli that have what is shared", "1", 0),
        Variable("control_count", _BLOCK, "int", "stimuli that have it not", "1", 0),
        Variable("reaching_count", _BLOCK, "int", "stimuli with it that lie as far as the most dominant", "1", 0),
        Variable("control_reaching_count", _BLOCK, "int", "stimuli without it that do", "1", 0),
        Variable("compared_count", _BLOCK, "int", "how many of each are compared: as many as the fewer are", "1", 0),
        _expected("carrying_reach", "as many stimuli with it as there are real samples"),
        Variable("carrying_median", _BLOCK, "float", "median distance of all stimuli with it", "1", nullable=True),
        _expected("carrying_expected", "compared_count stimuli with it"),
        _expected("control_expected", "compared_count stimuli without it"),
        _expected("real_expected", "compared_count real samples"),
        Variable(
            "carrying_layer_share",
            _BLOCK,
            "float",
            "layers in which the strongest stimulus with it lies as far out as the most dominant sample",
            "1",
            0,
            1,
            nullable=True,
        ),
        Variable("dominant_sample", _BLOCK, "int", "position of the most dominant sample in the data", minimum=0),
        Variable("dominant_norm_ratio", _BLOCK, "float", "norm of that sample over the median", "1", 0, nullable=True),
        *(variable for prefix, what in _SUBJECTS.items() for variable in _excited(prefix, what)),
        Variable("colour_at_edge", _BLOCK, "bool", "whether a channel of the found colour is at an end of its range"),
        Variable("statistic_at_edge", _BLOCK, "bool", "whether the level is at an end of the family's range"),
        Variable("statistic_level", _BLOCK, "float", "level of that family", "1", 0, 1, nullable=True),
        Variable(
            "colour_distance",
            _BLOCK,
            "float",
            "largest difference of a channel between the found colour and the nearest of a dominant image",
            "1",
            0,
            1,
            nullable=True,
        ),
        Variable("evaluations", _BLOCK, "int", "points that searches tried", "1", 0),
    ),
    attributes=(Attribute("sample_count", "int", "real samples"),),
    checks=(verdicts_follow,),
    references=("https://arxiv.org/abs/2202.07184",),
)
