"""``trajectory``: how layers, and their similarity to one another, change over the steps of a training."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds.layers import layer_coordinates
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr

_LAYER = ("step", "layer")
_PAIR = ("step", "layer_a", "layer_b")


def steps_increase(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Every step is greater than the one before it."""
    steps = dataset["step"].values
    wrong = int((steps[1:] <= steps[:-1]).sum())
    if wrong:
        yield Problem("coords/step", "steps that increase", f"{wrong} that do not")


def one_list_of_layers(dataset: "xr.Dataset") -> Iterator[Problem]:
    """All dimensions of layers run over the same layers in the same order."""
    for name in ("model", "name", "depth", "layer_kind"):
        for suffix in ("_a", "_b"):
            if dataset[f"{name}{suffix}"].values.tolist() != dataset[name].values.tolist():
                yield Problem(f"coords/{name}{suffix}", f"the same values as {name}", "other values")


def symmetric_at_every_step(dataset: "xr.Dataset") -> Iterator[Problem]:
    """The similarity is symmetric to 1e-9 at every step, NaN included."""
    import numpy as np

    values = dataset["similarity"].values
    turned = values.transpose(0, 2, 1)
    if values.shape != turned.shape:
        yield Problem("data_vars/similarity", "as many layers one way as the other", f"shape {values.shape}")
    elif not np.allclose(values, turned, rtol=0, atol=1e-9, equal_nan=True):
        wrong = [not np.allclose(a, b, rtol=0, atol=1e-9, equal_nan=True) for a, b in zip(values, turned, strict=True)]
        yield Problem("data_vars/similarity", "a symmetric matrix at every step", f"{sum(wrong)} that are not")


def last_to_last_is_within(dataset: "xr.Dataset") -> Iterator[Problem]:
    """At the last step, the similarity to the last step is the similarity, to 1e-9."""
    import numpy as np

    if "similarity_to_last" not in dataset:
        return
    last, within = dataset["similarity_to_last"].values[-1], dataset["similarity"].values[-1]
    if last.shape != within.shape or not np.allclose(last, within, rtol=0, atol=1e-9, equal_nan=True):
        yield Problem("data_vars/similarity_to_last", "the similarity itself at the last step", "another map")


TRAJECTORY = Kind(
    name="trajectory",
    version="1.1",
    summary="Similarity of layers and the first principal component's share, over the steps of a training.",
    dims={"step": 1, "layer": 1, "layer_a": 1, "layer_b": 1},
    coords=(
        Variable("step", ("step",), "int", "training step", minimum=0),
        Variable("checkpoint", ("step",), "str", "model that was loaded for the step", required=False),
        *layer_coordinates(),
        *layer_coordinates("layer_a", "_a"),
        *layer_coordinates("layer_b", "_b"),
    ),
    variables=(
        Variable(
            "similarity",
            _PAIR,
            "float",
            "similarity",
            "1",
            nullable=True,
            attributes=(Attribute("measure", "str", "name of the measure, such as 'linear CKA'"),),
            references=("https://arxiv.org/abs/2010.15327",),
        ),
        Variable(
            "pc_share",
            _LAYER,
            "float",
            "share of variance of the first principal component",
            "1",
            0,
            1,
            nullable=True,
            attributes=(
                Attribute("scope", "str", "samples that a component is of: 'batch', or 'all'", required=False),
            ),
            references=("https://arxiv.org/abs/2010.15327",),
        ),
        Variable(
            "similarity_to_first",
            _LAYER,
            "float",
            "similarity of a layer to itself at the first step",
            "1",
            required=False,
            nullable=True,
        ),
        Variable(
            "similarity_to_previous",
            _LAYER,
            "float",
            "similarity of a layer to itself at the step before",
            "1",
            required=False,
            nullable=True,
        ),
        Variable(
            "similarity_to_last",
            _PAIR,
            "float",
            "similarity of layer_a at the step to layer_b at the last step",
            "1",
            required=False,
            nullable=True,
            references=("https://arxiv.org/abs/2202.07184",),
        ),
        Variable(
            "standard_error",
            _PAIR,
            "float",
            "standard error of the similarity",
            "1",
            0,
            required=False,
            nullable=True,
        ),
        Variable(
            "standard_error_to_last",
            _PAIR,
            "float",
            "standard error of the similarity to the last step",
            "1",
            0,
            required=False,
            nullable=True,
        ),
        Variable(
            "degenerate",
            _LAYER,
            "bool",
            "whether the layer is left out: it tells no samples apart, or holds values that are not finite",
            required=False,
        ),
        Variable("non_finite_count", _LAYER, "int", "values that are NaN or infinite", "1", 0, required=False),
    ),
    attributes=(
        Attribute("sample_count", "int", "samples used"),
        Attribute("batch_size", "int", "samples per batch"),
        Attribute(
            "mode", "str", "'evaluation', 'training', or 'batch': evaluation with batch norm's statistics of the batch"
        ),
    ),
    checks=(steps_increase, one_list_of_layers, symmetric_at_every_step, last_to_last_is_within),
    references=("https://arxiv.org/abs/2010.15327",),
)
