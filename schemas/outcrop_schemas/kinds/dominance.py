"""``dominance``: which samples dominate the first principal component of every layer, and how they stand out."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds.layers import layer_coordinates
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr

RULES = ("mixture", "top fraction", "none")
_LAYER = ("layer",)
_EACH = ("layer", "sample")
_PAPER = ("https://arxiv.org/abs/2202.07184",)


def counts_agree(dataset: "xr.Dataset") -> Iterator[Problem]:
    """A layer's count is that of its dominant samples; it is 0 exactly where the rule is 'none'."""
    counted = dataset["dominant"].values.sum(axis=1)
    given = dataset["dominant_count"].values
    wrong = int((counted != given).sum())
    if wrong:
        yield Problem("data_vars/dominant_count", "the number of dominant samples", f"another in {wrong} layers")
    contrary = int(((dataset["rule"].values == "none") != (given == 0)).sum())
    if contrary:
        yield Problem("data_vars/rule", "'none' exactly where no sample is dominant", f"otherwise in {contrary} layers")


DOMINANCE = Kind(
    name="dominance",
    version="1.0",
    summary="Which samples dominate the first principal component of every layer, and how they stand out.",
    dims={"layer": 1, "sample": 1},
    coords=(
        *layer_coordinates(),
        Variable("sample", ("sample",), "int", "position of the sample in the data", minimum=0),
    ),
    variables=(
        Variable("dominant", _EACH, "bool", "whether the sample dominates the layer", references=_PAPER),
        Variable("norm", _EACH, "float", "length of the activations", minimum=0, nullable=True, references=_PAPER),
        Variable(
            "projection",
            _EACH,
            "float",
            "projection of the mean-free features on the first principal component",
            nullable=True,
            references=_PAPER,
        ),
        Variable("dominant_count", _LAYER, "int", "samples that dominate the layer", "1", 0),
        Variable("threshold", _LAYER, "float", "least |projection| of a dominant sample", minimum=0, nullable=True),
        Variable(
            "rule",
            _LAYER,
            "str",
            "how dominant samples were told: by the two modes of |projection|, as the largest, or not",
            values=RULES,
        ),
        Variable(
            "bic_gain",
            _LAYER,
            "float",
            "BIC of one mode less that of two, on log |projection|",
            nullable=True,
            references=("https://doi.org/10.1080/01621459.1995.10476572",),
        ),
        Variable(
            "ashman_d",
            _LAYER,
            "float",
            "distance of the two modes by their spread (Ashman's D)",
            "1",
            nullable=True,
            references=("https://doi.org/10.1086/117248",),
        ),
        Variable(
            "rise_p_value",
            _LAYER,
            "float",
            "chance that |projection| of one mode looks as if there were a second one",
            "1",
            0,
            1,
            required=False,
            nullable=True,
            references=("https://doi.org/10.1214/aoms/1177729550",),
        ),
        Variable(
            "effective_samples",
            _LAYER,
            "float",
            "effective number of samples that carry the first principal component",
            "1",
            1,
            nullable=True,
            references=_PAPER,
        ),
        Variable(
            "norm_correlation",
            _LAYER,
            "float",
            "Spearman's correlation of |projection| and norm",
            "1",
            -1,
            1,
            nullable=True,
            references=_PAPER,
        ),
        Variable("median_norm", _LAYER, "float", "median norm of all samples", minimum=0, nullable=True),
        Variable(
            "dominant_norm_ratio",
            _LAYER,
            "float",
            "median norm of dominant samples over that of all",
            "1",
            0,
            nullable=True,
        ),
        Variable(
            "cosine_inside",
            _LAYER,
            "float",
            "mean cosine between mean-free features of two dominant samples",
            "1",
            -1,
            1,
            nullable=True,
            references=_PAPER,
        ),
        Variable(
            "cosine_outside",
            _LAYER,
            "float",
            "mean cosine between mean-free features of two other samples",
            "1",
            -1,
            1,
            nullable=True,
        ),
        Variable(
            "degenerate",
            _LAYER,
            "bool",
            "whether the layer is left out: it tells no samples apart, or holds values that are not finite",
        ),
    ),
    attributes=(
        Attribute("sample_count", "int", "samples used"),
        Attribute("top_fraction", "float", "share of the samples taken where the sizes do not have two modes"),
    ),
    checks=(counts_agree,),
    references=_PAPER,
)
