"""``probe_verdict``: whether synthetic samples excite a model's block as much as its most dominant sample does."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr

VERDICTS = ("excited", "not excited", "no block")
_BLOCK = ("block",)
_CHANNELS = ("red", "green", "blue")
_SUBJECTS = {
    "strongest": "strongest synthetic stimulus",
    "own": "strongest stimulus of one value that a dominant sample has",
    "colour": "solid colour that a search found",
    "statistic": "family of one parameter that excites most",
}


def verdicts_follow(dataset: "xr.Dataset") -> Iterator[Problem]:
    """The verdict is 'no block' exactly where there is none, and else says whether the strongest reaches 1."""
    verdicts = zip(
        dataset["verdict"].values.tolist(),
        dataset["is_block"].values.tolist(),
        dataset["excited"].values.tolist(),
        strict=True,
    )
    wrong = sum(
        verdict != ("no block" if not is_block else "excited" if excited else "not excited")
        for verdict, is_block, excited in verdicts
    )
    if wrong:
        yield Problem("data_vars/verdict", "a verdict that fits is_block and excited", f"another in {wrong} blocks")
    reached = dataset["strongest_excitation"].values >= 1
    differ = int((reached != dataset["excited"].values).sum())
    if differ:
        expected = "true exactly where strongest_excitation is 1 or more"
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
        *(
            Variable(f"{prefix}_{channel}", _BLOCK, "float", f"{channel} of the {what}", "1", 0, 1, nullable=True)
            for channel in _CHANNELS
            if prefix in ("own", "colour")
        ),
    )


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
        Variable("excited", _BLOCK, "bool", "whether a synthetic sample lies as far out as the most dominant one"),
        Variable("dominant_sample", _BLOCK, "int", "position of the most dominant sample in the data", minimum=0),
        Variable("dominant_norm_ratio", _BLOCK, "float", "norm of that sample over the median", "1", 0, nullable=True),
        *(variable for prefix, what in _SUBJECTS.items() for variable in _excited(prefix, what)),
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
