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


EXAMPLES: dict[str, Callable[[], xr.Dataset]] = {
    "pairwise": pairwise,
    "per_layer": per_layer,
    "blocks": blocks,
    "influence": influence,
    "projections": projections,
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


@pytest.mark.parametrize("example", [blocks, influence])
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
