"""``association``: what the dominant samples of each block share, against the rest."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr

_BLOCK = ("block",)
_STATISTIC = ("statistic",)
_EACH = ("block", "statistic")
_CLASS = ("block", "class_name")
_ROC = ("https://doi.org/10.1148/radiology.143.1.7063747",)
_ADJUSTED = ("https://doi.org/10.1111/j.2517-6161.1995.tb02031.x",)
_PERMUTED = ("https://doi.org/10.2202/1544-6115.1585",)


def ranks_are_of_all_statistics(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Ranks in a block are 1, 2, ... without a gap, and fall with the distance of the AUROC from 0.5."""
    import numpy as np

    ranks = dataset["rank"].values
    expected = np.arange(1, dataset.sizes["statistic"] + 1)
    wrong = [row for row in range(len(ranks)) if not np.array_equal(np.sort(ranks[row]), expected)]
    if wrong:
        yield Problem("data_vars/rank", f"each of 1 to {len(expected)} once in a block", f"others in {len(wrong)}")
        return
    distance = np.nan_to_num(np.abs(dataset["auroc"].values.astype(float) - 0.5), nan=-1.0)
    ordered = np.take_along_axis(distance, np.argsort(ranks, axis=1), axis=1)
    rising = int((np.diff(ordered, axis=1) > 1e-6).any(axis=1).sum())
    if rising:
        yield Problem("data_vars/rank", "1 for the AUROC farthest from 0.5, and so on", f"otherwise in {rising} blocks")


def leaders_come_first(dataset: "xr.Dataset") -> Iterator[Problem]:
    """The leading statistic of a block is that of rank 1, or none is named."""
    names = [str(name) for name in dataset["statistic"].values]
    for row, leader in enumerate(dataset["leading_statistic"].values.tolist()):
        if not leader:
            continue
        first = [name for name, rank in zip(names, dataset["rank"].values[row], strict=True) if rank == 1]
        if first != [leader]:
            yield Problem("data_vars/leading_statistic", f"{''.join(first)!r} of rank 1, or ''", f"{leader!r}")


def adjusting_raises(dataset: "xr.Dataset") -> Iterator[Problem]:
    """No adjusted p-value is below the one that it adjusts (within 1e-9)."""
    pairs = (("p_value", "adjusted_p"), ("p_value", "familywise_p"), ("class_p_value", "class_adjusted_p"))
    for name, adjusted in pairs:
        if name in dataset and adjusted in dataset:
            below = int((dataset[adjusted].values < dataset[name].values - 1e-9).sum())
            if below:
                yield Problem(f"data_vars/{adjusted}", f"at least {name}", f"less in {below} places")


def _share(name: str, dims: tuple[str, ...], long_name: str, references: tuple[str, ...] = ()) -> Variable:
    return Variable(name, dims, "float", long_name, "1", 0, 1, nullable=True, references=references)


def _of_classes(name: str, long_name: str, references: tuple[str, ...] = ()) -> Variable:
    return Variable(name, _CLASS, "float", long_name, "1", 0, 1, required=False, nullable=True, references=references)


ASSOCIATION = Kind(
    name="association",
    version="1.0",
    summary="What the dominant samples of each block share: statistics and classes, against the rest of the samples.",
    dims={"block": 0, "statistic": 0, "class_name": 0},
    coords=(
        Variable("statistic", _STATISTIC, "str", "statistic of the samples"),
        Variable("statistic_title", _STATISTIC, "str", "what the statistic is"),
        Variable("statistic_units", _STATISTIC, "str", "units of the statistic; empty where unknown"),
        Variable("class_name", ("class_name",), "str", "class", required=False),
    ),
    variables=(
        Variable("block_model", _BLOCK, "str", "model"),
        Variable("first_layer", _BLOCK, "str", "first layer"),
        Variable("last_layer", _BLOCK, "str", "last layer"),
        Variable("reference_layer", _BLOCK, "str", "layer that the dominant samples are those of"),
        Variable("is_block", _BLOCK, "bool", "whether it is a block"),
        Variable("member_count", _BLOCK, "int", "dominant samples", "1", 0),
        Variable(
            "leading_statistic", _BLOCK, "str", "statistic that tells them best; empty where none does for certain"
        ),
        Variable("evidence", _BLOCK, "str", "what they share, in words"),
        _share("auroc", _EACH, "chance that a dominant sample has a larger value than another", _ROC),
        Variable(
            "effect",
            _EACH,
            "float",
            "mean of the dominant less that of the rest, by the standard deviation (Cohen's d)",
            "1",
            nullable=True,
        ),
        _share("p_value", _EACH, "share of random draws that lie as far apart", _PERMUTED),
        _share("adjusted_p", _EACH, "p-value adjusted for the number of statistics (Benjamini-Hochberg)", _ADJUSTED),
        _share("familywise_p", _EACH, "share of random draws in which any statistic lies as far apart", _PERMUTED),
        Variable(
            "coefficient",
            _EACH,
            "float",
            "change in the log odds of being dominant per standard deviation, all statistics together",
            "1",
            nullable=True,
        ),
        Variable("rank", _EACH, "int", "rank by how well the statistic tells the dominant samples", "1", 1),
        Variable(
            "mean_dominant", _EACH, "float", "mean of the dominant samples, in the statistic's units", nullable=True
        ),
        Variable("mean_rest", _EACH, "float", "mean of the rest, in the statistic's units", nullable=True),
        _share("logistic_auroc", _BLOCK, "AUROC of all statistics together, on samples that the fit has not seen"),
        Variable(
            "logistic_standard_error",
            _BLOCK,
            "float",
            "standard error of the AUROC of all statistics, over folds",
            "1",
            0,
            nullable=True,
        ),
        _share("logistic_null", _BLOCK, "mean AUROC of all statistics for samples drawn at random"),
        _share(
            "logistic_null_high", _BLOCK, "95th percentile of the AUROC of all statistics for samples drawn at random"
        ),
        _share("logistic_p_value", _BLOCK, "share of random draws that all statistics predict as well"),
        _of_classes("class_share_dominant", "share of the dominant samples that are of the class"),
        _of_classes("class_share_rest", "share of the rest that are of the class"),
        _of_classes("class_p_value", "p-value of Fisher's exact test", ("https://doi.org/10.2307/2342435",)),
        _of_classes("class_adjusted_p", "p-value adjusted for the number of classes (Benjamini-Hochberg)", _ADJUSTED),
    ),
    attributes=(
        Attribute("sample_count", "int", "samples compared"),
        Attribute("permutations", "int", "random draws behind every p-value of a statistic"),
        Attribute("logistic_permutations", "int", "random draws behind the p-value of all statistics"),
        Attribute("folds", "int", "parts of the samples, of which each is predicted from the others"),
        Attribute("significance", "float", "adjusted p-value up to which a statistic or class is named in words"),
    ),
    checks=(ranks_are_of_all_statistics, leaders_come_first, adjusting_raises),
    references=("https://arxiv.org/abs/2202.07184",),
)
