"""Synthetic results of the declared kinds: one network with a planted block, one whose layers only drift."""

import dataclasses
import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import xarray as xr

from outcrop.numerics.blocks.block_detection import DEFAULT_THRESHOLDS, weigh_blocks

_OPERATIONS = (
    ("conv1", "conv"), ("norm1", "norm"), ("relu1", "act"),
    ("conv2", "conv"), ("norm2", "norm"), ("add", "add"), ("relu2", "block"),
)  # fmt: skip


def layer_names(count: int) -> list[tuple[str, str]]:
    """Return names and kinds of the layers of a three-stage residual network with ``count`` layers."""
    per_stage = -(-(count - 6) // (3 * len(_OPERATIONS)))
    middle = [
        (f"stage{stage}.{unit}.{name}", kind)
        for stage in (1, 2, 3)
        for unit in range(per_stage)
        for name, kind in _OPERATIONS
    ]
    ends = [("pool", "pool"), ("flatten", "other"), ("classifier", "output")]
    return [("conv", "conv"), ("norm", "norm"), ("relu", "block"), *middle[: count - 6], *ends]


def planted_maps(count: int, block: tuple[int, int] | None, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Return CKA, CKA without the first component, alignment (all (layer, layer)) and pc_share (layer,)."""
    place = np.arange(count)
    distance = np.abs(place[:, None] - place[None]) / count
    drift = np.exp(-3.5 * distance) * 0.93 + 0.05
    checker = 1 - 0.06 * ((place[:, None] % 7 >= 4) ^ (place[None] % 7 >= 4))
    noise = generator.normal(0, 0.01, (count, count))
    noise = (noise + noise.T) / 2
    similarity, without, alignment = drift * checker + noise, drift * checker * 0.9 + noise, 0.5 * drift**2
    share = 0.11 + 0.03 * np.sin(place / 4) + generator.normal(0, 0.012, count)
    if block is not None:
        inside = (place >= block[0]) & (place < block[1])
        square = np.outer(inside, inside)
        across = similarity * np.where(inside[:, None] ^ inside, 0.72, 1)
        similarity = np.where(square, 0.965 - 0.03 * distance + noise / 2, across)
        alignment = np.where(square, 0.93, alignment)
        share = np.where(inside, 0.44 + 0.05 * np.sin(place / 6) + generator.normal(0, 0.02, count), share)
    maps = {"similarity": similarity, "similarity_without_pc1": without, "pc_alignment": alignment}
    for values in maps.values():
        np.fill_diagonal(values, 1.0)
        np.clip(values, -0.02, 1.0, out=values)
    return {**maps, "pc_share": np.clip(share, 0, 1)}


def build_run(
    models: Sequence[tuple[str, int, tuple[int, int] | None]],
    *,
    seed: int = 0,
    intervals: bool = True,
    degenerate: Sequence[int] = (),
    names: Callable[[int], list[tuple[str, str]]] = layer_names,
) -> dict[str, xr.Dataset]:
    """Return the leaves of one run: ``models`` are (name, number of layers, planted block or None)."""
    generator = np.random.default_rng(seed)
    parts = {name: planted_maps(count, block, generator) for name, count, block in models}
    layers = [(name, layer, i, kind) for name, count, _ in models for i, (layer, kind) in enumerate(names(count))]
    total = len(layers)
    flat: dict[str, np.ndarray] = {}
    for key in ("similarity", "similarity_without_pc1", "pc_alignment"):
        relative = np.concatenate([np.linspace(0, 1, count) for _, count, _ in models])
        whole = 0.55 * np.exp(-3 * np.abs(relative[:, None] - relative[None])) * (0.3 if key == "pc_alignment" else 1)
        start = 0
        for part in parts.values():
            stop = start + len(part[key])
            whole[start:stop, start:stop] = part[key]
            start = stop
        flat[key] = whole
    share = np.concatenate([part["pc_share"] for part in parts.values()])
    flags = np.zeros(total, dtype=bool)
    flags[list(degenerate)] = True
    for values in flat.values():
        values[flags] = values[:, flags] = np.nan
    share[flags] = np.nan
    coordinates = {
        suffix: {
            f"model{suffix}": [layer[0] for layer in layers],
            f"name{suffix}": [layer[1] for layer in layers],
            f"depth{suffix}": [layer[2] for layer in layers],
            f"layer_kind{suffix}": [layer[3] for layer in layers],
        }
        for suffix in ("_a", "_b", "")
    }
    error = 0.004 + 0.01 * (1 - flat["similarity"]) ** 2
    pairwise = xr.Dataset(
        {key: (("layer_a", "layer_b"), values) for key, values in {**flat, "standard_error": error}.items()},
        coords={
            name: (f"layer{suffix}", np.array(values))
            for suffix in ("_a", "_b")
            for name, values in coordinates[suffix].items()
        },
        attrs={"kind": "pairwise", "kind_version": "1.0"},
    )
    per_layer = xr.Dataset(
        {
            "pc_share": ("layer", share),
            "degenerate": ("layer", flags),
            "non_finite_count": ("layer", np.zeros(total, dtype=int)),
            "feature_count": ("layer", np.array([16384 >> (layer[2] * 3 // total) for layer in layers])),
        },
        coords={name: ("layer", np.array(values)) for name, values in coordinates[""].items()},
        attrs={"kind": "per_layer", "kind_version": "1.0"},
    )
    blocks = _blocks(models, layers, flat, share, intervals)
    return {"pairwise": pairwise, "per_layer": per_layer, "blocks": blocks}


def _blocks(models, layers, flat, share, intervals) -> xr.Dataset:
    rows, verdicts, evaluated = [], [], []
    for name, _, _ in models:
        chosen = [i for i, layer in enumerate(layers) if layer[0] == name and layer[3] == "block"]
        window = np.ix_(chosen, chosen)
        found = weigh_blocks(
            flat["similarity"][window],
            pc_share=share[chosen],
            pc_alignment=flat["pc_alignment"][window],
            similarity_without_pc=flat["similarity_without_pc1"][window],
        )
        evaluated.append(len(chosen))
        for evidence in found:
            first, last = layers[chosen[evidence.interval.start]], layers[chosen[evidence.interval.stop - 1]]
            values = {key: value for key, value in dataclasses.asdict(evidence).items() if key != "interval"}
            for key in ("similarity_without_pc", "contrast_without_pc"):
                values[f"{key}1"] = values.pop(key)
            for key in ("score", "similarity", "contrast", "contrast_without_pc1", "pc_support"):
                values[f"{key}_low"] = values[key] - 0.02 if intervals else np.nan
                values[f"{key}_high"] = values[key] + 0.01 if intervals else np.nan
            rows.append(
                {
                    "block_model": name, "first_layer": first[1], "last_layer": last[1], "first_depth": first[2],
                    "last_depth": last[2], "layer_count": evidence.interval.length, **values,
                    "is_block": evidence.is_block,
                }
            )  # fmt: skip
        if len(chosen) < 4:
            verdicts.append("too few layers")
        elif any(evidence.is_block for evidence in found):
            verdicts.append("block")
        else:
            verdicts.append("similar layers, not a block" if found else "no block")
    columns = {key: ("block", np.array([row[key] for row in rows])) for key in rows[0]} if rows else {
        "block_model": ("block", np.zeros(0, dtype="<U1")), "first_layer": ("block", np.zeros(0, dtype="<U1"))
    }  # fmt: skip
    return xr.Dataset(
        {
            **columns,
            "verdict": ("model", np.array(verdicts)),
            "evaluated_layers": ("model", np.array(evaluated)),
            "evaluated_kind": ("model", np.array(["block"] * len(models))),
        },
        coords={"model": np.array([name for name, _, _ in models])},
        attrs={
            "kind": "blocks", "kind_version": "1.1", "sample_count": 1000, "batch_size": 100, "passes": 1,
            "thresholds": json.dumps(dataclasses.asdict(DEFAULT_THRESHOLDS)),
        },
    )  # fmt: skip


def build_results(runs: Sequence[tuple[str, str, dict[str, xr.Dataset], str]]) -> xr.DataTree:
    """Return /<analysis>/<run>/<leaf> from (analysis, run id, leaves, time it finished)."""
    nodes = {
        f"/{analysis}/{run}/{leaf}": dataset for analysis, run, leaves, _ in runs for leaf, dataset in leaves.items()
    }
    tree = xr.DataTree.from_dict(nodes)
    for analysis, run, leaves, finished in runs:
        models = list(dict.fromkeys(leaves["per_layer"]["model"].values.tolist())) if "per_layer" in leaves else ["net"]
        tree[analysis][run].attrs["provenance"] = json.dumps(
            {
                "analysis": analysis, "version": "1", "parameters": {"batch_size": 100, "layers": "all", "passes": 1},
                "models": [
                    {"name": name, "source": f"zoo:{name}", "fingerprint": f"sha256:{i:02d}ab34cd"}
                    for i, name in enumerate(models)
                ],
                "data": {"name": "patches", "source": "zoo:patches", "fingerprint": "sha256:5ee1", "samples": 1000},
                "seed": 7, "environment": {"python": "3.11.15", "torch": "2.15.0", "device": "cpu"},
                "started": finished.replace(":30", ":29"), "finished": finished, "run_id": run,
            }
        )  # fmt: skip
    return tree


CLASSES = ("cat", "coffee", "rocket", "retina", "brick", "grass")


def build_data(count: int = 120, classes: Sequence[str] = CLASSES, *, pictures: bool = True) -> xr.DataTree:
    """Return /patches with coloured, textured thumbnails."""
    generator = np.random.default_rng(1)
    label = np.arange(count) % len(classes)
    base = generator.integers(30, 220, (len(classes), 3))
    y, x = np.mgrid[0:32, 0:32]
    wave = np.stack([np.sin(x / (2 + i % 5) + y / (3 + i % 7)) for i in range(count)])
    image = base[label][:, None, None] + 40 * wave[..., None] + generator.normal(0, 9, (count, 32, 32, 3))
    variables = {"label": ("sample", label)}
    if pictures:
        variables["thumbnail"] = (("sample", "y", "x", "channel"), np.clip(image, 0, 255).astype(np.uint8))
    dataset = xr.Dataset(
        variables,
        coords={"sample": np.array([f"{classes[c]}/{i:04d}.png" for i, c in enumerate(label)])},
        attrs={"name": "patches", "classes": list(classes), "source": "zoo:patches", "fingerprint": "sha256:5ee1"},
    )
    return xr.DataTree.from_dict({"/patches-5ee1": dataset})


def build_trajectory(steps: Sequence[int], *, layers: int = 30, first: bool = True) -> xr.Dataset:
    """Return a training in whose middle a block appears among ``layers`` layers."""
    named = layer_names(layers)
    before = planted_maps(layers, None, np.random.default_rng(1))
    after = planted_maps(layers, (layers // 3, layers * 4 // 5), np.random.default_rng(2))
    weight = 1 / (1 + np.exp(-12 * (np.asarray(steps) / max(*steps, 1) - 0.4)))
    mixed = {
        name: np.stack([(1 - w) * before[name] + w * after[name] for w in weight])
        for name in ("similarity", "pc_share")
    }
    distance = np.outer(np.asarray(steps) / max(*steps, 1), 1 + 2 * np.arange(layers) / layers)
    variables = {
        "similarity": (("step", "layer_a", "layer_b"), mixed["similarity"], {"measure": "CKA"}),
        "pc_share": (("step", "layer"), mixed["pc_share"]),
    }
    if first:
        variables["similarity_to_first"] = (("step", "layer"), np.exp(-distance))
    coordinates: dict[str, object] = {"step": np.asarray(steps, dtype=np.int64)}
    for dimension, suffix in (("layer", ""), ("layer_a", "_a"), ("layer_b", "_b")):
        coordinates |= {
            f"model{suffix}": (dimension, ["resnet"] * layers),
            f"name{suffix}": (dimension, [name for name, _ in named]),
            f"depth{suffix}": (dimension, np.arange(layers)),
            f"layer_kind{suffix}": (dimension, [kind for _, kind in named]),
        }
    attributes = {"sample_count": 512, "batch_size": 256, "mode": "evaluation"}
    return xr.Dataset(variables, coordinates, {**attributes, "kind": "trajectory", "kind_version": "1.0"})


def build_series(steps: Sequence[int], *, layers: int = 30) -> xr.Dataset:
    """Return checkpoints of a training, each with its map to the last one, which is not symmetric."""
    series = build_trajectory(steps, layers=layers, first=False)
    within = series["similarity"].values
    far = 0.8 * (1 - np.arange(len(steps)) / max(1, len(steps) - 1))[:, None, None]
    tilt = 1 - 0.5 * np.arange(layers)[:, None] / layers  # late layers of early steps are the furthest from the last
    to_last = (1 - far) * within[-1] + far * 0.3 * tilt
    error = np.full_like(within, 0.004)
    pair = ("step", "layer_a", "layer_b")
    return series.assign(
        similarity_to_last=(pair, to_last),
        standard_error=(pair, error),
        standard_error_to_last=(pair, 2 * error),
    ).assign_coords(checkpoint=("step", [f"resnet@{step}" for step in steps]))


TWO_MODELS = (("resnet14-patches-seed0", 51, None), ("resnet32-patches-seed0", 109, (38, 91)))


@pytest.fixture(scope="session")
def two_models() -> dict[str, xr.Dataset]:
    return build_run(TWO_MODELS, degenerate=[1])


@pytest.fixture(scope="session")
def results(two_models) -> xr.DataTree:
    return build_results([("blocks", "9f2c4e", two_models, "2026-03-04T12:30:00")])


@pytest.fixture(scope="session")
def data() -> xr.DataTree:
    return build_data()


@pytest.fixture
def make_run():
    return build_run


@pytest.fixture
def make_results():
    return build_results


@pytest.fixture
def make_data():
    return build_data


@pytest.fixture(scope="session")
def make_trajectory():
    return build_trajectory


@pytest.fixture(scope="session")
def make_series():
    return build_series
