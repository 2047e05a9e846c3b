"""Gradient-free search for the point of a cube, such as a colour, that excites a network most."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

Objective = Callable[[Float[np.ndarray, "point dimension"]], NDArray[np.float64]]
"""Returns a value for every point of the unit cube; more is better, NaN is worst."""

STARTS = 3
"""Local maxima of the grid that are climbed from."""


@dataclass(frozen=True)
class Maximum:
    """The best point that was found.

    Attributes:
        point: From 0 to 1 in every dimension.
        value: Of the objective there; NaN where no point had one.
        evaluations: Points that were tried.
    """

    point: tuple[float, ...]
    value: float
    evaluations: int


class _Tried:
    """An objective that is asked about every point once."""

    def __init__(self, objective: Objective, resolution: float) -> None:
        self._objective = objective
        self._resolution = resolution
        self._values: dict[tuple[int, ...], float] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __call__(self, points: Float[np.ndarray, "point dimension"]) -> NDArray[np.float64]:
        keys = [tuple(np.round(point / self._resolution).astype(int).tolist()) for point in points]
        fresh = {key: point for key, point in zip(keys, points, strict=True) if key not in self._values}
        if fresh:
            values = self._objective(np.array(list(fresh.values())))
            self._values.update(zip(fresh, np.where(np.isnan(values), -np.inf, values).tolist(), strict=True))
        return np.array([self._values[key] for key in keys])


def find_maximum(
    objective: Objective, *, dimensions: int, steps: int, precision: float, resolution: float = 1e-6
) -> Maximum:
    """Return the best point of the unit cube: a coarse grid, then compass search from its best local maxima.

    Compass search (Kolda, Lewis and Torczon 2003, doi:10.1137/S003614450242889) tries the points one step away along
    every axis and diagonal, moves to the best where that is better, and else halves the step. It takes no derivative,
    never gets worse, and asks for all points of a step at once, so that they run as one batch. It finds a local
    maximum, from several starts most often the global one of a smooth response.

    Args:
        objective: What is to be large.
        dimensions: Of the cube.
        steps: Of the grid along each dimension, at least 2.
        precision: Step below which a climb ends.
        resolution: Points nearer than this count as one.

    Cost: ``steps ** dimensions`` points, and some ``log2(1 / (steps precision))`` rounds of ``2 d + 2 ** d`` for each
    of 3 starts.
    """
    tried = _Tried(objective, resolution)
    axis = np.linspace(0, 1, steps)
    grid = np.array(list(product(axis, repeat=dimensions)))
    values = tried(grid)
    spacing = 1 / (steps - 1)
    best, best_value = grid[values.argmax()], values.max()
    if np.isneginf(best_value):
        return Maximum(tuple(best.tolist()), float("nan"), len(tried))
    for start in _local_maxima(grid, values, spacing):
        point, value = _climb(tried, grid[start], values[start], step=spacing / 2, precision=precision)
        if value > best_value:
            best, best_value = point, value
    return Maximum(tuple(best.tolist()), float(best_value), len(tried))


def _climb(
    tried: _Tried, point: NDArray[np.float64], value: float, *, step: float, precision: float
) -> tuple[NDArray[np.float64], float]:
    moves = _moves(len(point))
    while step >= precision:
        around = np.clip(point + step * moves, 0, 1)
        values = tried(around)
        if values.max() > value:
            point, value = around[values.argmax()], values.max()
        else:
            step /= 2
    return point, value


def _moves(dimensions: int) -> Float[np.ndarray, "move dimension"]:
    """Return unit steps along the axes and, where there are several, the diagonals."""
    axes = np.concatenate([np.eye(dimensions), -np.eye(dimensions)])
    if dimensions == 1:
        return axes
    return np.concatenate([axes, np.array(list(product((-1.0, 1.0), repeat=dimensions))) / np.sqrt(dimensions)])


def _local_maxima(
    grid: Float[np.ndarray, "point dimension"], values: NDArray[np.float64], spacing: float
) -> Sequence[int]:
    """Return the best points of a grid of which no neighbour is better, best first."""
    chosen: list[int] = []
    for place in np.argsort(-values, kind="stable").tolist():
        near = np.abs(grid - grid[place]).max(axis=1) < 1.5 * spacing
        if np.isfinite(values[place]) and values[place] >= values[near].max() and not near[chosen].any():
            chosen.append(place)
        if len(chosen) == STARTS:
            break
    return chosen
