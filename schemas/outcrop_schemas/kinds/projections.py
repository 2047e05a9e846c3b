"""``projections``: where every sample lies on the first principal component of every layer."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds.layers import layer_coordinates
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr


def centred(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Projections sum to zero over the samples, to 1e-4 of their size; a layer has all of them or none."""
    import numpy as np

    values = dataset["projection"].values.astype(np.float64)
    missing = np.isnan(values)
    partly = int((missing.any(axis=1) & ~missing.all(axis=1)).sum())
    if partly:
        yield Problem("data_vars/projection", "a value for every sample of a layer, or for none", f"{partly} with some")
    known = np.where(missing, 0.0, values)
    wrong = int((np.abs(known.sum(axis=1)) > 1e-4 * np.abs(known).sum(axis=1)).sum())
    if wrong:
        yield Problem("data_vars/projection", "a mean of 0 over the samples of a layer", f"{wrong} layers with another")


def no_longer_than_the_norm(dataset: "xr.Dataset") -> Iterator[Problem]:
    """No projection is longer than the mean-free features, to 1e-3."""
    import numpy as np

    if "norm" in dataset:
        with np.errstate(invalid="ignore"):
            wrong = int((np.abs(dataset["projection"].values) > 1.001 * dataset["norm"].values + 1e-9).sum())
        if wrong:
            yield Problem("data_vars/norm", "at least the size of the projection", f"{wrong} that are less")


PROJECTIONS = Kind(
    name="projections",
    version="1.0",
    summary="Where every sample lies on the first principal component of every layer.",
    dims={"layer": 1, "sample": 1},
    coords=(
        *layer_coordinates(),
        Variable("sample", ("sample",), "int", "position of the sample in the data", minimum=0),
    ),
    variables=(
        Variable(
            "projection",
            ("layer", "sample"),
            "float",
            "projection of the mean-free features on the first principal component",
            nullable=True,
            attributes=(
                Attribute("scope", "str", "samples that a component is of: 'batch', or 'all'", required=False),
                Attribute("sign", "str", "what fixes the sign, which is arbitrary", required=False),
            ),
            references=("https://arxiv.org/abs/2202.07184",),
        ),
        Variable(
            "norm",
            ("layer", "sample"),
            "float",
            "length of the mean-free features",
            minimum=0,
            required=False,
            nullable=True,
            references=("https://arxiv.org/abs/2202.07184",),
        ),
        # Of a component that iteration has found: how far it is from being one.
        Variable(
            "residual",
            ("layer",),
            "float",
            "what the component leaves of its defining equation, as a share of the variance it holds",
            "1",
            0,
            required=False,
            nullable=True,
        ),
    ),
    checks=(centred, no_longer_than_the_norm),
    references=("https://arxiv.org/abs/2202.07184",),
)
