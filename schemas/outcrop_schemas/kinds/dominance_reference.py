"""``dominance_reference``: where each model's dominant samples are judged, and which they are."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds.blocks import VERDICTS
from outcrop_schemas.kinds.dominance import RULES
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr

_BLOCK = ("block",)
_EACH = ("block", "sample")


def of_listed_models(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Every block belongs to a listed model, each to another one."""
    models, owners = dataset["model"].values.tolist(), dataset["block_model"].values.tolist()
    foreign = sorted(set(owners) - set(models))
    if foreign:
        yield Problem("data_vars/block_model", f"one of {', '.join(map(repr, models))}", ", ".join(map(repr, foreign)))
    if len(set(owners)) < len(owners):
        yield Problem("data_vars/block_model", "each model once", ", ".join(map(repr, owners)))


def blocks_of_such_models(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Only a model whose verdict is 'block' has one."""
    verdicts = dict(zip(dataset["model"].values.tolist(), dataset["verdict"].values.tolist(), strict=True))
    owners = dataset["block_model"].values.tolist()
    pairs = zip(owners, dataset["is_block"].values.tolist(), strict=True)
    wrong = [model for model, is_block in pairs if is_block and verdicts.get(model, "block") != "block"]
    if wrong:
        yield Problem("data_vars/is_block", "false where the verdict is another", f"true for {', '.join(wrong)}")


def counts_agree(dataset: "xr.Dataset") -> Iterator[Problem]:
    """A count is that of the dominant samples, and these are the ones of lowest rank."""
    dominant, rank = dataset["dominant"].values, dataset["rank"].values
    wrong = int((dominant.sum(axis=1) != dataset["dominant_count"].values).sum())
    if wrong:
        yield Problem("data_vars/dominant_count", "the number of dominant samples", f"another in {wrong} blocks")
    unlike = sum(
        bool(chosen.any() and not chosen.all() and own[chosen].max() > own[~chosen].min())
        for chosen, own in zip(dominant, rank, strict=True)
    )
    if unlike:
        yield Problem("data_vars/dominant", "the samples of lowest rank", f"others in {unlike} blocks")


DOMINANCE_REFERENCE = Kind(
    name="dominance_reference",
    version="1.0",
    summary="The block or interval and the layer at which each model's dominant samples are told, and which these are.",
    dims={"block": 0, "model": 1, "sample": 1},
    coords=(
        Variable("model", ("model",), "str", "model"),
        Variable("sample", ("sample",), "int", "position of the sample in the data", minimum=0),
    ),
    variables=(
        Variable("verdict", ("model",), "str", "what the search for blocks found", values=VERDICTS),
        Variable("evidence", ("model",), "str", "what speaks for and against a block"),
        Variable("block_model", _BLOCK, "str", "model"),
        Variable("first_layer", _BLOCK, "str", "first layer of the interval"),
        Variable("last_layer", _BLOCK, "str", "last layer of the interval"),
        Variable("layer_count", _BLOCK, "int", "layers of the interval", "1", 1),
        Variable("reference_layer", _BLOCK, "str", "layer on whose first principal component samples are ranked"),
        Variable("is_block", _BLOCK, "bool", "whether the interval is a block"),
        Variable("rule", _BLOCK, "str", "how dominant samples were told at the reference layer", values=RULES),
        Variable("dominant_count", _BLOCK, "int", "dominant samples", "1", 0),
        Variable(
            "rank", _EACH, "float", "rank of the sample by |projection|, from 1; pooled: the mean of its ranks", "1", 1
        ),
        Variable("dominant", _EACH, "bool", "whether the sample is dominant"),
    ),
    attributes=(
        Attribute("sample_count", "int", "samples used"),
        Attribute("pooled", "bool", "whether ranks are means over the layers of the interval"),
    ),
    checks=(of_listed_models, blocks_of_such_models, counts_agree),
    references=("https://arxiv.org/abs/2202.07184",),
)
