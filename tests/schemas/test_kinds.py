"""Every kind of result: valid examples pass, each single fault is named with its path, what was expected and found."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from outcrop_schemas import KINDS, SchemaError, find_problems


def pairwise(layers: int = 3) -> xr.Dataset:
    features = np.random.default_rng(0).normal(size=(layers, 8))
    similarity = np.atleast_2d(np.corrcoef(features))
    similarity = (similarity + similarity.T) / 2
    coords = {}
    for dim, suffix in (("layer_a", "_a"), ("layer_b", "_b")):
        coords |= {
            f"model{suffix}": (dim, np.array(["net"] * layers, dtype=object)),
            f"name{suffix}": (dim, np.array([f"layer{index}.conv" for index in range(layers)])),
            f"depth{suffix}": (dim, np.arange(layers)),
            f"layer_kind{suffix}": (dim, np.array(["conv"] * layers, dtype=np.dtypes.StringDType())),
        }
    dataset = xr.Dataset({"similarity": (("layer_a", "layer_b"), similarity, {"measure": "correlation"})}, coords)
    return KINDS["pairwise"].annotate(dataset)


def per_layer(layers: int = 3) -> xr.Dataset:
    dataset = xr.Dataset(
        {
            "pc_share": ("layer", np.linspace(0.1, 1, layers)),
            "degenerate": ("layer", np.zeros(layers, bool)),
            "non_finite_count": ("layer", np.zeros(layers, np.int64)),
            "feature_count": ("layer", np.full(layers, 8)),
        },
        {
            "model": ("layer", ["net"] * layers),
            "name": ("layer", [f"layer{index}" for index in range(layers)]),
            "depth": ("layer", np.arange(layers)),
            "layer_kind": ("layer", ["block"] * layers),
        },
    )
    return KINDS["per_layer"].annotate(dataset)


def blocks(count: int = 1) -> xr.Dataset:
    numbers = {
        "first_depth": 3, "last_depth": 9, "layer_count": 5,
        "score": 0.5, "score_low": 0.4, "score_high": 0.6,
        "similarity": 0.95, "similarity_low": 0.94, "similarity_high": np.nan,
        "contrast": np.nan, "contrast_low": np.nan, "contrast_high": np.nan,
        "pc_support": 0.7, "pc_support_outside": np.nan, "pc_alignment": 0.9, "removal_effect": 0.5,
        "supported": True, "dissolved": True, "is_block": True,
    }  # fmt: skip
    texts = {"block_model": "net", "first_layer": "layer1.0", "last_layer": "layer2.4"}
    dataset = xr.Dataset(
        {
            "verdict": ("model", ["block" if count else "no block"]),
            "evaluated_layers": ("model", [10]),
            "evaluated_kind": ("model", ["block"]),
            **{name: ("block", np.array([value] * count, type(value))) for name, value in numbers.items()},
            **{name: ("block", np.array([value] * count, object)) for name, value in texts.items()},
        },
        {"model": ["net"]},
        {"thresholds": json.dumps({"similarity": 0.9}), "sample_count": 512, "batch_size": 64, "passes": 4},
    )
    return KINDS["blocks"].annotate(dataset)


def influence(count: int = 2, samples: int = 6) -> xr.Dataset:
    shares = np.full((count, samples), 1 / samples)
    texts = {"block_model": "net", "first_layer": "layer1", "last_layer": "layer4"}
    whole = {"first_depth": 1, "last_depth": 4, "measured_layers": 4}
    dataset = xr.Dataset(
        {
            **{name: ("block", np.array([value] * count, object)) for name, value in texts.items()},
            **{name: ("block", np.full(count, value)) for name, value in whole.items()},
            "is_block": ("block", np.ones(count, bool)),
            "similarity": ("block", np.full(count, 0.95)),
            "effective_samples": ("block", np.full(count, float(samples))),
            "share": (("block", "sample"), shares, {"scope": "batch"}),
            "change": (("block", "sample"), shares / 100, {"scope": "batch"}),
        },
        {"sample": np.arange(samples)},
        {"measure": "linear CKA", "sample_count": samples, "batch_size": samples},
    )
    return KINDS["influence"].annotate(dataset)


def trajectory(steps: int = 4, layers: int = 3) -> xr.Dataset:
    similarity = np.stack([pairwise(layers)["similarity"].values] * steps)
    coords: dict[str, object] = {"step": np.arange(steps) * 100}
    for dim, suffix in (("layer", ""), ("layer_a", "_a"), ("layer_b", "_b")):
        coords |= {
            f"model{suffix}": (dim, ["net"] * layers),
            f"name{suffix}": (dim, [f"layer{index}" for index in range(layers)]),
            f"depth{suffix}": (dim, np.arange(layers)),
            f"layer_kind{suffix}": (dim, ["block"] * layers),
        }
    share = np.linspace(0, 1, steps * layers).reshape(steps, layers)
    dataset = xr.Dataset(
        {
            "similarity": (("step", "layer_a", "layer_b"), similarity, {"measure": "correlation"}),
            "pc_share": (("step", "layer"), share),
            "similarity_to_first": (("step", "layer"), share),
            "degenerate": (("step", "layer"), share > 2),
        },
        coords,
        {"sample_count": 512, "batch_size": 64, "mode": "evaluation"},
    )
    return KINDS["trajectory"].annotate(dataset)


def projections(layers: int = 3, samples: int = 6) -> xr.Dataset:
    values = np.random.default_rng(1).normal(size=(layers, samples))
    values -= values.mean(axis=1, keepdims=True)
    values[1] = np.nan
    dataset = xr.Dataset(
        {
            "projection": (("layer", "sample"), values, {"scope": "all"}),
            "norm": (("layer", "sample"), 1 + np.abs(values)),
            "residual": ("layer", np.array([1e-6, np.nan, 1e-6])),
        },
        {
            "model": ("layer", ["net"] * layers),
            "name": ("layer", [f"layer{index}" for index in range(layers)]),
            "depth": ("layer", np.arange(layers)),
            "layer_kind": ("layer", ["block"] * layers),
            "sample": np.arange(samples),
        },
    )
    return KINDS["projections"].annotate(dataset)


def dominance(layers: int = 3, samples: int = 6) -> xr.Dataset:
    members = np.zeros((layers, samples), bool)
    members[[0, 2], :2] = True
    sizes = np.where(members, 5.0, 1.0)
    known = members.any(axis=1)
    numbers = {
        "threshold": 4.0, "bic_gain": -3.0, "ashman_d": 2.5, "effective_samples": 2.0, "norm_correlation": -0.5,
        "median_norm": 2.0, "dominant_norm_ratio": 3.0, "cosine_inside": 0.9, "cosine_outside": -0.1,
    }  # fmt: skip
    dataset = xr.Dataset(
        {
            "dominant": (("layer", "sample"), members),
            "norm": (("layer", "sample"), sizes),
            "projection": (("layer", "sample"), np.where(known[:, None], -sizes, np.nan)),
            "dominant_count": ("layer", members.sum(axis=1)),
            "rule": ("layer", ["mixture", "none", "top fraction"]),
            "degenerate": ("layer", ~known),
            **{name: ("layer", np.where(known, value, np.nan)) for name, value in numbers.items()},
        },
        {
            "model": ("layer", ["net"] * layers),
            "name": ("layer", [f"layer{index}" for index in range(layers)]),
            "depth": ("layer", np.arange(layers)),
            "layer_kind": ("layer", ["block"] * layers),
            "sample": np.arange(samples),
        },
        {"sample_count": samples, "top_fraction": 0.05},
    )
    return KINDS["dominance"].annotate(dataset)


def overlap() -> xr.Dataset:
    shared = np.array([[2, 1, 0], [1, 3, 0], [0, 0, 0]])
    values = np.array([[1, 0.25, np.nan], [0.25, 1, np.nan], [np.nan, np.nan, np.nan]])
    dims = ("layer_a", "layer_b")
    dataset = xr.Dataset(
        {
            "jaccard": (dims, values),
            "shared": (dims, shared),
            "p_value": (dims, values, {"distribution": "hypergeometric"}),
            "top_overlap": (dims, values, {"fraction": 0.05}),
        },
        pairwise().coords,
        {"sample_count": 6},
    )
    return KINDS["overlap"].annotate(dataset)


def dominance_reference(count: int = 1, samples: int = 6) -> xr.Dataset:
    texts = {
        "block_model": "net", "first_layer": "layer1", "last_layer": "layer4", "reference_layer": "layer2",
        "rule": "mixture",
    }  # fmt: skip
    dataset = xr.Dataset(
        {
            "verdict": ("model", ["block" if count else "no block"]),
            "evidence": ("model", ["block: layer1 to layer4"]),
            **{name: ("block", np.array([value] * count, object)) for name, value in texts.items()},
            "layer_count": ("block", np.full(count, 4)),
            "is_block": ("block", np.ones(count, bool)),
            "dominant_count": ("block", np.full(count, 2)),
            "rank": (("block", "sample"), np.tile(np.arange(1.0, samples + 1), (count, 1))),
            "dominant": (("block", "sample"), np.tile(np.arange(samples) < 2, (count, 1))),
        },
        {"model": ["net"], "sample": np.arange(samples)},
        {"sample_count": samples, "pooled": False},
    )
    return KINDS["dominance_reference"].annotate(dataset)


def association(count: int = 2) -> xr.Dataset:
    texts = {
        "block_model": "net", "first_layer": "layer1", "last_layer": "layer4", "reference_layer": "layer3",
        "leading_statistic": "blue", "evidence": "12 of 400 samples are dominant; they have a higher blue",
    }  # fmt: skip
    of_all = {"auroc": 0.9, "standard_error": 0.02, "null": 0.5, "null_high": 0.6, "p_value": 0.05}
    each = {
        "auroc": [0.4, 0.99, np.nan], "effect": [-0.3, 2.5, np.nan], "p_value": [0.2, 0.001, np.nan],
        "adjusted_p": [0.2, 0.002, np.nan], "familywise_p": [0.3, 0.001, np.nan], "coefficient": [-0.1, 1.5, np.nan],
        "mean_dominant": [0.4, 0.8, 0.1], "mean_rest": [0.5, 0.4, 0.1],
    }  # fmt: skip
    classes = {
        "share_dominant": [0.9, 0.1],
        "share_rest": [0.5, 0.5],
        "p_value": [0.01, 0.01],
        "adjusted_p": [0.01, 0.01],
    }
    dataset = xr.Dataset(
        {
            **{name: ("block", np.array([value] * count, object)) for name, value in texts.items()},
            **{f"logistic_{name}": ("block", np.full(count, value)) for name, value in of_all.items()},
            **{
                name: (("block", "statistic"), np.array([value] * count).reshape(count, 3))
                for name, value in each.items()
            },
            **{
                f"class_{name}": (("block", "class_name"), np.array([value] * count).reshape(count, 2))
                for name, value in classes.items()
            },
            "rank": (("block", "statistic"), np.array([[2, 1, 3]] * count, np.int64).reshape(count, 3)),
            "is_block": ("block", np.ones(count, bool)),
            "member_count": ("block", np.full(count, 12)),
        },
        {
            "statistic": ["brightness", "blue", "saturation"],
            "statistic_title": ("statistic", ["mean luma", "mean blue", "mean saturation"]),
            "statistic_units": ("statistic", ["1", "1", ""]),
            "class_name": ["cat", "dog"],
        },
        {"sample_count": 400, "permutations": 999, "logistic_permutations": 20, "folds": 5, "significance": 0.05},
    )
    return KINDS["association"].annotate(dataset)


def probe_response(layers: int = 3, stimuli: int = 4) -> xr.Dataset:
    values = np.random.default_rng(2).uniform(0.1, 0.9, (layers, stimuli))
    values[1] = np.nan
    both = ("layer", "stimulus")
    colours = np.array([[0.0, 0.5, 1.0]] * (stimuli - 1) + [[np.nan] * 3])
    channels = ("red", "green", "blue")
    dataset = xr.Dataset(
        {
            **dict.fromkeys(("norm", "norm_ratio", "projection", "cosine", "norm_without_pc1"), (both, values)),
            **dict.fromkeys(("norm_percentile", "projection_percentile"), (both, 100 * values)),
            **dict.fromkeys(("median_norm", "dominant_norm", "dominant_projection"), ("layer", values[:, 0])),
            **{f"peak_{name}": ("layer", values[:, 0]) for name in channels},
            "degenerate": ("layer", np.isnan(values[:, 0])),
            "carries": (("subject", "stimulus"), np.ones((1, stimuli), bool)),
            "lacks": (("subject", "stimulus"), np.zeros((1, stimuli), bool)),
            "thumbnail": (("stimulus", "y", "x", "channel"), np.zeros((stimuli, 2, 2, 3), np.uint8)),
        },
        {
            "model": ("layer", ["net"] * layers),
            "name": ("layer", [f"layer{index}" for index in range(layers)]),
            "depth": ("layer", np.arange(layers)),
            "layer_kind": ("layer", ["block"] * layers),
            "stimulus": [f"solid: {index}" for index in range(stimuli)],
            "family": ("stimulus", ["solid"] * stimuli),
            "made_for": ("stimulus", [""] * stimuli),
            "keeps_content": ("stimulus", np.zeros(stimuli, bool)),
            **{name: ("stimulus", colours[:, place]) for place, name in enumerate(channels)},
            "level": ("stimulus", np.linspace(0, 1, stimuli)),
        },
        {"sample_count": 512, "top_fraction": 0.05},
    )
    return KINDS["probe_response"].annotate(dataset)


def probe_verdict() -> xr.Dataset:
    verdicts = ["excited", "not excited", "no block", "unspecific", "not comparable"]
    count = len(verdicts)
    texts = {
        "block_model": list("abcde"), "first_layer": ["layer1"] * count, "last_layer": ["layer4"] * count,
        "reference_layer": ["layer2"] * count, "evidence": ["similar"] * count, "text": ["excited"] * count,
        "verdict": verdicts, "shared": ["blue of 0.5 or more"] * 4 + [""], "carrying": ["solid: 1"] * 4 + [""],
        "control": ["solid: 2"] * count, "strongest": ["solid: 1"] * count, "own": [""] * count,
        "colour": ["found: 1"] * count, "statistic": ["noise"] * count,
    }  # fmt: skip
    excitation = np.array([1.5, 0.5, 1.2, 1.3, np.nan])
    subjects = ("strongest", "own", "colour", "statistic", "carrying", "control")
    channels = [f"{prefix}_{channel}" for prefix in ("own", "colour") for channel in ("red", "green", "blue")]
    shares = ("statistic_level", "colour_distance", "shared_p_value", "carrying_layer_share")
    counts = ("evaluations", "carrying_count", "control_count", "reaching_count", "compared_count")
    counts += ("control_reaching_count",)
    dataset = xr.Dataset(
        {
            **{name: ("block", values) for name, values in texts.items()},
            "is_block": ("block", [True, True, False, True, True]),
            "excited": ("block", [True, False, True, False, False]),
            "dominant_sample": ("block", [1, 2, 3, 4, 5]),
            **dict.fromkeys(counts, ("block", [100, 200, 10, 5, 0])),
            **{f"{prefix}_excitation": ("block", excitation) for prefix in subjects},
            **{f"{prefix}_norm_ratio": ("block", excitation) for prefix in subjects},
            **{f"{prefix}_percentile": ("block", 60 * excitation) for prefix in subjects},
            **{f"{name}_at_edge": ("block", [True, False] * 2 + [True]) for name in ("colour", "statistic")},
            **{name: ("block", [0.0, 1.0, np.nan, 0.5, 0.5]) for name in (*channels, *shares)},
            **dict.fromkeys(("carrying_reach", "carrying_median", "carrying_expected"), ("block", excitation)),
            **dict.fromkeys(("control_expected", "real_expected"), ("block", [0.3, 0.3, 0.3, 1.3, np.nan])),
            "shared_auroc": ("block", [0.8, 0.9, 1.0, 0.8, np.nan]),
            "dominant_norm_ratio": ("block", excitation),
        },
        attrs={"sample_count": 512},
    )
    return KINDS["probe_verdict"].annotate(dataset)


REMOVED = ("selection", "fraction")


def removal(count: int = 2) -> xr.Dataset:
    each, shape = ("block", *REMOVED), (count, 2, 3)
    found = np.ones(shape, bool)
    found[:, 0, 2] = False
    texts = {"block_model": "net", "first_layer": "layer1", "last_layer": "layer4", "reference_layer": "layer2"}
    measures = ("similarity", "contrast", "contrast_without_pc1", "pc_support", "score")
    others = [f"{name}_spread" for name in measures] + [f"{name}_error" for name in measures[:-1]]
    dataset = xr.Dataset(
        {
            **{name: ("block", np.array([value] * count, object)) for name, value in texts.items()},
            "verdict": ("block", np.array(["dissolved"] * count, object)),
            "layer_count": ("block", np.full(count, 4)),
            "was_block": ("block", np.ones(count, bool)),
            "controls_keep_block": ("block", np.ones(count, bool)),
            "dissolving_fraction": ("block", np.full(count, 0.1)),
            "kept_count": (each, np.broadcast_to([100, 99, 90], shape).copy()),
            "is_block": (each, found),
            "block_share": (each, found.astype(float)),
            **{name: (each, np.where(found, 0.9, 0.2)) for name in measures},
            **{name: (each, np.full(shape, np.nan)) for name in others},
        },
        {"selection": ["dominant", "random"], "fraction": [0, 0.01, 0.1]},
        {
            "measure": "linear CKA",
            "ranking": "|projection|",
            "input_norm": "not known",
            "thresholds": json.dumps({"similarity": 0.9}),
            "sample_count": 100,
            "batch_size": 50,
            "random_replicates": 3,
        },
    )
    return KINDS["removal"].annotate(dataset)


def removal_layers() -> xr.Dataset:
    dataset = xr.Dataset(
        {"pc_share": (("layer", *REMOVED), np.full((3, 2, 2), 0.5), {"scope": "batch"})},
        {**_layers("layer", ""), "selection": ["dominant", "random"], "fraction": [0, 0.1]},
    )
    return KINDS["removal_layers"].annotate(dataset)


def removal_maps() -> xr.Dataset:
    maps = np.stack([np.eye(3), np.full((3, 3), np.nan)])
    dataset = xr.Dataset(
        {"similarity": (("fraction", "layer_a", "layer_b"), maps, {"measure": "linear CKA"})},
        {**_layers("layer_a", "_a"), **_layers("layer_b", "_b"), "fraction": [0, 0.1]},
    )
    return KINDS["removal_maps"].annotate(dataset)


def _layers(dim: str, suffix: str) -> dict[str, tuple[str, object]]:
    return {
        f"model{suffix}": (dim, ["net"] * 3),
        f"name{suffix}": (dim, ["layer0", "layer1", "layer2"]),
        f"depth{suffix}": (dim, np.arange(3)),
        f"layer_kind{suffix}": (dim, ["block"] * 3),
    }


EXAMPLES: dict[str, Callable[[], xr.Dataset]] = {
    "association": association,
    "dominance": dominance,
    "dominance_reference": dominance_reference,
    "overlap": overlap,
    "pairwise": pairwise,
    "per_layer": per_layer,
    "blocks": blocks,
    "influence": influence,
    "probe_response": probe_response,
    "probe_verdict": probe_verdict,
    "projections": projections,
    "removal": removal,
    "removal_layers": removal_layers,
    "removal_maps": removal_maps,
    "trajectory": trajectory,
}


def _one_entry(like: xr.DataArray) -> xr.DataArray:
    made = xr.zeros_like(like)
    made[1, 0, 2] = 0.1
    return made


def problem_texts(dataset: xr.Dataset) -> list[str]:
    return [str(problem) for problem in find_problems(dataset, KINDS[str(dataset.attrs["kind"])])]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_has_a_valid_example(kind: str) -> None:
    KINDS[kind].validate(EXAMPLES[kind]())


@pytest.mark.parametrize("example", [blocks, influence, dominance_reference, removal])
def test_a_result_without_any_block_is_valid(example: Callable[[int], xr.Dataset]) -> None:
    found = example(0)
    KINDS[str(found.attrs["kind"])].validate(found)


def test_samples_that_were_left_out_have_no_influence() -> None:
    dataset = influence()
    for name in ("share", "change"):
        dataset[name][:, :2] = np.nan
    KINDS["influence"].validate(dataset.assign(share=dataset["share"] * 1.5))
    dataset["share"][:] = np.nan
    KINDS["influence"].validate(dataset)


def test_one_layer_is_valid() -> None:
    KINDS["pairwise"].validate(pairwise(1))


def test_nan_marks_a_degenerate_layer() -> None:
    dataset = pairwise()
    dataset["similarity"][1, :] = np.nan
    dataset["similarity"][:, 1] = np.nan
    KINDS["pairwise"].validate(dataset)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("dtype", [object, np.str_, np.dtypes.StringDType()])
def test_every_way_to_hold_text_is_valid(kind: str, dtype: object) -> None:
    dataset = EXAMPLES[kind]()
    for name, variable in dataset.variables.items():
        if variable.dtype.kind in "OUT":
            dataset[name] = (variable.dims, np.array(variable.values.tolist(), dtype), variable.attrs)
    KINDS[kind].validate(dataset)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_result_is_still_valid_after_a_round_trip_through_zarr(kind: str, tmp_path: object) -> None:
    dataset = EXAMPLES[kind]()
    for name, variable in dataset.variables.items():
        if variable.dtype.kind in "OUT":
            text = np.asarray(variable.values).astype(np.dtypes.StringDType())
            dataset[name] = (variable.dims, text, variable.attrs)
    dataset.to_zarr(f"{tmp_path}/result.zarr", zarr_format=3, consolidated=False)
    with xr.open_zarr(f"{tmp_path}/result.zarr", consolidated=False) as opened:
        KINDS[kind].validate(opened)
        xr.testing.assert_equal(opened.load(), dataset)


FAULTS: dict[str, tuple[str, Callable[[xr.Dataset], xr.Dataset], str]] = {
    "another number of dominant samples": (
        "dominance",
        lambda found: found.assign(dominant_count=("layer", [2, 0, 1])),
        "data_vars/dominant_count: expected the number of dominant samples, found another in 1 layers",
    ),
    "a rule for samples that there are none of": (
        "dominance",
        lambda found: found.assign(rule=("layer", ["mixture", "mixture", "top fraction"])),
        "data_vars/rule: expected 'none' exactly where no sample is dominant, found otherwise in 1 layers",
    ),
    "a rule that there is not": (
        "dominance",
        lambda found: found.assign(rule=("layer", ["mixture", "none", "guess"])),
        "data_vars/rule: expected one of 'mixture', 'top fraction', 'none', found 'guess'",
    ),
    "more samples shared than there are": (
        "overlap",
        lambda found: found.assign(shared=found["shared"] + (found["shared"] == 1) * 2),
        "data_vars/shared: expected at most what each layer has (the diagonal), found more for 2 pairs",
    ),
    "an overlap that is not mutual": (
        "overlap",
        lambda found: found.assign(jaccard=found["jaccard"] * xr.DataArray([1, 0.5, 1], dims="layer_b")),
        "data_vars/jaccard: expected a symmetric matrix, found differences up to 0.125",
    ),
    "a reference of a foreign model": (
        "dominance_reference",
        lambda found: found.assign(block_model=("block", ["other"])),
        "data_vars/block_model: expected one of 'net', found 'other'",
    ),
    "two references of a model": (
        "dominance_reference",
        lambda found: xr.concat([found, found], "block", data_vars="minimal", coords="minimal"),
        "data_vars/block_model: expected each model once, found 'net', 'net'",
    ),
    "a block in a model that has none": (
        "dominance_reference",
        lambda found: found.assign(verdict=("model", ["no block"])),
        "data_vars/is_block: expected false where the verdict is another, found true for net",
    ),
    "another number of dominant samples at a reference": (
        "dominance_reference",
        lambda found: found.assign(dominant_count=("block", [3])),
        "data_vars/dominant_count: expected the number of dominant samples, found another in 1 blocks",
    ),
    "dominant samples of a higher rank than others": (
        "dominance_reference",
        lambda found: found.assign(rank=-found["rank"] + 7),
        "data_vars/dominant: expected the samples of lowest rank, found others in 1 blocks",
    ),
    "steps that stand still": (
        "trajectory",
        lambda found: found.assign_coords(step=[0, 100, 100, 50]),
        "coords/step: expected steps that increase, found 2 that do not",
    ),
    "other layers along the map than along the strip": (
        "trajectory",
        lambda found: found.assign_coords(depth_b=("layer_b", [0, 1, 3])),
        "coords/depth_b: expected the same values as depth, found other values",
    ),
    "one step at which the map is not symmetric": (
        "trajectory",
        lambda found: found.assign(similarity=found["similarity"] + _one_entry(found["similarity"])),
        "data_vars/similarity: expected a symmetric matrix at every step, found 1 that are not",
    ),
    "a map that is not square": (
        "trajectory",
        lambda found: found.isel(layer_b=slice(2)),
        "data_vars/similarity: expected as many layers one way as the other, found shape (4, 3, 2)",
    ),
    "a missing variable": (
        "pairwise",
        lambda found: found.drop_vars("similarity"),
        "data_vars/similarity: expected float64 over (layer_a, layer_b), found nothing",
    ),
    "a missing coordinate": (
        "per_layer",
        lambda found: found.drop_vars("depth"),
        "coords/depth: expected int over (layer), found nothing",
    ),
    "an undeclared variable": (
        "per_layer",
        lambda found: found.assign(extra=found["pc_share"]),
        "data_vars/extra: expected only what kind 'per_layer' declares (extend the kind to add to it), "
        "found an undeclared name",
    ),
    "an undeclared coordinate": (
        "per_layer",
        lambda found: found.assign_coords(seed=1),
        "coords/seed: expected only what kind 'per_layer' declares (extend the kind to add to it), "
        "found an undeclared name",
    ),
    "dimensions the wrong way round": (
        "pairwise",
        lambda found: found.transpose(),
        "data_vars/similarity/dims: expected (layer_a, layer_b), found (layer_b, layer_a)",
    ),
    "single precision": (
        "pairwise",
        lambda found: found.assign(similarity=found["similarity"].astype("float32")),
        "data_vars/similarity/dtype: expected float64, found float32",
    ),
    "a number where text belongs": (
        "per_layer",
        lambda found: found.assign_coords(name=("layer", [1, 2, 3])),
        "coords/name/dtype: expected str, found int64",
    ),
    "objects that are not text": (
        "per_layer",
        lambda found: found.assign_coords(name=("layer", np.array(["a", None, "c"], object))),
        "coords/name: expected text in every place, found values that are not text",
    ),
    "a share above one": (
        "per_layer",
        lambda found: found.assign(pc_share=found["pc_share"] + 1),
        "data_vars/pc_share: expected values of at most 1, found 2",
    ),
    "a negative count": (
        "per_layer",
        lambda found: found.assign(feature_count=-found["feature_count"]),
        "data_vars/feature_count: expected values of at least 1, found -8",
    ),
    "an infinite value": (
        "per_layer",
        lambda found: found.assign(pc_share=found["pc_share"] * np.inf),
        "data_vars/pc_share: expected finite values, found 3 infinite of 3",
    ),
    "NaN where it has no meaning": (
        "blocks",
        lambda found: found.assign(score=found["score"] * np.nan),
        "data_vars/score: expected no NaN, found 1 of 1",
    ),
    "a verdict of its own": (
        "blocks",
        lambda found: found.assign(verdict=("model", ["perhaps"])),
        "data_vars/verdict: expected one of 'block', 'similar layers, not a block', 'no block', "
        "'too few layers', found 'perhaps'",
    ),
    "none of several variables": (
        "per_layer",
        lambda found: found.drop_vars(list(found.data_vars)),
        "data_vars: expected at least one of pc_share, component_share, effective_samples, degenerate, "
        "non_finite_count, feature_count, found none of them",
    ),
    "no layer": (
        "per_layer",
        lambda found: found.isel(layer=slice(0, 0)),
        "dims/layer: expected at least 1, found 0",
    ),
    "a missing attribute": (
        "blocks",
        lambda found: found.drop_attrs(deep=False).assign_attrs(
            {k: v for k, v in found.attrs.items() if k != "passes"}
        ),
        "attrs/passes: expected int: passes over the samples, found nothing",
    ),
    "an attribute of another type": (
        "blocks",
        lambda found: found.assign_attrs(passes="four"),
        "attrs/passes: expected int, found 'four' (str)",
    ),
    "true where a number belongs": (
        "blocks",
        lambda found: found.assign_attrs(passes=True),
        "attrs/passes: expected int, found True (bool)",
    ),
    "text that is not JSON": (
        "blocks",
        lambda found: found.assign_attrs(thresholds="{0.9}"),
        "attrs/thresholds: expected json, found '{0.9}' (str)",
    ),
    "an attribute that JSON cannot hold": (
        "pairwise",
        lambda found: found.assign_attrs(threshold=float("nan")),
        "attrs/threshold: expected a finite value that JSON can hold, found nan (float)",
    ),
    "an attribute of numpy's": (
        "pairwise",
        lambda found: found.assign_attrs(count=np.int64(3)),
        "attrs/count: expected a finite value that JSON can hold, found np.int64(3) (int64)",
    ),
    "no measure": (
        "pairwise",
        lambda found: found.drop_attrs().assign_attrs(found.attrs),
        "data_vars/similarity/attrs/measure: expected str: name of the measure, such as 'linear CKA', found nothing",
    ),
    "other layers one way than the other": (
        "pairwise",
        lambda found: found.assign_coords(name_b=("layer_b", ["x", "y", "z"])),
        "coords/name_b: expected the same values as name_a, found other values",
    ),
    "a rectangle": (
        "pairwise",
        lambda found: found.isel(layer_b=slice(0, 2)),
        "data_vars/similarity: expected as many layers one way as the other, found shape (3, 2)",
    ),
    "asymmetry": (
        "pairwise",
        lambda found: found.assign(similarity=found["similarity"] + np.triu(np.full((3, 3), 1e-6), 1)),
        "data_vars/similarity: expected a symmetric matrix, found differences up to 1e-06",
    ),
    "NaN on one side": (
        "pairwise",
        lambda found: found.assign(similarity=found["similarity"].where(~np.eye(3, k=1, dtype=bool))),
        "data_vars/similarity: expected a symmetric matrix, found NaN on one side only",
    ),
    "projections about another point than the mean": (
        "projections",
        lambda found: found.assign(projection=found["projection"] + 1, norm=found["norm"] + 1),
        "data_vars/projection: expected a mean of 0 over the samples of a layer, found 2 layers with another",
    ),
    "projections of some samples only": (
        "projections",
        lambda found: found.assign(projection=found["projection"].where(found["sample"] > 0)),
        "data_vars/projection: expected a value for every sample of a layer, or for none, found 2 with some",
    ),
    "features shorter than their projection": (
        "projections",
        lambda found: found.assign(norm=np.abs(found["projection"]) / 2),
        "data_vars/norm: expected at least the size of the projection, found 12 that are less",
    ),
    "two stimuli of one name": (
        "probe_response",
        lambda found: found.assign_coords(stimulus=["a", "b", "a", "c"]),
        "coords/stimulus: expected names that differ, found 1 that others have",
    ),
    "half a colour": (
        "probe_response",
        lambda found: found.assign_coords(red=("stimulus", [np.nan, 0.5, 0.5, np.nan])),
        "coords/red: expected red, green and blue of a stimulus, or none of them, found 1 with some",
    ),
    "a verdict on a block that is none": (
        "probe_verdict",
        lambda found: found.assign(is_block=("block", [True] * 5)),
        "data_vars/verdict: expected a verdict that fits is_block and the comparison, found another in 1 blocks",
    ),
    "excitement that those with what is shared do not reach": (
        "probe_verdict",
        lambda found: found.assign(carrying_reach=("block", [1.5, 0.5, 0.2, 1.3, np.nan])),
        "data_vars/excited: expected true exactly where those that have what is shared reach 1 and as many without it "
        "do not, found otherwise in 1 blocks",
    ),
    "fractions that do not begin with all samples": (
        "removal",
        lambda found: found.assign_coords(fraction=[0.1, 0.2, 0.5]),
        "coords/fraction: expected 0 and then ascending values, found [0.1, 0.2, 0.5]",
    ),
    "more samples kept of fewer": (
        "removal",
        lambda found: found.assign(kept_count=100 - found["kept_count"]),
        "data_vars/kept_count: expected at most what a smaller fraction keeps, found more",
    ),
    "selections that differ where nothing is left out": (
        "removal",
        lambda found: found.assign(contrast=found["contrast"] * xr.DataArray([1, 2], dims="selection")),
        "data_vars/contrast: expected one value for all selections where nothing is left out, found several",
    ),
    "a removal of other samples only": (
        "removal",
        lambda found: found.assign_coords(selection=["random", "input_norm"]),
        "coords/selection: expected 'dominant' among them, found ['random', 'input_norm']",
    ),
    "a block that dissolves before it does": (
        "removal",
        lambda found: found.assign(dissolving_fraction=("block", [0.1, 0.01])),
        "data_vars/dissolving_fraction: expected 0.1 for block 1, found 0.01",
    ),
    "a map of the removal that is not square": (
        "removal_maps",
        lambda found: found.isel(layer_b=[0, 1]),
        "data_vars/similarity: expected as many layers one way as the other, found shape (2, 3, 2)",
    ),
    "a map of the removal that is lopsided": (
        "removal_maps",
        lambda found: found.assign(similarity=found["similarity"] + 0.1 * (found["layer_a"] > 0)),
        "data_vars/similarity: expected symmetric maps, found values that differ across the diagonal",
    ),
    "shares of more than there is": (
        "influence",
        lambda found: found.assign(share=found["share"] * 2),
        "data_vars/share: expected shares that sum to 1, found another sum in 2 blocks",
    ),
    "a block that ends before it begins": (
        "blocks",
        lambda found: found.assign(last_depth=found["first_depth"] - 1),
        "data_vars/first_depth: expected at most last_depth, found more than that in 1 blocks",
    ),
    "a value outside its interval": (
        "blocks",
        lambda found: found.assign(score_low=found["score"] + 0.1),
        "data_vars/score: expected between score_low and score_high, found 1 outside",
    ),
    "a block without one of its signatures": (
        "blocks",
        lambda found: found.assign(dissolved=~found["dissolved"]),
        "data_vars/is_block: expected supported and dissolved, found otherwise in 1 blocks",
    ),
    "a block of a model that is not listed": (
        "blocks",
        lambda found: found.assign(block_model=("block", ["other"])),
        "data_vars/block_model: expected one of 'net', found 'other'",
    ),
    "a verdict that contradicts its blocks": (
        "blocks",
        lambda found: found.assign(verdict=("model", ["no block"])),
        "data_vars/verdict: expected a verdict on 'net' that fits its blocks, found 'no block' with a block",
    ),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_is_named_with_its_path(fault: str) -> None:
    kind, change, expected = FAULTS[fault]
    assert expected in problem_texts(change(EXAMPLES[kind]()))


def test_one_error_lists_every_problem() -> None:
    broken = per_layer().drop_vars("depth").assign(extra=("layer", [1, 2, 3]))
    broken["pc_share"] = broken["pc_share"] + 1
    with pytest.raises(
        SchemaError, match=r"3 problems in a result of kind 'per_layer' 1\.2: coords/depth: .*; "
    ) as raised:
        KINDS["per_layer"].validate(broken)
    assert [problem.path for problem in raised.value.problems] == [
        "coords/depth",
        "data_vars/extra",
        "data_vars/pc_share",
    ]
    assert "\n" not in str(raised.value)


def test_a_single_problem_is_counted_in_the_singular() -> None:
    with pytest.raises(
        SchemaError, match=r"^1 problem in a result of kind 'per_layer' 1\.2: coords/depth: expected int"
    ):
        KINDS["per_layer"].validate(per_layer().drop_vars("depth"))


def test_a_dataset_of_another_kind_is_refused() -> None:
    with pytest.raises(SchemaError, match="attrs/kind: expected 'pairwise', found 'blocks'"):
        KINDS["pairwise"].validate(blocks())


def test_annotating_fills_in_cf_attributes_and_leaves_the_original_alone() -> None:
    plain = per_layer().drop_attrs()
    annotated = KINDS["per_layer"].annotate(plain)
    assert annotated.attrs == {"kind": "per_layer", "kind_version": "1.2"}
    assert annotated["pc_share"].attrs == {
        "long_name": "share of variance of the first principal component",
        "units": "1",
        "valid_range": [0, 1],
        "references": "https://arxiv.org/abs/2010.15327",
    }
    assert annotated["non_finite_count"].attrs["valid_min"] == 0
    assert plain.attrs == {}
    assert plain["pc_share"].attrs == {}


def test_annotating_keeps_what_the_producer_wrote() -> None:
    plain = per_layer().drop_attrs()
    plain["pc_share"].attrs["long_name"] = "share of the first of ten components"
    annotated = KINDS["per_layer"].annotate(plain)
    assert annotated["pc_share"].attrs["long_name"] == "share of the first of ten components"
    assert KINDS["blocks"].annotate(blocks().drop_attrs()).attrs["references"].startswith("https://arxiv.org/abs/2010")


def test_intervals_are_named_by_no_confidence_but_the_one_stated() -> None:
    kind = KINDS["blocks"]
    ends = [one.long_name for one in kind.variables if one.name.endswith(("_low", "_high"))]
    assert len(ends) == 12
    assert all("end of the bootstrap interval of" in name for name in ends)
    assert not [one.long_name for one in kind.variables if "95" in one.long_name]
    kind.validate(blocks().assign_attrs(confidence=0.8))
    with pytest.raises(SchemaError, match=r"attrs/confidence: expected float"):
        kind.validate(blocks().assign_attrs(confidence="most"))


@pytest.mark.parametrize(("kind", "name"), [("per_layer", "pc_share"), ("pairwise", "similarity_without_pc1")])
def test_what_a_component_is_of_is_text(kind: str, name: str) -> None:
    dataset = EXAMPLES[kind]()
    if name not in dataset:
        dataset[name] = dataset["similarity"].drop_attrs()
    dataset[name].attrs["scope"] = "batch"
    KINDS[kind].validate(dataset)
    dataset[name].attrs["scope"] = 3
    with pytest.raises(SchemaError, match=f"data_vars/{name}/attrs/scope: expected str"):
        KINDS[kind].validate(dataset)


def test_components_beside_the_first_and_how_many_samples_carry_it_are_optional() -> None:
    shares = [[0.6, 0.2], [0.5, 0.1], [np.nan, np.nan]]
    dataset = per_layer().assign(
        component_share=(("layer", "component"), shares), effective_samples=("layer", [1, 2.5, np.nan])
    )
    KINDS["per_layer"].validate(KINDS["per_layer"].annotate(dataset))
    assert dataset["component_share"].sizes == {"layer": 3, "component": 2}
    few = KINDS["per_layer"].annotate(dataset.assign(effective_samples=("layer", [0.5, 2, 3])))
    assert problem_texts(few) == ["data_vars/effective_samples: expected values of at least 1, found 0.5"]


def test_a_result_of_an_earlier_minor_version_is_valid() -> None:
    KINDS["per_layer"].validate(per_layer().assign_attrs(kind_version="1.0"))


def test_the_effect_on_the_contrast_is_optional_and_its_interval_holds_it() -> None:
    kind = KINDS["blocks"]
    kind.validate(blocks().assign_attrs(kind_version="1.0"))
    ends = {f"contrast_without_pc1_{end}": ("block", [value]) for end, value in (("low", 0.1), ("high", 0.3))}
    dataset = kind.annotate(blocks().assign(contrast_without_pc1=("block", [0.2]), **ends))
    kind.validate(dataset)
    assert problem_texts(dataset.assign(contrast_without_pc1=("block", [0.4]))) == [
        "data_vars/contrast_without_pc1: expected between contrast_without_pc1_low and contrast_without_pc1_high, "
        "found 1 outside"
    ]


def test_an_effect_that_is_not_known_is_valid() -> None:
    dataset = blocks()
    dataset["removal_effect"][:] = np.nan
    for name in ("dissolved", "is_block"):
        dataset[name][:] = False
    dataset["verdict"] = ("model", ["similar layers, not a block"])
    KINDS["blocks"].validate(dataset)
