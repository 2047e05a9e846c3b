"""``probe_response``: how every layer responds to synthetic stimuli, beside the real samples."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds.layers import layer_coordinates
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr

_BOTH = ("layer", "stimulus")
_LAYER = ("layer",)
_STIMULUS = ("stimulus",)


def names_differ(dataset: "xr.Dataset") -> Iterator[Problem]:
    """No two stimuli have one name."""
    names = dataset["stimulus"].values.tolist()
    twice = len(names) - len(set(names))
    if twice:
        yield Problem("coords/stimulus", "names that differ", f"{twice} that others have")


def colours_are_whole(dataset: "xr.Dataset") -> Iterator[Problem]:
    """A stimulus has all channels of a colour or none."""
    import numpy as np

    missing = np.stack([np.isnan(dataset[name].values) for name in ("red", "green", "blue")])
    partly = int((missing.any(axis=0) & ~missing.all(axis=0)).sum())
    if partly:
        yield Problem("coords/red", "red, green and blue of a stimulus, or none of them", f"{partly} with some")


def _colour(name: str, dims: tuple[str, ...], long_name: str, *, required: bool = True) -> Variable:
    return Variable(name, dims, "float", long_name, "1", 0, 1, required=required, nullable=True)


def _response(
    name: str, long_name: str, units: str | None = None, minimum: float | None = None, maximum: float | None = None
) -> Variable:
    return Variable(
        name,
        _BOTH,
        "float",
        long_name,
        units,
        minimum,
        maximum,
        nullable=True,
        references=("https://arxiv.org/abs/2202.07184",),
    )


PROBE_RESPONSE = Kind(
    name="probe_response",
    version="1.0",
    summary="How every layer responds to synthetic stimuli, beside the real samples.",
    dims={"layer": 1, "stimulus": 1, "subject": 0, "y": 1, "x": 1, "channel": 1},
    coords=(
        *layer_coordinates(),
        Variable("stimulus", _STIMULUS, "str", "stimulus"),
        Variable("family", _STIMULUS, "str", "family of stimuli"),
        Variable("made_for", _STIMULUS, "str", "model whose samples it was made of; empty where it is for all"),
        Variable("keeps_content", _STIMULUS, "bool", "whether it still shows a dominant sample"),
        _colour("red", _STIMULUS, "red of the colour that the stimulus stands for"),
        _colour("green", _STIMULUS, "green of the colour that the stimulus stands for"),
        _colour("blue", _STIMULUS, "blue of the colour that the stimulus stands for"),
        _colour("level", _STIMULUS, "level in a family of one parameter"),
        Variable("subject", ("subject",), "str", "model that is judged", required=False),
    ),
    variables=(
        _response("norm", "length of the features", None, 0),
        _response("norm_percentile", "real samples of a smaller norm", "percent", 0, 100),
        _response("norm_ratio", "norm over the median norm of real samples", "1", 0),
        _response("projection", "projection on the first principal component of the real samples"),
        _response("projection_percentile", "real samples nearer to the mean on that component", "percent", 0, 100),
        _response("cosine", "cosine to the mean direction of the dominant samples", "1", -1, 1),
        _response("norm_without_pc1", "length of the mean-free features without that component", None, 0),
        Variable("median_norm", _LAYER, "float", "median norm of real samples", minimum=0, nullable=True),
        Variable("dominant_norm", _LAYER, "float", "norm of the most dominant sample", minimum=0, nullable=True),
        Variable("dominant_projection", _LAYER, "float", "projection of the most dominant sample", nullable=True),
        Variable("degenerate", _LAYER, "bool", "whether the layer has no first principal component"),
        _colour("peak_red", _LAYER, "red of the solid image that lies farthest on the first component", required=False),
        _colour(
            "peak_green", _LAYER, "green of the solid image that lies farthest on the first component", required=False
        ),
        _colour(
            "peak_blue", _LAYER, "blue of the solid image that lies farthest on the first component", required=False
        ),
        Variable(
            "carries",
            ("subject", "stimulus"),
            "bool",
            "whether it has the statistic that the dominant samples of a model share",
            required=False,
        ),
        Variable(
            "lacks",
            ("subject", "stimulus"),
            "bool",
            "whether it has no more of that than samples that are not dominant mostly have",
            required=False,
        ),
        Variable("thumbnail", ("stimulus", "y", "x", "channel"), "int", "picture", None, 0, 255, required=False),
    ),
    attributes=(
        Attribute("sample_count", "int", "real samples"),
        Attribute("top_fraction", "float", "share of samples that count as dominant"),
    ),
    checks=(names_differ, colours_are_whole),
    references=("https://arxiv.org/abs/2202.07184",),
)
