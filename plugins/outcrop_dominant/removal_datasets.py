"""The removal test as labelled datasets, and its verdicts in words."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from outcrop.numerics import DEFAULT_THRESHOLDS
from outcrop_dominant.removal import ModelRemoval, Removal
from outcrop_dominant.removal_evidence import MEASURED

MEASURE = "minibatch unbiased linear CKA"

MAPPED = (0.0, 0.01, 0.1)
"""Fractions of which maps are kept, where they were asked for: those of arXiv 2202.07184, figure 4."""

_EACH = ("block", "selection", "fraction")
_SELECTIONS = ("dominant", "random", "input_norm")


def removal_dataset(removal: Removal) -> xr.Dataset:
    """Return what becomes of each block, of kind ``removal``."""
    models, selections = removal.models, _selections(removal)
    references = [one.reference for one in models]
    is_block = _over_draws(removal, lambda one: one.evidence.is_block, np.all).astype(bool)
    fates = [_fate(removal, found) for found in is_block]
    variables: dict[str, Any] = {
        "block_model": ("block", _text(one.model for one in references)),
        "first_layer": ("block", _text(one.layers[0] for one in references)),
        "last_layer": ("block", _text(one.layers[-1] for one in references)),
        "layer_count": ("block", np.array([len(one.layers) for one in references], dtype=np.int64)),
        "reference_layer": ("block", _text(one.layer for one in references)),
        "was_block": ("block", np.array([one.is_block for one in references], dtype=np.bool_)),
        "dissolving_fraction": ("block", np.array([fraction for fraction, _ in fates], dtype=np.float64)),
        "controls_keep_block": ("block", np.array([kept for _, kept in fates], dtype=np.bool_)),
        "kept_count": (_EACH, _over_draws(removal, lambda one: one.statistics.kept_count, np.min).astype(np.int64)),
        "is_block": (_EACH, is_block),
        "block_share": (_EACH, _over_draws(removal, lambda one: one.evidence.is_block, np.mean)),
    }
    for name in (*MEASURED, "score"):
        variables[name] = (_EACH, _over_draws(removal, lambda one, name=name: one.evidence.measures[name], np.mean))
        variables[f"{name}_spread"] = (
            _EACH,
            _over_draws(removal, lambda one, name=name: one.evidence.measures[name], _spread),
        )
    for name in MEASURED:
        variables[f"{name}_error"] = (
            _EACH,
            _over_draws(removal, lambda one, name=name: one.evidence.errors[name], np.mean),
        )
    dataset = xr.Dataset(variables, _axes(removal, selections), {"kind": "removal", "kind_version": "1.0"})
    verdicts = [_verdict(one, dataset.isel(block=place), removal) for place, one in enumerate(models)]
    unranked = "a half of the samples tells nothing apart at the reference layer, so that the other cannot be ranked"
    left_out = {"not_tested": f"{', '.join(removal.not_tested)}: {unranked}"} if removal.not_tested else {}
    ranking = "mean rank over the layers of the interval" if removal.pooled else "|projection| at the reference layer"
    return dataset.assign(verdict=("block", _text(verdicts))).assign_attrs(
        measure=MEASURE,
        ranking=f"{ranking}, on the first principal components of the other half of the samples",
        input_norm=removal.input_norm,
        thresholds=json.dumps(asdict(DEFAULT_THRESHOLDS)),
        sample_count=removal.sample_count,
        batch_size=removal.batch_size,
        random_replicates=removal.replicates,
        error="jackknife over groups of batches; of random samples the mean over draws",
        **left_out,
    )


def removal_layers_dataset(removal: Removal) -> xr.Dataset:
    """Return the share of variance of the first component in every searched layer, of kind ``removal_layers``."""
    selections = _selections(removal)
    shares = [
        np.stack([one.statistics.pc_share[one.draws[selection]].mean(axis=0) for selection in selections])
        for one in removal.models
    ]
    size = (len(selections), len(removal.fractions), 0)
    together = np.concatenate([*shares, np.zeros(size)], axis=2).transpose(2, 0, 1)
    coords = {**_layer_coordinates(removal, "layer", ""), **_axes(removal, selections)}
    return xr.Dataset(
        {"pc_share": (("layer", "selection", "fraction"), together, {"scope": "batch"})},
        coords,
        {"kind": "removal_layers", "kind_version": "1.0"},
    )


def removal_maps_dataset(removal: Removal) -> xr.Dataset:
    """Return the maps of each model without 0, 1 and 10 % of its dominant samples, of kind ``removal_maps``."""
    chosen = [place for place, fraction in enumerate(removal.fractions) if fraction in MAPPED]
    layers = sum(len(one.statistics.layers) for one in removal.models)
    maps = np.full((len(chosen), layers, layers), np.nan)
    start = 0
    for one in removal.models:
        stop = start + len(one.statistics.layers)
        maps[:, start:stop, start:stop] = one.statistics.similarity[one.draws["dominant"][0, chosen]]
        start = stop
    coords = {
        "fraction": np.array(removal.fractions)[chosen],
        **_layer_coordinates(removal, "layer_a", "_a"),
        **_layer_coordinates(removal, "layer_b", "_b"),
    }
    return xr.Dataset(
        {"similarity": (("fraction", "layer_a", "layer_b"), maps, {"measure": MEASURE})},
        coords,
        {"kind": "removal_maps", "kind_version": "1.0"},
    )


def _fate(removal: Removal, is_block: NDArray[np.bool_]) -> tuple[float, bool]:
    """Return the fraction from which on no block is found, and whether controls keep it so far.

    Where nothing dissolves it, controls are asked at all fractions.
    """
    own = is_block[0]
    last = int(np.flatnonzero(own)[-1]) if own.any() else -1
    gone = bool(own[0]) and last + 1 < len(own)
    asked = is_block[1:, : last + 2 if gone else None]
    return (removal.fractions[last + 1] if gone else float("nan")), bool(own[0] and asked.all())


def _verdict(one: ModelRemoval, found: xr.Dataset, removal: Removal) -> str:
    """Return what was found in one model, in words."""
    own = found.sel(selection="dominant")
    largest = removal.fractions[-1]
    if not one.reference.is_block:
        return "no block to dissolve"
    if not bool(own["is_block"][0]):
        return "no block to dissolve: with all samples, these batches show none"
    if int(own["kept_count"][0]) == int(own["kept_count"][-1]):
        return f"not tested: fractions up to {largest:.3g} leave none of these samples out"
    fraction = float(found["dissolving_fraction"])
    if np.isnan(fraction):
        last = own.isel(fraction=-1)
        return (
            f"no removal up to {largest:.3g} of the samples dissolves it: similarity {float(own['similarity'][0]):.3f} "
            f"becomes {float(last['similarity']):.3f}, contrast {float(own['contrast'][0]):.3f} becomes "
            f"{float(last['contrast']):.3f}"
        )
    there = own.sel(fraction=fraction)
    start = (
        f"dissolved without {fraction:.3g} of the samples: similarity {float(own['similarity'][0]):.3f} becomes "
        f"{float(there['similarity']):.3f}, contrast {float(own['contrast'][0]):.3f} becomes "
        f"{float(there['contrast']):.3f}"
    )
    if bool(found["controls_keep_block"]):
        return f"{start}; without as many others it stays"
    lost = [
        name
        for name in found["selection"].values.tolist()
        if name != "dominant" and not found["is_block"].sel(selection=name, fraction=slice(0, fraction)).all()
    ]
    words = {"random": "random ones", "input_norm": "those of the longest inputs"}
    return f"{start}; without as many {' or '.join(words[name] for name in lost)} it does not stay either"


def _selections(removal: Removal) -> list[str]:
    known = removal.models[0].draws if removal.models else {"dominant": None, "random": None}
    return [name for name in _SELECTIONS if name in known]


def _axes(removal: Removal, selections: Sequence[str]) -> dict[str, Any]:
    return {"selection": ("selection", _text(selections)), "fraction": np.array(removal.fractions)}


def _over_draws(removal: Removal, values: Any, reduce: Any) -> NDArray[Any]:
    """Return (block, selection, fraction): what is made of the draws of each selection."""
    selections = _selections(removal)
    found = [[reduce(values(one)[one.draws[selection]], axis=0) for selection in selections] for one in removal.models]
    return np.array(found).reshape(len(removal.models), len(selections), len(removal.fractions))


def _spread(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return the standard deviation over draws; NaN of a single one."""
    if values.shape[axis] < 2:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(values.std(axis=axis, ddof=1))


def _layer_coordinates(removal: Removal, dim: str, suffix: str) -> dict[str, Any]:
    layers = [(one.reference.model, layer) for one in removal.models for layer in one.statistics.layers]
    return {
        f"model{suffix}": (dim, _text(model for model, _ in layers)),
        f"name{suffix}": (dim, _text(layer.name for _, layer in layers)),
        f"depth{suffix}": (dim, np.array([layer.index for _, layer in layers], dtype=np.int64)),
        f"layer_kind{suffix}": (dim, _text(layer.kind for _, layer in layers)),
    }


def _text(values: Iterable[str]) -> NDArray[Any]:
    return np.array(list(values), dtype=np.dtypes.StringDType())
