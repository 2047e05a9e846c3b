"""``blocks``: intervals of similar layers, the evidence for each, and a verdict per model."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr

VERDICTS = ("block", "similar layers, not a block", "no block", "too few layers")
_MEASURED = ("score", "similarity", "contrast", "contrast_without_pc1", "pc_support", "removal_effect")
_BLOCK = ("block",)
_WITHOUT = "mean similarity inside less that between inside and outside, without the first principal component"


def layers_in_order(dataset: "xr.Dataset") -> Iterator[Problem]:
    """The first layer of a block does not lie behind its last."""
    wrong = int((dataset["first_depth"].values > dataset["last_depth"].values).sum())
    if wrong:
        yield Problem("data_vars/first_depth", "at most last_depth", f"more than that in {wrong} blocks")


def intervals_hold_values(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Where an interval is given, low <= value <= high (within 1e-9)."""
    for name in _MEASURED:
        if f"{name}_low" not in dataset or f"{name}_high" not in dataset or name not in dataset:
            continue
        value = dataset[name].values
        outside = (dataset[f"{name}_low"].values > value + 1e-9) | (dataset[f"{name}_high"].values < value - 1e-9)
        if outside.any():
            yield Problem(f"data_vars/{name}", f"between {name}_low and {name}_high", f"{int(outside.sum())} outside")


def blocks_have_both_signatures(dataset: "xr.Dataset") -> Iterator[Problem]:
    """An interval is a block exactly where it is supported and dissolved."""
    expected = dataset["supported"].values & dataset["dissolved"].values
    wrong = int((dataset["is_block"].values != expected).sum())
    if wrong:
        yield Problem("data_vars/is_block", "supported and dissolved", f"otherwise in {wrong} blocks")


def verdicts_follow(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Every block belongs to a listed model, and a model's verdict is 'block' exactly where one of its intervals is."""
    models = dataset["model"].values.tolist()
    owners = dataset["block_model"].values.tolist()
    foreign = sorted(set(owners) - set(models))
    if foreign:
        yield Problem("data_vars/block_model", f"one of {', '.join(map(repr, models))}", ", ".join(map(repr, foreign)))
    with_block = {owner for owner, is_block in zip(owners, dataset["is_block"].values, strict=True) if is_block}
    for model, verdict in zip(models, dataset["verdict"].values.tolist(), strict=True):
        if (verdict == "block") != (model in with_block):
            found = "a block" if model in with_block else "no block"
            yield Problem(
                "data_vars/verdict", f"a verdict on {model!r} that fits its blocks", f"{verdict!r} with {found}"
            )


def _measured(name: str, long_name: str, minimum: float | None, maximum: float | None) -> tuple[Variable, ...]:
    value = Variable(name, _BLOCK, "float", long_name, "1", minimum, maximum, nullable=name == "contrast")
    return (value, *_ends(name, long_name, minimum, maximum, required=True))


def _ends(
    name: str, long_name: str, minimum: float | None, maximum: float | None, *, required: bool
) -> tuple[Variable, ...]:
    return tuple(
        Variable(
            f"{name}_{end}",
            _BLOCK,
            "float",
            f"{text} end of the bootstrap interval of {long_name}",
            "1",
            minimum,
            maximum,
            required=required,
            nullable=True,
        )
        for end, text in (("low", "lower"), ("high", "upper"))
    )


BLOCKS = Kind(
    name="blocks",
    version="1.1",
    summary="Intervals of similar layers, the evidence that each is a block, and a verdict per model.",
    dims={"block": 0, "model": 1},
    coords=(Variable("model", ("model",), "str", "model"),),
    variables=(
        Variable("verdict", ("model",), "str", "what was found", values=VERDICTS),
        Variable("evaluated_layers", ("model",), "int", "layers that were searched", "1", 0),
        Variable(
            "evaluated_kind", ("model",), "str", "kind of layers that were searched", values=("block", "act", "all")
        ),
        Variable("block_model", _BLOCK, "str", "model"),
        Variable("first_layer", _BLOCK, "str", "first layer"),
        Variable("last_layer", _BLOCK, "str", "last layer"),
        Variable("first_depth", _BLOCK, "int", "topological position of the first layer", minimum=0),
        Variable("last_depth", _BLOCK, "int", "topological position of the last layer", minimum=0),
        Variable("layer_count", _BLOCK, "int", "layers of the block", "1", 1),
        *_measured("score", "share of all layers that lie in the block", 0, 1),
        *_measured("similarity", "mean similarity between layers inside", None, None),
        *_measured("contrast", "mean similarity inside less that between inside and outside", None, None),
        Variable(
            "pc_support",
            _BLOCK,
            "float",
            "mean variance share of the first principal component inside",
            "1",
            0,
            1,
            nullable=True,
        ),
        *_ends("pc_support", "mean variance share of the first principal component inside", 0, 1, required=False),
        Variable(
            "pc_support_outside",
            _BLOCK,
            "float",
            "mean variance share of the first principal component outside",
            "1",
            0,
            1,
            nullable=True,
        ),
        Variable(
            "pc_alignment",
            _BLOCK,
            "float",
            "mean squared cosine between first principal components inside",
            "1",
            0,
            1,
            nullable=True,
        ),
        Variable(
            "removal_effect",
            _BLOCK,
            "float",
            "score less the score left without the first principal component",
            "1",
            -1,
            1,
            nullable=True,
        ),
        *_ends(
            "removal_effect", "score less the score left without the first principal component", -1, 1, required=False
        ),
        # Not required: 1.0 judged by removal_effect what 1.1 judges by the contrast that is left.
        Variable(
            "similarity_without_pc1",
            _BLOCK,
            "float",
            "mean similarity between layers inside, without the first principal component",
            "1",
            required=False,
            nullable=True,
        ),
        Variable("contrast_without_pc1", _BLOCK, "float", _WITHOUT, "1", required=False, nullable=True),
        *_ends("contrast_without_pc1", _WITHOUT, None, None, required=False),
        Variable(
            "supported",
            _BLOCK,
            "bool",
            "whether the first principal component's share of variance is raised inside, against outside",
        ),
        Variable(
            "dissolved",
            _BLOCK,
            "bool",
            "whether removing the first principal component leaves little of the contrast, for certain",
        ),
        Variable("is_block", _BLOCK, "bool", "whether it is a block"),
    ),
    attributes=(
        Attribute("measure", "str", "name of the similarity, such as 'linear CKA'", required=False),
        Attribute("thresholds", "json", "thresholds of the detector"),
        Attribute("sample_count", "int", "samples used"),
        Attribute("batch_size", "int", "samples per batch"),
        Attribute("passes", "int", "passes over the samples"),
        Attribute(
            "confidence",
            "float",
            "confidence of the bootstrap intervals, between 0 and 1; 0.95 where unsaid",
            required=False,
        ),
    ),
    checks=(layers_in_order, intervals_hold_values, blocks_have_both_signatures, verdicts_follow),
    references=("https://arxiv.org/abs/2010.15327", "https://arxiv.org/abs/2202.07184"),
)
