"""What version 1.1 of ``trajectory`` adds: the similarity of each step to the last one."""

import numpy as np
import pytest
import xarray as xr

from outcrop_schemas import KINDS, SchemaError

TRAJECTORY = KINDS["trajectory"]


def series(steps: int = 3, layers: int = 4) -> xr.Dataset:
    rng = np.random.default_rng(0)
    within = rng.uniform(0, 1, (steps, layers, layers))
    within = (within + within.transpose(0, 2, 1)) / 2
    to_last = rng.uniform(0, 1, (steps, layers, layers))
    to_last[-1] = within[-1]
    coords: dict[str, object] = {
        "step": np.arange(steps) * 10,
        "checkpoint": ("step", [f"net@{10 * step}" for step in range(steps)]),
    }
    for dim, suffix in (("layer", ""), ("layer_a", "_a"), ("layer_b", "_b")):
        coords |= {
            f"model{suffix}": (dim, ["net"] * layers),
            f"name{suffix}": (dim, [f"layer{index}" for index in range(layers)]),
            f"depth{suffix}": (dim, np.arange(layers)),
            f"layer_kind{suffix}": (dim, ["block"] * layers),
        }
    pair = ("step", "layer_a", "layer_b")
    dataset = xr.Dataset(
        {
            "similarity": (pair, within, {"measure": "CKA"}),
            "similarity_to_last": (pair, to_last),
            "standard_error": (pair, within / 10),
            "standard_error_to_last": (pair, to_last / 10),
            "pc_share": (("step", "layer"), rng.uniform(0, 1, (steps, layers))),
        },
        coords,
        {"sample_count": 64, "batch_size": 32, "mode": "batch"},
    )
    return TRAJECTORY.annotate(dataset)


def test_a_series_is_valid_though_its_maps_to_the_last_step_are_not_symmetric() -> None:
    found = series()
    TRAJECTORY.validate(found)
    assert found.attrs["kind_version"] == TRAJECTORY.version == "1.1"
    assert "layer_b at the last step" in found["similarity_to_last"].attrs["long_name"]


def test_what_version_1_0_held_is_still_valid() -> None:
    older = series().drop_vars(["similarity_to_last", "standard_error", "standard_error_to_last", "checkpoint"])
    TRAJECTORY.validate(older.assign_attrs(kind_version="1.0"))


def test_the_last_step_compares_with_itself() -> None:
    found = series()
    found["similarity_to_last"][-1, 0, 1] += 1e-6
    with pytest.raises(
        SchemaError, match="similarity_to_last: expected the similarity itself at the last step, found an"
    ):
        TRAJECTORY.validate(found)


def test_an_error_below_zero_is_refused() -> None:
    found = series()
    found["standard_error_to_last"][0, 0, 0] = -0.1
    with pytest.raises(SchemaError, match=r"standard_error_to_last: expected values of at least 0, found -0\.1"):
        TRAJECTORY.validate(found)
