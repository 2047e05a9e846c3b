"""Principal components of all layers over all samples, streamed, without a matrix of features or of samples."""

import hashlib
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from outcrop.capture.accumulator import Accumulator
from outcrop.errors import AnalysisError, ParameterError
from outcrop.models.model import Layer
from outcrop.numerics.components.component_layer import LayerComponents
from outcrop.numerics.components.component_statistics import (
    ComponentStatistics,
    LayerResult,
    participation,
    squared_cosines,
)
from outcrop.numerics.components.lanczos import Solution
from outcrop.numerics.stream.gram_options import LayerKey
from outcrop.numerics.stream.layer_rows import LayerRows, check_values

LEAST_TOLERANCE = 1e-12
"""Beyond it, rounding in double precision would be iterated on."""

SINGLE_TOLERANCE = 1e-6
"""Residual that products in single precision reach; for a smaller one all layers are iterated in double."""


class ComponentsAccumulator(Accumulator):
    """Finds the leading principal components of every layer over all samples (arXiv 2202.07184, section 4).

    Block Lanczos iteration on the scatter matrix of each layer's mean-free features, one multiplication for each
    pass; the first pass takes the mean too. Passes go on until the first component of every layer has a residual
    within the tolerance, or until there have been too many; layers that have converged rest. A component that dominates
    needs 2 to 4 passes, those of an untrained ResNet-18 (2 to 20 % of the variance) 4 to 10, a flat spectrum more: the
    residual tells. A layer of no more features than ``vectors`` is exact after one.

    Memory for each layer of p features: ``24 p vectors`` bytes on the features' device, and ``8 n vectors`` bytes for
    each pass and n samples; features themselves are held a few MiB at a time. Time for each pass: ``4 n p vectors``
    operations, twice that in bytes read. Products run in the type of the features (half precision is widened to
    float32) with sums in float64; layers with one dominant component, and all layers where the tolerance asks for
    it, run in float64. A mean that is large beside the deviations costs no digits.

    To spread a pass over workers, begin it on one accumulator, give each worker a :meth:`worker`, and merge these:
    parts that have gone through several passes each on their own have different components, and cannot be merged.

    Where all samples fit one Gram matrix, :class:`outcrop.numerics.GramAccumulator` in groups of all samples gives
    the same from one pass. Its ``n^2`` products for each feature cost more than these passes from about 500 samples
    on, and a network must run, or its values be gathered, in one group; so this is used for any number.

    A layer with values that are not finite is counted, reported and left out; it does not touch the others.
    """

    def __init__(
        self, *, count: int = 8, vectors: int = 8, tolerance: float = 1e-4, maximum_passes: int = 12, seed: int = 0
    ) -> None:
        """Prepare for the first pass.

        Args:
            count: Components whose shares are told.
            vectors: Basis vectors of a pass; more take more memory, and fewer passes.
            tolerance: Residual of the first component at which a layer is done. Its share is then off by about the
                square of it, its projections by the residual over the gap to the second component.
            maximum_passes: Passes after which results are given as they are, with their residuals.
            seed: Of the starting vectors, and so of the last digits of all results.

        Raises:
            ParameterError: An option out of its range.
        """
        if count < 1:
            raise ParameterError(f"count must be at least 1; got {count}.")
        if vectors < count:
            raise ParameterError(f"vectors must be at least count, {count}; got {vectors}.")
        if not LEAST_TOLERANCE <= tolerance < 1:
            raise ParameterError(f"tolerance must be from {LEAST_TOLERANCE:g} to below 1; got {tolerance:g}.")
        if maximum_passes < 2:
            raise ParameterError(
                f"maximum_passes must be at least 2, of which the first takes the means; got {maximum_passes}."
            )
        self.count = count
        self.vectors = vectors
        self.tolerance = tolerance
        self.maximum_passes = maximum_passes
        self.seed = seed
        self._pass = 0
        self._leads = True
        self._lineage = b""
        self._rows = LayerRows()
        self._sums: dict[LayerKey, LayerComponents] = {}
        self._found: dict[LayerKey, LayerResult] = {}
        self._positions: list[NDArray[np.int64]] = []
        self._all: NDArray[np.int64] | None = None
        self._solutions: dict[LayerKey, Solution | None] = {}

    def begin_pass(self, index: int) -> None:
        """Prepare for pass ``index`` over the samples, from 0."""
        if not self._leads or index <= self._pass:
            return
        solutions = self._solve()
        digest = hashlib.sha256(self._lineage)
        for key, solution in solutions.items():
            if solution is not None:
                digest.update(solution.values.numpy().tobytes())
            if solution is None or self._done(key, solution):
                self._found[key] = self._sums.pop(key).result(solution, self.count)
            else:
                self._sums[key].advance(solution)
        self._lineage = digest.digest()
        self._all = np.sort(np.concatenate(self._positions))
        self._solutions = {}
        self._positions = []
        self._pass = index

    def worker(self) -> "ComponentsAccumulator":
        """Return an accumulator that takes other samples of the pass that this one is in, to be merged into it."""
        made = ComponentsAccumulator(**self._settings())  # type: ignore[arg-type] # each of its own type
        made._pass, made._lineage, made._leads, made._all = self._pass, self._lineage, False, self._all
        if self._pass:
            made._rows, made._found = self._rows.copy(), self._found
            made._sums = {key: sums.worker() for key, sums in self._sums.items()}
        return made

    def update(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: Tensor) -> None:
        """Take the values (sample, ...) of one layer for one group.

        Raises:
            AnalysisError: Values and samples do not fit each other, or the layers change from group to group.
        """
        check_values(model, layer, sample_index, values)
        self._rows.take(model, layer, sample_index)
        key = (model, layer.name)
        if key not in self._sums and key not in self._found:
            self._sums[key] = LayerComponents(self.vectors, self.seed, precise=self.tolerance < SINGLE_TOLERANCE)
        if key in self._sums:
            self._sums[key].update(values)

    def end_batch(self) -> None:
        """Take note that every layer has seen the group.

        Raises:
            AnalysisError: A layer that earlier groups had is missing.
        """
        samples = self._rows.samples
        if samples is None:
            return
        self._rows.end_group()
        self._positions.append(samples)
        self._solutions = {}

    def needs_pass(self) -> bool:
        """Return whether another pass over the samples is wanted."""
        if not self._leads or not self._positions or self._pass + 1 >= self.maximum_passes:
            return False
        return not all(self._done(key, solution) for key, solution in self._solve().items())

    def merge(self, other: Self) -> None:
        """Add what another accumulator of the same settings, layers and pass has seen of other samples.

        Raises:
            AnalysisError: Settings, layers or passes differ.
        """
        mine, theirs = self._settings(), other._settings()
        if mine != theirs:
            raise AnalysisError(f"Only accumulators of the same settings can be merged; got {mine} and {theirs}.")
        if not other._positions:
            return
        if (self._positions or self._pass) and (self._lineage != other._lineage or (self._pass and other._leads)):
            raise AnalysisError(
                "Components of parts can only be merged within one pass: parts that each went through several have "
                "different ones. Begin each pass on one accumulator, give every part its worker(), and merge these."
            )
        if not self._positions and not self._pass:
            self._pass, self._lineage, self._all = other._pass, other._lineage, other._all
            self._rows, self._found = other._rows.copy(), dict(other._found)
            self._sums = {key: sums.copy() for key, sums in other._sums.items()}
            self._positions, self._solutions = list(other._positions), {}
            return
        self._rows.merge(other._rows)
        for key, sums in self._sums.items():
            sums.merge(other._sums[key])
        self._positions += other._positions
        self._solutions = {}

    def finish(self) -> ComponentStatistics:
        """Return the components of all layers.

        Raises:
            AnalysisError: There were no samples, or the passes did not have the same ones.
        """
        if not self._positions:
            raise AnalysisError("Components need samples; none came. Stream the layers first.")
        last = {key: self._sums[key].result(solution, self.count) for key, solution in self._solve().items()}
        found = {**self._found, **last}
        layers = tuple(self._rows.layers[row] for row in self._rows.topological())
        rows = [found[model, layer.name] for model, layer in layers]
        projections = np.stack([row.projections for row in rows])
        residual = np.stack([row.residual for row in rows])
        return ComponentStatistics(
            layers=layers,
            sample_index=np.sort(np.concatenate(self._positions)),
            share=np.stack([row.share for row in rows]),
            residual=residual,
            projections=projections,
            norms=np.stack([row.norms for row in rows]),
            effective_samples=participation(projections),
            alignment=squared_cosines(projections),
            passes=np.array([row.passes for row in rows]),
            converged=residual[:, 0] <= self.tolerance,
            degenerate=np.array([row.degenerate for row in rows]),
            non_finite_count=np.array([row.non_finite for row in rows]),
            feature_count=np.array([row.features for row in rows]),
        )

    def _settings(self) -> dict[str, int | float]:
        return {
            "count": self.count,
            "vectors": self.vectors,
            "tolerance": self.tolerance,
            "maximum_passes": self.maximum_passes,
            "seed": self.seed,
        }

    def _solve(self) -> dict[LayerKey, Solution | None]:
        """Return what the pass tells of the layers that still take part; None for those with nothing to iterate.

        Raises:
            AnalysisError: A sample came twice in the pass, or the pass has other samples than the first.
        """
        positions = np.concatenate(self._positions)
        order = np.argsort(positions)
        found = positions[order]
        repeated = found[1:][found[1:] == found[:-1]]
        if len(repeated):
            raise AnalysisError(f"Sample {repeated[0]} came twice in one pass; components take every sample once.")
        if self._all is not None and not np.array_equal(self._all, found):
            raise AnalysisError(
                f"Pass {self._pass + 1} had {len(found)} samples and the first {len(self._all)}, or not the same ones; "
                "components are of the samples that all passes have."
            )
        if not self._solutions:
            self._solutions = {key: sums.solve(torch.from_numpy(order)) for key, sums in self._sums.items()}
        return self._solutions

    def _done(self, key: LayerKey, solution: Solution | None) -> bool:
        if solution is None or self._sums[key].complete:
            return True
        # The first pass has no distances from the mean yet.
        return self._pass > 0 and float(solution.residuals[0]) <= self.tolerance
