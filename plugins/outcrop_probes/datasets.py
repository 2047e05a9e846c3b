"""The results of the ``probes`` analysis as labelled datasets."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from outcrop_probes.response import RealSamples, Response
from outcrop_probes.samples import SampleForm, StimulusData
from outcrop_probes.shown import Shown
from outcrop_probes.surface import CHANNELS, peaks
from outcrop_probes.verdict import Judgement, judgement_text

if TYPE_CHECKING:
    from outcrop import Context

THUMBNAIL = 32
"""Side of the pictures that are kept of stimuli."""

_BOTH = ("layer", "stimulus")
_NO_COLOUR = (np.nan, np.nan, np.nan)


def response_dataset(
    context: "Context",
    real: RealSamples,
    shown: Sequence[Shown],
    response: Response,
    form: SampleForm,
    dominant: Mapping[str, int],
    carries: NDArray[np.bool_],
    lacks: NDArray[np.bool_],
) -> xr.Dataset:
    """Return how every layer responds to every stimulus, of kind ``probe_response``.

    Args:
        context: Of the run.
        real: What layers do with real samples.
        shown: The stimuli.
        response: To these.
        form: Of the data's samples.
        dominant: Position of the most dominant sample, by model.
        carries: (model, stimulus), whether a stimulus has what the dominant samples of each of these models share.
        lacks: (model, stimulus), whether it has no more of that than other samples mostly have.
    """
    colours = np.array([one.stimulus.colour or _NO_COLOUR for one in shown], dtype=np.float64)
    levels = [np.nan if one.stimulus.level is None else one.stimulus.level for one in shown]
    families = [one.family for one in shown]
    variables: dict[str, Any] = {
        name: (_BOTH, getattr(response, name))
        for name in (
            "norm",
            "norm_percentile",
            "norm_ratio",
            "projection",
            "projection_percentile",
            "cosine",
            "norm_without_pc1",
        )
    }
    variables |= {
        "median_norm": ("layer", _finite(np.median(real.norms, axis=1))),
        "dominant_norm": ("layer", _of_dominant(real, real.norms, dominant)),
        "dominant_projection": ("layer", _of_dominant(real, real.projections, dominant)),
        "degenerate": ("layer", real.degenerate),
        "carries": (("subject", "stimulus"), carries),
        "lacks": (("subject", "stimulus"), lacks),
    }
    if form.takes == "image":
        for channel, values in zip(CHANNELS, peaks(colours, families, response.projection).T, strict=True):
            variables[f"peak_{channel}"] = ("layer", values)
        data = StimulusData([one.stimulus for one in shown], form)
        pictures = [data.thumbnail(index, THUMBNAIL) for index in range(len(shown))]
        variables["thumbnail"] = (
            ("stimulus", "y", "x", "channel"),
            np.stack([one for one in pictures if one is not None]),
        )
    coords: dict[str, Any] = {
        **{name: (dims, _named(values)) for name, (dims, values) in context.layer_coordinates().items()},
        "stimulus": ("stimulus", _text(one.name for one in shown)),
        "family": ("stimulus", _text(families)),
        "made_for": ("stimulus", _text(one.made_for for one in shown)),
        "keeps_content": ("stimulus", np.array([one.keeps_content for one in shown])),
        **{channel: ("stimulus", values) for channel, values in zip(CHANNELS, colours.T, strict=True)},
        "level": ("stimulus", np.array(levels, dtype=np.float64)),
        "subject": ("subject", _text(dominant)),
    }
    return xr.Dataset(variables, coords, {"kind": "probe_response", "kind_version": "1.0"})


def verdict_dataset(judgements: Sequence[Judgement]) -> xr.Dataset:
    """Return what the stimuli say on every model, of kind ``probe_verdict``."""
    variables: dict[str, Any] = {
        "block_model": _text(one.reference.model for one in judgements),
        "first_layer": _text(one.reference.layers[0] for one in judgements),
        "last_layer": _text(one.reference.layers[-1] for one in judgements),
        "reference_layer": _text(one.reference.layer for one in judgements),
        "is_block": np.array([one.reference.is_block for one in judgements]),
        "evidence": _text(one.reference.evidence for one in judgements),
        "verdict": _text(one.verdict for one in judgements),
        "text": _text(judgement_text(one) for one in judgements),
        "excited": np.array([one.answer == "excited" for one in judgements]),
        "shared": _text("" if one.shared is None else one.shared.text for one in judgements),
        "shared_auroc": _numbers(np.nan if one.shared is None else one.shared.auroc for one in judgements),
        "shared_p_value": _numbers(np.nan if one.shared is None else one.shared.p_value for one in judgements),
        **_comparison(judgements),
        "dominant_sample": np.array([one.dominant_sample for one in judgements], dtype=np.int64),
        "dominant_norm_ratio": np.array([one.dominant_norm_ratio for one in judgements]),
        "statistic_level": np.array([one.statistic.level for one in judgements]),
        "colour_distance": np.array([one.colour_distance for one in judgements]),
        "colour_at_edge": np.array([one.colour_at_edge for one in judgements]),
        "statistic_at_edge": np.array([one.statistic_at_edge for one in judgements]),
        "evaluations": np.array([one.evaluations for one in judgements], dtype=np.int64),
    }
    for prefix in ("carrying", "control", "strongest", "own", "colour", "statistic"):
        found = [getattr(one, prefix) for one in judgements]
        variables[prefix] = _text(one.name for one in found)
        variables[f"{prefix}_excitation"] = np.array([one.excitation for one in found])
        variables[f"{prefix}_norm_ratio"] = np.array([one.norm_ratio for one in found])
        variables[f"{prefix}_percentile"] = np.array([one.percentile for one in found])
        if prefix in ("own", "colour"):
            for place, channel in enumerate(CHANNELS):
                variables[f"{prefix}_{channel}"] = np.array([one.colour[place] for one in found])
    return xr.Dataset(
        {name: ("block", values) for name, values in variables.items()},
        attrs={"kind": "probe_verdict", "kind_version": "1.0"},
    )


def _comparison(judgements: Sequence[Judgement]) -> dict[str, NDArray[Any]]:
    found = [one.comparison for one in judgements]
    return {
        "carrying_count": np.array([one.carrying_count for one in found], dtype=np.int64),
        "control_count": np.array([one.control_count for one in found], dtype=np.int64),
        "compared_count": np.array([one.count for one in found], dtype=np.int64),
        "reaching_count": np.array([one.reaching for one in found], dtype=np.int64),
        "control_reaching_count": np.array([one.control_reaching for one in found], dtype=np.int64),
        "carrying_reach": _numbers(one.carrying_reach for one in found),
        "carrying_median": _numbers(one.carrying_median for one in found),
        "carrying_expected": _numbers(one.carrying for one in found),
        "control_expected": _numbers(one.control for one in found),
        "real_expected": _numbers(one.real for one in found),
        "carrying_layer_share": _numbers(one.layer_share for one in judgements),
    }


def _of_dominant(real: RealSamples, values: NDArray[np.float64], dominant: Mapping[str, int]) -> NDArray[np.float64]:
    """Return a value (layer, sample) of the most dominant sample of each layer's model; NaN where there is none."""
    found = [
        row[dominant[model]] if model in dominant else np.nan
        for (model, _), row in zip(real.layers, values, strict=True)
    ]
    return _finite(np.array(found))


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values), values, np.nan)


def _named(values: list[Any]) -> NDArray[Any]:
    return _text(values) if isinstance(values[0], str) else np.array(values, dtype=np.int64)


def _numbers(values: Iterable[float]) -> NDArray[np.float64]:
    return np.array(list(values), dtype=np.float64)


def _text(values: Iterable[str]) -> NDArray[Any]:
    return np.array(list(values), dtype=np.dtypes.StringDType())
