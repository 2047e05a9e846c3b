"""Search without derivatives, on functions whose maximum is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop_probes.search import find_maximum


def bowl(centre):
    return lambda points: -np.square(points - np.asarray(centre)).sum(axis=1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_the_top_of_a_bowl_is_found_wherever_it_is(centre):
    found = find_maximum(bowl(centre), dimensions=len(centre), steps=4, precision=1e-3)
    np.testing.assert_allclose(found.point, centre, atol=3e-3)
    assert found.value == pytest.approx(bowl(centre)(np.array([found.point]))[0])


def test_a_linear_response_has_its_maximum_at_a_corner():
    found = find_maximum(lambda points: points @ [1.0, -2.0, 3.0], dimensions=3, steps=3, precision=0.01)
    assert found.point == (1.0, 0.0, 1.0)
    assert found.value == 4.0


def test_an_edge_that_no_axis_follows_is_climbed():
    # Steep to both sides of a ridge along the diagonal: one coordinate at a time only falls.
    def ridge(points):
        x, y = points.T
        return x + y - 50 * np.abs(x - y) - 10 * np.maximum(0, x - 0.83)

    found = find_maximum(ridge, dimensions=2, steps=3, precision=1e-4)
    np.testing.assert_allclose(found.point, (0.83, 0.83), atol=1e-3)


def test_of_two_tops_the_higher_is_found_though_the_grid_sees_the_lower_better():
    def tops(points):
        low = 1 - 4 * np.square(points - 0.25).sum(axis=1)
        high = 1.5 - 40 * np.square(points - [0.88, 0.6]).sum(axis=1)
        return np.maximum(low, high)

    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 5)] * 2), axis=-1).reshape(-1, 2)
    assert np.linalg.norm(grid[tops(grid).argmax()] - 0.25) < 1e-9
    np.testing.assert_allclose(find_maximum(tops, dimensions=2, steps=5, precision=1e-3).point, (0.88, 0.6), atol=5e-3)


def test_no_point_is_asked_for_twice_and_all_are_counted():
    seen = []

    def objective(points):
        seen.extend(map(tuple, np.round(points * 255).astype(int).tolist()))
        return bowl((0.3, 0.7, 0.2))(points)

    found = find_maximum(objective, dimensions=3, steps=4, precision=2 / 255, resolution=1 / 255)
    assert len(seen) == len(set(seen)) == found.evaluations
    assert min(map(min, seen)) >= 0
    assert max(map(max, seen)) <= 255


def test_points_without_a_value_are_passed_over():
    def half(points):
        values = bowl((0.9,))(points)
        return np.where(points[:, 0] > 0.5, np.nan, values)

    assert find_maximum(half, dimensions=1, steps=3, precision=1e-3).point[0] == pytest.approx(0.5)
    nowhere = find_maximum(lambda points: np.full(len(points), np.nan), dimensions=2, steps=3, precision=0.1)
    assert np.isnan(nowhere.value)
    assert nowhere.evaluations == 9


def test_noise_is_searched_to_an_end():
    rng = np.random.default_rng(0)
    found = find_maximum(lambda points: rng.random(len(points)), dimensions=2, steps=4, precision=0.01)
    assert 0.8 < found.value <= 1
