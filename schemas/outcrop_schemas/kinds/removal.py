"""``removal``: what becomes of each block when samples are left out, the dominant ones or others."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr

SELECTIONS = ("dominant", "random", "input_norm")
_BLOCK = ("block",)
_EACH = ("block", "selection", "fraction")
_MEASURED = {
    "similarity": "mean similarity between layers inside",
    "contrast": "mean similarity inside less that between inside and outside",
    "contrast_without_pc1": "the contrast without the first principal components",
    "pc_support": "mean variance share of the first principal component inside",
    "score": "share of the searched layers in the similar interval that is left of it",
}


def fractions_ascend(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Fractions start with 0 and ascend."""
    import numpy as np

    fractions = dataset["fraction"].values
    if len(fractions) and (fractions[0] != 0 or (np.diff(fractions) <= 0).any()):
        yield Problem("coords/fraction", "0 and then ascending values", f"{fractions.tolist()}")


def nothing_is_left_out_first(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Where nothing is left out, all selections agree (to 1e-9), and more left out keeps no more samples."""
    import numpy as np

    kept = dataset["kept_count"].values
    if (np.diff(kept, axis=2) > 0).any():
        yield Problem("data_vars/kept_count", "at most what a smaller fraction keeps", "more")
    for name in ("kept_count", *_MEASURED):
        first = dataset[name].values[:, :, :1].astype(np.float64)
        if first.size and not np.allclose(first, first[:, :1], rtol=0, atol=1e-9, equal_nan=True):
            yield Problem(f"data_vars/{name}", "one value for all selections where nothing is left out", "several")


def verdicts_follow(dataset: "xr.Dataset") -> Iterator[Problem]:
    """A fraction dissolves a block exactly where the block is not found from there on, and was found before."""
    import numpy as np

    if "dominant" not in dataset["selection"].values.tolist():
        yield Problem("coords/selection", "'dominant' among them", f"{dataset['selection'].values.tolist()}")
        return
    found = dataset["is_block"].sel(selection="dominant").values
    fractions = dataset["fraction"].values
    for block, (own, told) in enumerate(zip(found, dataset["dissolving_fraction"].values, strict=True)):
        last = int(np.flatnonzero(own)[-1]) if own.any() else -1
        gone = bool(own.size and own[0] and last + 1 < len(own))
        expected = float(fractions[last + 1]) if gone else float("nan")
        if not np.isclose(told, expected, equal_nan=True):
            yield Problem("data_vars/dissolving_fraction", f"{expected:g} for block {block}", f"{told:g}")


def _measured(name: str, long_name: str) -> tuple[Variable, ...]:
    least, most = (0, 1) if name in ("pc_support", "score") else (None, None)
    value = Variable(name, _EACH, "float", long_name, "1", least, most, nullable=True)
    spread = Variable(
        f"{name}_spread", _EACH, "float", f"standard deviation over draws of {long_name}", "1", 0, nullable=True
    )
    if name == "score":
        return value, spread
    error = Variable(f"{name}_error", _EACH, "float", f"standard error of {long_name}", "1", 0, nullable=True)
    return value, error, spread


REMOVAL = Kind(
    name="removal",
    version="1.0",
    summary="What becomes of each block when the dominant samples, random ones or those of long input are left out.",
    dims={"block": 0, "selection": 1, "fraction": 1},
    coords=(
        Variable("selection", ("selection",), "str", "which samples are left out", values=SELECTIONS),
        Variable("fraction", ("fraction",), "float", "share of the samples that are left out", "1", 0, 1),
    ),
    variables=(
        Variable("block_model", _BLOCK, "str", "model"),
        Variable("first_layer", _BLOCK, "str", "first layer of the interval"),
        Variable("last_layer", _BLOCK, "str", "last layer of the interval"),
        Variable("layer_count", _BLOCK, "int", "layers of the interval", "1", 1),
        Variable("reference_layer", _BLOCK, "str", "layer on whose first principal component samples are ranked"),
        Variable("was_block", _BLOCK, "bool", "whether the interval was called a block"),
        Variable(
            "dissolving_fraction",
            _BLOCK,
            "float",
            "smallest share of dominant samples from which on no block is found",
            "1",
            0,
            1,
            nullable=True,
        ),
        Variable(
            "controls_keep_block", _BLOCK, "bool", "whether the block stays when as many other samples are left out"
        ),
        Variable("verdict", _BLOCK, "str", "what was found, in words"),
        Variable("kept_count", _EACH, "int", "samples that are kept", "1", 0),
        *(variable for name, text in _MEASURED.items() for variable in _measured(name, text)),
        Variable("is_block", _EACH, "bool", "whether a block is found that holds half of the interval, in all draws"),
        Variable("block_share", _EACH, "float", "share of the draws in which it is", "1", 0, 1),
    ),
    attributes=(
        Attribute("measure", "str", "name of the similarity, such as 'linear CKA'"),
        Attribute("ranking", "str", "how samples were ranked that had no part in finding what they are ranked by"),
        Attribute("input_norm", "str", "what the lengths of inputs are of, or why they are not known"),
        Attribute("thresholds", "json", "thresholds of the detector"),
        Attribute("sample_count", "int", "samples of the data"),
        Attribute("batch_size", "int", "samples per batch, before any are left out"),
        Attribute("random_replicates", "int", "draws of random samples"),
        Attribute("error", "str", "how standard errors were found", required=False),
        Attribute("not_tested", "str", "models that were not tested, and why", required=False),
    ),
    checks=(fractions_ascend, nothing_is_left_out_first, verdicts_follow),
    references=("https://arxiv.org/abs/2202.07184",),
)
