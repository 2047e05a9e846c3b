"""The colour response surface: what solid images provoke, laid out over the RGB cube."""

from itertools import product

import numpy as np
import xarray as xr

from outcrop_probes.surface import colour_surface, peaks

LEVELS = (0.0, 0.5, 1.0)
COLOURS = np.array([*product(LEVELS, repeat=3), (np.nan,) * 3, (0.2, 0.2, 0.2)])
FAMILIES = ["solid"] * 27 + ["noise", "named"]


def response(order):
    slopes = np.array([[1.0, 10.0, 100.0], [-1.0, -1.0, 0.0]])
    values = slopes @ np.nan_to_num(COLOURS, nan=9.0).T
    dataset = xr.Dataset(
        {"projection": (("layer", "stimulus"), values), "norm_ratio": (("layer", "stimulus"), np.abs(values))},
        {
            "name": ("layer", ["a", "b"]),
            "family": ("stimulus", FAMILIES),
            **{channel: ("stimulus", COLOURS[:, place]) for place, channel in enumerate(("red", "green", "blue"))},
        },
    )
    return dataset.isel(stimulus=order)


def test_every_colour_is_in_its_place_whatever_the_order_of_stimuli():
    order = np.random.default_rng(0).permutation(len(COLOURS))
    surface = colour_surface(response(order))
    assert dict(surface.sizes) == {"layer": 2, "red": 3, "green": 3, "blue": 3}
    red, green, blue = np.meshgrid(LEVELS, LEVELS, LEVELS, indexing="ij")
    np.testing.assert_allclose(surface["projection"].values[0], red + 10 * green + 100 * blue)
    np.testing.assert_allclose(surface["norm_ratio"].sel(red=1, green=0.5, blue=0).values, [6, 1.5])
    assert surface["name"].values.tolist() == ["a", "b"]


def test_colours_that_were_not_shown_are_nan():
    surface = colour_surface(response(np.arange(1, 27)))
    assert np.isnan(surface["projection"].values[:, 0, 0, 0]).all()
    assert np.isfinite(surface["projection"].values).sum() == 2 * 26


def test_without_solid_images_it_is_empty():
    assert colour_surface(response([27]))["projection"].size == 0


def test_the_peak_is_the_colour_farthest_out_to_either_side():
    values = response(np.arange(len(COLOURS)))["projection"].values
    values[0, 27:] = 1e9
    found = peaks(COLOURS, FAMILIES, np.vstack([values, np.full((1, len(COLOURS)), np.nan)]))
    np.testing.assert_array_equal(found[0], (1, 1, 1))
    np.testing.assert_array_equal(found[1, :2], (1, 1))
    assert np.isnan(found[2]).all()
    assert np.isnan(peaks(COLOURS, ["named"] * len(COLOURS), values)).all()
