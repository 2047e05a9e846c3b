import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.capture.positions import SampledPositions, places
from outcrop.models.model import Layer

UNIT = 2.0**32


def grid(channels: int, height: int, width: int) -> Layer:
    return Layer("l", "conv", 0, (channels, height, width), "float32", "Conv2d", ("channel", "y", "x"))


def tokens(count: int, features: int = 2) -> Layer:
    return Layer("l", "block", 0, (count, features), "float32", "add", ("token", "feature"))


def picture(height: int, width: int) -> torch.Tensor:
    """One sample whose two channels are the y and the x of each cell's centre, in the unit square."""
    y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    return torch.from_numpy(np.stack(np.meshgrid(y, x, indexing="ij"))[None].astype(np.float32))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000), st.integers(1, 64), st.integers(1, 64))
def test_places_are_the_same_part_of_the_image_at_every_resolution(
    count: int, seed: int, height: int, width: int
) -> None:
    reduction = SampledPositions(count, seed)
    layer = grid(2, height, width)
    found = reduction.apply(layer, picture(height, width)).numpy()[0]
    if height * width <= count:
        assert found.shape == (2, height, width)
        return
    y, x = (axis / UNIT for axis in places(count, seed))
    assert found.shape == (2, count)
    # The centre of the cell that holds a place is at most half a cell away from it.
    assert np.abs(found[0] - y).max() <= 0.5 / height + 1e-6
    assert np.abs(found[1] - x).max() <= 0.5 / width + 1e-6


def test_channels_last_and_tokens_of_a_grid_are_sampled_at_the_same_places() -> None:
    values = torch.randn(3, 5, 14, 14)
    reduction = SampledPositions(9, seed=4)
    expected = reduction.apply(grid(5, 14, 14), values)
    last = Layer("l", "conv", 0, (14, 14, 5), "float32", "Linear", ("y", "x", "channel"))
    assert reduction.reduced(last).dims == ("position", "channel")
    torch.testing.assert_close(reduction.apply(last, values.permute(0, 2, 3, 1)), expected.transpose(1, 2))
    for leading in (0, 1, 2, 4, 5):
        row = torch.cat([torch.full((3, leading, 5), 99.0), values.flatten(2).transpose(1, 2)], dim=1)
        layer = tokens(196 + leading, 5)
        assert reduction.reduced(layer).dims == ("position", "feature")
        torch.testing.assert_close(reduction.apply(layer, row), expected.transpose(1, 2))
        details = reduction.details(layer)
        assert details["token_grid"] == [14, 14]
        assert details["leading_tokens"] == leading


def test_strides_of_the_values_do_not_matter() -> None:
    values = torch.randn(2, 4, 8, 8)
    reduction = SampledPositions(5)
    last = values.to(memory_format=torch.channels_last)
    torch.testing.assert_close(reduction.apply(grid(4, 8, 8), last), reduction.apply(grid(4, 8, 8), values))


def test_what_is_no_square_grid_is_sampled_along_its_order() -> None:
    reduction = SampledPositions(6, seed=1)
    _, x = places(6, 1)
    found = reduction.apply(tokens(77, 1), torch.arange(77.0).reshape(1, 77, 1))
    assert found.flatten().tolist() == np.floor(x / UNIT * 77).tolist()
    assert reduction.details(tokens(77)) == {"position_token": found.flatten().int().tolist()}
    line = Layer("l", "conv", 0, (2, 77), "float32", "Conv1d", ("channel", "x"))
    assert reduction.reduced(line).shape == (2, 6)
    assert reduction.details(line) == {"position_x": found.flatten().int().tolist()}


def test_attributes_lead_to_the_cells() -> None:
    reduction = SampledPositions(7, seed=2)
    values = torch.randn(2, 3, 10, 12)
    layer = grid(3, 10, 12)
    details = reduction.details(layer)
    expected = values[:, :, details["position_y"], details["position_x"]]
    torch.testing.assert_close(reduction.apply(layer, values), expected)


def test_a_layer_of_no_more_positions_than_places_is_kept_whole_and_its_places_are_recorded() -> None:
    reduction = SampledPositions(16)
    layer = grid(3, 4, 4)
    assert reduction.reduced(layer) == layer
    attributes = reduction.attributes(layer)
    assert attributes["reduction_applied"] == "none"
    assert len(attributes["position_y"]) == 16
    assert reduction.reduced(grid(3, 4, 5)).shape == (3, 16)
    assert reduction.reduced(tokens(17)) == tokens(17)


@pytest.mark.parametrize("dims", [("feature",), ("dim_1", "dim_2", "dim_3")])
def test_layers_without_positions_are_left_as_they_are(dims: tuple[str, ...]) -> None:
    layer = Layer("l", "other", 0, (9,) * len(dims), "float32", "x", dims)
    reduction = SampledPositions(2)
    values = torch.randn(1, *layer.shape)
    assert reduction.reduced(layer) == layer
    assert reduction.apply(layer, values) is values
    assert reduction.details(layer) == {}


def test_places_are_what_they_have_always_been() -> None:
    # The key of stored captures: points of the Halton sequence 0, 1/2, 1/4, ... and 0, 1/3, 2/3, ... plus an offset.
    y, x = places(4, 0)
    offset_y, offset_x = int(y[0]), int(x[0])
    assert (offset_y, offset_x) == (3493329091, 3226943899)
    assert ((y.astype(np.int64) - offset_y) % 2**32).tolist() == [0, 1 << 31, 1 << 30, 3 << 30]
    thirds = [index * 2**32 // 9 for index in (0, 3, 6, 1)]
    assert ((x.astype(np.int64) - offset_x) % 2**32).tolist() == thirds


def test_over_seeds_every_part_of_the_image_is_as_likely() -> None:
    drawn = np.array([[int(axis[0]) / UNIT for axis in places(1, seed)] for seed in range(2000)])
    counts, *_ = np.histogram2d(drawn[:, 0], drawn[:, 1], bins=4, range=[[0, 1], [0, 1]])
    # Chi-squared with 15 degrees of freedom exceeds 44.3 once in ten thousand.
    assert ((counts - 125) ** 2 / 125).sum() < 44.3


def test_places_are_spread_so_that_few_cells_are_taken_twice() -> None:
    for seed in range(20):
        y, x = SampledPositions(49, seed).sites(grid(1, 14, 14)).indices  # type: ignore[union-attr] # it has positions
        assert len(set(zip(y.tolist(), x.tolist(), strict=True))) >= 47
