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


@pytest.fixture(scope="session")
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


PROBED_LAYERS, PROBED_SAMPLES = 6, 120
FAVOURITES = ((0.0, 0.0, 1.0), (1.0, 0.5, 0.0))
"""Colours that the networks of ``build_probes`` like, one each."""


def build_probes(models: Sequence[str] = ("net",), *, steps: int = 3, block: bool = True) -> dict[str, xr.Dataset]:
    """Return responses and verdicts of networks whose layers 2 to 4 like one colour each; judged at layer 3.

    A solid image of the favourite lies 2.5 times as far out as the most dominant sample, at 10 times the median norm
    where that sample has 4; its complement lies on the other side.
    """
    grid = [
        tuple(map(float, colour))
        for colour in np.stack(np.meshgrid(*[np.linspace(0, 1, steps)] * 3), -1).reshape(-1, 3)
    ]
    none = (np.nan,) * 3
    entries = [
        (f"solid: solid {' '.join(f'{part:.2f}' for part in colour)}", "solid", "", False, colour, np.nan)
        for colour in grid
    ]
    for place, model in enumerate(models):
        favourite = FAVOURITES[place]
        told = " ".join(f"{part:.2f}" for part in favourite)
        entries += [
            (f"border: border {level:g} of typical image 1 ({model})", "border", model, False, none, level)
            for level in (0.0, 0.5, 1.0)
        ]  # fmt: skip
        entries += [
            (f"real: dominant image 1 ({model})", "real", model, True, none, np.nan),
            (f"found colour: solid {told} ({model})", "found", model, False, favourite, np.nan),
            (f"found border: border 0.9 of typical image 1 ({model})", "found", model, False, none, 0.9),
        ]
    names = [entry[0] for entry in entries]
    colours = np.array([entry[4] for entry in entries], dtype=float)
    levels = np.array([entry[5] for entry in entries], dtype=float)
    excitation = np.empty((len(models), len(entries)))
    for place in range(len(models)):
        liked = 2.5 - 3 * np.abs(colours - FAVOURITES[place]).max(axis=1)
        excitation[place] = np.where(np.isnan(liked), np.where(np.isnan(levels), 1.0, 0.8 * levels), liked)
    shares = np.repeat(excitation, PROBED_LAYERS, axis=0)
    depth = np.tile(np.arange(PROBED_LAYERS), len(models))
    inside = (depth >= 2) & (depth <= 4)
    projection = np.where(inside, 8.0 + depth, 1.0)[:, None] * shares  # 11 at layer 3 for the dominant sample
    median = np.where(inside, 5.0, 2.0)
    ratio = np.where(inside[:, None], 4.0 * np.abs(shares) + 0.01, 1 + 0.1 * np.abs(shares))
    # Outside the block every stimulus has a norm of its own, the same colour the same.
    own = np.where(np.isnan(colours[:, 0]), 0.2 + 0.01 * np.arange(len(entries)), colours @ [0.03, 0.05, 0.07])
    ratio = ratio + np.where(inside[:, None], 0, own)
    itself = [names.index(f"real: dominant image 1 ({model})") for model in models for _ in range(PROBED_LAYERS)]
    layer = {
        "model": [model for model in models for _ in range(PROBED_LAYERS)],
        "name": [f"stage.{index}" for _ in models for index in range(PROBED_LAYERS)],
        "depth": depth,
        "layer_kind": ["block"] * len(depth),
    }
    both = ("layer", "stimulus")
    pictures = np.zeros((len(entries), 4, 4, 3), dtype=np.uint8)
    pictures[:] = np.round(255 * np.nan_to_num(colours, nan=0.5))[:, None, None]
    percentile = np.clip(50 + 50 * np.abs(shares), 0, 100)
    response = xr.Dataset(
        {
            "norm": (both, ratio * median[:, None]),
            "norm_percentile": (both, percentile),
            "norm_ratio": (both, ratio),
            "projection": (both, projection),
            "projection_percentile": (both, percentile / 2),
            "cosine": (both, np.clip(shares / 2.5, -1, 1)),
            "norm_without_pc1": (both, np.full_like(ratio, 0.5) * median[:, None] * (1 + np.abs(shares))),
            "median_norm": ("layer", median),
            "dominant_norm": ("layer", median * ratio[np.arange(len(depth)), itself]),
            "dominant_projection": ("layer", np.where(inside, 8.0 + depth, 1.0)),
            "degenerate": ("layer", np.zeros(len(depth), dtype=bool)),
            "carries": (("subject", "stimulus"), np.tile(colours[:, 2] >= 0.6, (len(models), 1))),
            "lacks": (("subject", "stimulus"), np.tile(colours[:, 2] <= 0.1, (len(models), 1))),
            "thumbnail": (("stimulus", "y", "x", "channel"), pictures),
        },
        {
            **{name: ("layer", np.array(values)) for name, values in layer.items()},
            "stimulus": np.array(names),
            "subject": np.array(list(models)),
            "family": ("stimulus", np.array([entry[1] for entry in entries])),
            "made_for": ("stimulus", np.array([entry[2] for entry in entries])),
            "keeps_content": ("stimulus", np.array([entry[3] for entry in entries])),
            **{name: ("stimulus", colours[:, place]) for place, name in enumerate(("red", "green", "blue"))},
            "level": ("stimulus", levels),
        },
        {"kind": "probe_response", "kind_version": "1.0", "sample_count": PROBED_SAMPLES, "top_fraction": 0.05},
    )  # fmt: skip
    rows = [_probe_verdict(model, FAVOURITES[place], block) for place, model in enumerate(models)]
    verdict = xr.Dataset(
        {name: ("block", np.array([row[name] for row in rows])) for name in rows[0]},
        attrs={"kind": "probe_verdict", "kind_version": "1.0", "sample_count": PROBED_SAMPLES},
    )
    return {"response": response, "verdict": verdict}


def _probe_verdict(model: str, favourite: tuple[float, ...], block: bool) -> dict[str, object]:
    told = " ".join(f"{part:.2f}" for part in favourite)
    colour = f"found colour: solid {told} ({model})"
    subjects = {
        "strongest": (colour, 2.5, 10.01),
        "carrying": (f"solid: solid {told}", 2.5, 10.01),
        "control": ("solid: solid 0.50 0.50 0.50", 0.9, 3.61),
        "own": (f"own_colour: border of dominant image 1 ({model})", 1.2, 4.81),
        "colour": (colour, 2.5, 10.01),
        "statistic": ("border", 0.72, 2.89),
    }
    values: dict[str, object] = {}
    for subject, (name, excitation, norm) in subjects.items():
        values |= {subject: name, f"{subject}_excitation": excitation, f"{subject}_norm_ratio": norm}
        values[f"{subject}_percentile"] = 100.0 if excitation > 1 else 90.0
    return {
        **values,
        "block_model": model, "first_layer": "stage.2", "last_layer": "stage.4", "reference_layer": "stage.3",
        "is_block": block, "evidence": "block of 3 layers" if block else "no block; 3 similar layers, contrast 0.10",
        "verdict": "excited" if block else "no block", "text": "as in the table", "excited": True,
        "shared": "mean blue of 0.6 or more", "shared_auroc": 0.98, "shared_p_value": 0.001,
        "carrying_count": 9, "control_count": 18, "compared_count": 9, "reaching_count": 2, "control_reaching_count": 0,
        "carrying_reach": 2.5,
        "carrying_median": 0.4, "carrying_expected": 2.5, "control_expected": 0.85, "real_expected": 0.7,
        "carrying_layer_share": 1.0, "colour_at_edge": True, "statistic_at_edge": False,
        "dominant_sample": 7, "dominant_norm_ratio": 4.01, "own_red": 0.1, "own_green": 0.0, "own_blue": 0.8,
        **{f"colour_{name}": part for name, part in zip(("red", "green", "blue"), favourite, strict=True)},
        "statistic_level": 0.9, "colour_distance": 0.2, "evaluations": 464,
    }  # fmt: skip


@pytest.fixture(scope="session")
def make_probes():
    return build_probes


_SHARES = (0.0, 0.01, 0.1, 0.5)


def build_dominant(
    models: Sequence[str] = ("net",), *, layers: int = 6, samples: int = 120, dissolves: bool = True
) -> dict[str, xr.Dataset]:
    """Return the leaves of ``dominant``: in model ``i``, the ten samples from ``5 i`` on dominate layers 1 to 4.

    The blocks of these layers dissolve when a tenth of the samples goes, or stay; random samples leave them, samples of
    long input do not say.
    """
    generator = np.random.default_rng(0)
    count = len(models) * layers
    names = {
        "model": [model for model in models for _ in range(layers)],
        "name": [f"stage{1 + index * 2 // layers}.{index}" for _ in models for index in range(layers)],
        "depth": list(range(layers)) * len(models),
        "layer_kind": ["block"] * count,
    }
    along = {name: ("layer", column) for name, column in names.items()}
    pairs = {f"{name}{suffix}": (f"layer{suffix}", column) for suffix in ("_a", "_b") for name, column in names.items()}
    own = np.stack([np.isin(np.arange(samples), np.arange(5 * i, 5 * i + 10)) for i in range(len(models))])
    member = np.repeat(own, layers, axis=0)
    inside = np.tile((np.arange(layers) >= 1) & (np.arange(layers) <= 4), len(models))
    projection = generator.uniform(0.5, 1.5, (count, samples)) * np.where(member & inside[:, None], 50, 1)
    norm = np.sqrt(projection**2 + 4)
    sorted_sizes = np.sort(projection, axis=1)
    top = projection >= sorted_sizes[:, [-6]]
    dominant = np.where(inside[:, None], member, top)
    median = np.median(norm, axis=1)
    dominance = xr.Dataset(
        {
            "dominant": (("layer", "sample"), dominant),
            "norm": (("layer", "sample"), norm),
            "projection": (("layer", "sample"), projection * np.where(np.arange(samples) % 2, 1, -1)),
            "dominant_count": ("layer", dominant.sum(axis=1)),
            "threshold": ("layer", np.where(inside, 10.0, sorted_sizes[:, -6])),
            "rule": ("layer", np.where(inside, "mixture", "top fraction")),
            "bic_gain": ("layer", np.where(inside, 420.0, 3.0)),
            "ashman_d": ("layer", np.where(inside, 9.5, 1.2)),
            "effective_samples": ("layer", np.where(inside, 11.0, 80.0)),
            "norm_correlation": ("layer", np.full(count, 0.91)),
            "median_norm": ("layer", median),
            "dominant_norm_ratio": (
                "layer",
                [np.median(n[d]) / m for n, d, m in zip(norm, dominant, median, strict=True)],
            ),
            "cosine_inside": ("layer", np.where(inside, 0.97, 0.3)),
            "cosine_outside": ("layer", np.full(count, 0.04)),
            "degenerate": ("layer", np.zeros(count, dtype=bool)),
        },
        {**along, "sample": np.arange(samples)},
        {"kind": "dominance", "kind_version": "1.0", "sample_count": samples, "top_fraction": 0.05},
    )
    sizes = np.abs(dominance["projection"].values[[i * layers + 2 for i in range(len(models))]])
    rank = 1.0 + np.argsort(np.argsort(-sizes, axis=1), axis=1)
    block = {
        "block_model": ("block", list(models)),
        "first_layer": ("block", ["stage1.1"] * len(models)),
        "last_layer": ("block", ["stage2.4"] * len(models)),
        "reference_layer": ("block", ["stage1.2"] * len(models)),
    }
    references = xr.Dataset(
        {
            **block,
            "verdict": ("model", ["block"] * len(models)),
            "evidence": ("model", [f"a block of 4 layers in {model}" for model in models]),
            "layer_count": ("block", [4] * len(models)),
            "is_block": ("block", [True] * len(models)),
            "rule": ("block", ["mixture"] * len(models)),
            "dominant_count": ("block", [10] * len(models)),
            "rank": (("block", "sample"), rank),
            "dominant": (("block", "sample"), own),
        },
        {"model": list(models), "sample": np.arange(samples)},
        {"kind": "dominance_reference", "kind_version": "1.0", "sample_count": samples, "pooled": False},
    )
    shared = dominant.astype(int) @ dominant.T.astype(int)
    either = np.add.outer(dominant.sum(axis=1), dominant.sum(axis=1)) - shared
    overlap = xr.Dataset(
        {
            "jaccard": (("layer_a", "layer_b"), shared / either),
            "shared": (("layer_a", "layer_b"), shared),
            "p_value": (("layer_a", "layer_b"), np.where(shared > 4, 1e-9, 0.4)),
        },
        pairs,
        {"kind": "overlap", "kind_version": "1.0", "sample_count": samples},
    )
    removal, removal_layers, removal_maps = _removals(block, along, pairs, models, layers, samples, dissolves)
    return {
        "references": references, "dominance": dominance, "overlap": overlap, "removal": removal,
        "removal_layers": removal_layers, "removal_maps": removal_maps,
        "association": _association(block, models, samples),
    }  # fmt: skip


def _removals(block, along, pairs, models, layers, samples, dissolves):
    selections, shares = ["dominant", "random", "input_norm"], np.array(_SHARES)
    fall = {"dominant": [0, 0.02, 0.4, 0.5], "random": [0, 0, 0.01, 0.02], "input_norm": [0, 0.01, 0.05, 0.1]}
    size = np.array([fall[name] for name in selections])
    each = ("block", "selection", "fraction")
    found = np.ones((3, 4), dtype=bool)
    found[0, 2:] = not dissolves
    variables = {**block, "layer_count": ("block", [4] * len(models)), "was_block": ("block", [True] * len(models))}
    for name, start in (
        ("similarity", 0.95),
        ("contrast", 0.45),
        ("contrast_without_pc1", 0.1),
        ("pc_support", 0.6),
        ("score", 0.7),
    ):
        variables[name] = (
            each,
            np.stack([start - size] * len(models)).clip(0 if name != "contrast_without_pc1" else -1),
        )
        variables[f"{name}_spread"] = (
            each,
            np.stack([np.where(np.array(selections)[:, None] == "random", 0.01, np.nan) + 0 * size] * len(models)),
        )
        if name != "score":
            variables[f"{name}_error"] = (each, np.full((len(models), 3, 4), 0.015))
    removal = xr.Dataset(
        variables
        | {
            "dissolving_fraction": ("block", [0.1 if dissolves else np.nan] * len(models)),
            "controls_keep_block": ("block", [True] * len(models)),
            "verdict": ("block", ["as the analysis says"] * len(models)),
            "kept_count": (each, np.tile(samples - np.round(shares * samples).astype(int), (len(models), 3, 1))),
            "is_block": (each, np.stack([found] * len(models))),
            "block_share": (each, np.stack([found.astype(float)] * len(models))),
        },
        {"selection": selections, "fraction": shares},
        {
            "kind": "removal", "kind_version": "1.0", "measure": "linear CKA", "ranking": "across halves",
            "input_norm": "of the samples as they are read", "thresholds": "{}", "sample_count": samples,
            "batch_size": 60, "random_replicates": 5,
        },
    )  # fmt: skip
    share = np.clip(0.6 - np.stack([size] * len(models) * layers), 0, 1)
    removal_layers = xr.Dataset(
        {"pc_share": (("layer", "selection", "fraction"), share, {"scope": "batch"})},
        {**along, "selection": selections, "fraction": shares},
        {"kind": "removal_layers", "kind_version": "1.0"},
    )
    total = len(models) * layers
    place = np.arange(total) // layers
    maps = np.stack([np.where(np.equal.outer(place, place), value, np.nan) for value in (0.9, 0.88, 0.5)])
    maps[:, np.arange(total), np.arange(total)] = 1.0
    removal_maps = xr.Dataset(
        {"similarity": (("fraction", "layer_a", "layer_b"), maps, {"measure": "linear CKA"})},
        {**pairs, "fraction": shares[:3]},
        {"kind": "removal_maps", "kind_version": "1.0"},
    )
    return removal, removal_layers, removal_maps


def _association(block, models, samples):
    auroc = np.array([[0.95, 0.3, 0.52], [0.2, 0.98, 0.5]])[np.arange(len(models)) % 2]
    rank = 1 + np.argsort(np.argsort(-np.abs(auroc - 0.5), axis=1, kind="stable"), axis=1)
    p = np.where(np.abs(auroc - 0.5) > 0.1, 0.001, 0.6)
    statistics = ["blue", "border_red", "entropy"]
    each, classes = ("block", "statistic"), ("block", "class_name")
    leaders = [statistics[int(np.argmin(one))] for one in rank]
    share = np.tile([0.7, 0.2, 0.1], (len(models), 1))
    return xr.Dataset(
        {
            **block,
            "is_block": ("block", [True] * len(models)),
            "member_count": ("block", [10] * len(models)),
            "leading_statistic": ("block", leaders),
            "evidence": ("block", [f"they have a higher {leader}" for leader in leaders]),
            "auroc": (each, auroc), "effect": (each, 4 * (auroc - 0.5)), "p_value": (each, p / 2),
            "adjusted_p": (each, p), "familywise_p": (each, p), "coefficient": (each, auroc - 0.5),
            "rank": (each, rank), "mean_dominant": (each, 100 * auroc), "mean_rest": (each, 100 * (1 - auroc)),
            "logistic_auroc": ("block", [0.93] * len(models)), "logistic_null_high": ("block", [0.61] * len(models)),
            "logistic_standard_error": ("block", [0.02] * len(models)), "logistic_null": ("block", [0.5] * len(models)),
            "logistic_p_value": ("block", [0.05] * len(models)),
            "class_share_dominant": (classes, share), "class_share_rest": (classes, share[:, ::-1]),
            "class_p_value": (classes, np.tile([0.001, 0.8, 0.002], (len(models), 1))),
            "class_adjusted_p": (classes, np.tile([0.003, 0.8, 0.004], (len(models), 1))),
        },
        {
            "statistic": statistics, "statistic_title": ("statistic", ["mean blue", "red of the border", "entropy"]),
            "statistic_units": ("statistic", ["0 to 1", "0 to 1", "bit"]), "class_name": ["cat", "coffee", "rocket"],
        },
        {
            "kind": "association", "kind_version": "1.0", "sample_count": samples, "permutations": 2000,
            "logistic_permutations": 20, "folds": 5, "significance": 0.05,
        },
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_dominant():
    return build_dominant
