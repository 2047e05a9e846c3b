"""The leading principal components of one layer, by block Lanczos iteration over streamed samples."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from outcrop.numerics.components.component_statistics import LayerResult
from outcrop.numerics.components.feature_order import FeatureOrder, real
from outcrop.numerics.components.lanczos import Solution, orthonormal, ritz_pairs
from outcrop.numerics.kernels.products import ROUNDING, full_precision

CHUNK = 1 << 19
"""Values centred at a time: 2 MiB, which a cache holds through both products."""

DEVICE_CHUNK = 1 << 24  # on an accelerator
DOMINANT = 0.95
"""Share of a random sketch's variance in one direction, from which a layer is iterated in float64.

What single precision rounds is a share of the whole, so beside one dominant component the others would drown in it.
"""

OFFSET = 1e-2
"""Share of variance in the squared norms, below which features are taken from their mean in float64.

The mean itself is rounded in single precision: by up to 6e-7 of the deviations, at this share.
"""

# Beyond these, squares leave the range of float32, or its full precision.
_LARGEST, _SMALLEST = 1e12, 1e-12


@dataclass
class LayerComponents:
    """Sums over the samples of a pass for one layer, and the Lanczos basis that they are taken with.

    With ``A`` the sum of squares and products of the mean-free features, each pass gives ``A V`` for the newest basis
    vectors ``V`` (feature, vector; kept transposed) and the rows ``X V``; the next are what ``A V`` holds beside the
    basis so far (Golub and Underwood 1977; Golub and Van Loan 2013, section 10.3.6). Of the earlier vectors only their
    rows are kept, which make up the components' projections.

    Centring needs no pass of its own. Features are taken from a shift near their mean, that of the first group, and
    what is left of the mean is removed from the sums afterwards, exactly: with ``d`` the mean of the shifted
    features and ``p`` the mean row, ``A V = sum x (x' V) - n d p'``.

    Attributes:
        vectors: Basis vectors of a pass.
        seed: Of the start.
        precise: Whether products are taken in float64 from the start.
    """

    vectors: int
    seed: int
    precise: bool = False
    order: FeatureOrder | None = None
    dtype: torch.dtype = torch.float32
    resolution: float = 0.0
    passes: int = 1
    non_finite: int = 0
    samples: int = 0
    spoilt: bool = False
    shift: Tensor | None = None
    basis: Tensor = field(default_factory=lambda: torch.empty(0))
    product: Tensor = field(default_factory=lambda: torch.empty(0))
    drift: Tensor = field(default_factory=lambda: torch.empty(0))
    rows: list[Tensor] = field(default_factory=list)
    squares: list[Tensor] = field(default_factory=list)
    history: list[Tensor] = field(default_factory=list)
    diagonals: list[Tensor] = field(default_factory=list)
    couplings: list[Tensor] = field(default_factory=list)

    @property
    def features(self) -> int:
        """Return the number of features of a sample."""
        return self.order.features if self.order else 0

    @property
    def complete(self) -> bool:
        """Return whether the basis spans all features, so that one pass is exact."""
        return self.features <= self.vectors

    def update(self, values: Float[Tensor, "sample ..."]) -> None:
        """Take the values of one group of samples."""
        self.samples += len(values)
        if self.spoilt and self.passes > 1:
            return
        values = real(values)
        if self.order is None:
            self.order = FeatureOrder.of(values)
        features = self.order.flatten(values)
        with full_precision(features.device):
            if self.shift is None:
                self._begin(features)
            rows, squares = self._rows(features, self.dtype)
            dtype = self.dtype
            if not _finite(rows, squares):
                bad = features.numel() - int(torch.isfinite(features).sum())
                if not bad:
                    dtype = torch.float64
                    rows, squares = self._rows(features, dtype)
                if bad or not _finite(rows, squares):
                    self.non_finite += bad
                    self.spoilt = True
                    return
            if not self.spoilt:
                self._add(features, rows, dtype)
                self.rows.append(rows.cpu())
                self.squares.append(squares.cpu())

    def copy(self) -> "LayerComponents":
        """Return a layer of the same sums that can be added to on its own."""
        return replace(
            self,
            product=self.product.clone(),
            drift=self.drift.clone(),
            rows=list(self.rows),
            squares=list(self.squares),
        )

    def merge(self, other: Self) -> None:
        """Add the sums of other samples, taken with the same basis."""
        self.samples += other.samples
        self.non_finite += other.non_finite
        self.spoilt |= other.spoilt
        self.resolution = max(self.resolution, other.resolution)
        if self.spoilt or other.shift is None or self.shift is None:
            return
        if self.dtype != other.dtype:
            self.dtype = torch.float64
        assert self.order is not None
        assert other.order is not None
        stacked = torch.cat([other.shift[None], other.drift[None], other.product])
        theirs = self.order.from_named(other.order.to_named(stacked)).to(self.basis)
        moved, drift, product = theirs[0] - self.shift, theirs[1], theirs[2:]
        along = self.basis @ moved
        counted = sum(len(part) for part in other.rows)
        total = sum((part.sum(0) for part in other.rows), torch.zeros(len(along), dtype=torch.float64))
        self.product += product + torch.outer(along, drift) + torch.outer(total.to(along) + counted * along, moved)
        if other.rows:
            self.rows.append(torch.cat(other.rows) + along.cpu())
            # Shifts differ in the first pass only, which uses no more than the sum: sum |x + m|^2 = sum |x|^2 + 2 m d
            # + n |m|^2, with d the sum of x.
            moving = float(2 * moved @ drift) / counted + float(moved @ moved)
            self.squares.append(torch.cat(other.squares) + moving)
        self.drift += drift + counted * moved

    def solve(self, order: Tensor) -> Solution | None:
        """Return Ritz values and vectors of all passes so far; None where there is no variance or no finite value.

        Args:
            order: Where each sample, in order of position, stands among those that came.
        """
        if self.spoilt or self.shift is None:
            return None
        total, size = self._varied()
        if not total > (2 * self.resolution) ** 2 * size:
            return None
        rows = torch.cat(self.rows)[order]
        rows = rows - rows.mean(0)
        diagonal = rows.T @ rows
        values, weights = ritz_pairs([*self.diagonals, diagonal], self.couplings)
        outside = self._outside(diagonal)
        last = weights[-len(diagonal) :]
        residuals = (((outside @ outside.T).cpu() @ last) * last).sum(0).clamp(min=0).sqrt()
        squares = rows.square().sum(1) if self.complete else torch.cat(self.squares)[order]
        return Solution(values, weights, residuals / values[0], rows, diagonal, squares)

    def result(self, solution: Solution | None, count: int) -> LayerResult:
        """Return what is kept of the layer, of as many components as asked for."""
        share, residual = np.full(count, np.nan), np.full(count, np.nan)
        if solution is None:
            unknown = np.full(self.samples, np.nan)
            return LayerResult(share, residual, unknown, unknown, self.passes, True, self.non_finite, self.features)
        projections = torch.cat([*self.history, solution.rows], dim=1) @ solution.weights[:, 0]
        # Components are pairs of a sign; cubes choose one that neither rounding nor the start decides.
        if float(projections.pow(3).sum()) < 0:
            projections = -projections
        known = min(count, len(solution.values), self.features, len(projections) - 1)
        share[:known] = (solution.values / solution.distances.sum())[:known]
        residual[:known] = solution.residuals[:known]
        norms = solution.distances.sqrt().numpy()
        found = projections.numpy()
        return LayerResult(share, residual, found, norms, self.passes, False, self.non_finite, self.features)

    def advance(self, solution: Solution) -> None:
        """Take up the next basis vectors and forget the sums of the pass."""
        assert self.shift is not None
        samples = len(solution.rows)
        outside = self._outside(solution.diagonal)
        scale = float(solution.values[0])
        single = self.passes == 1 and self.dtype == torch.float32
        noise = ROUNDING * torch.finfo(self.dtype).eps * scale
        total, size = self._varied()
        self.shift = self.shift + self.drift / samples
        if single and total < OFFSET * size:
            self.dtype = torch.float64
        if single and scale >= DOMINANT * float(solution.diagonal.trace()):
            self.dtype = torch.float64
            # Rows in single precision must not enter; the product, a step of power iteration, is the better start.
            self.basis = orthonormal(outside + solution.diagonal.to(self.basis) @ self.basis, 0.0)
            self.product = torch.zeros_like(self.basis)
        else:
            following = orthonormal(outside, noise)
            coupling = following @ outside.T
            # From here on ``product`` collects ``A V`` less what the vectors of this pass hold of it.
            self.product = -(coupling @ self.basis)
            self.basis = following
            self.history.append(solution.rows)
            self.diagonals.append(solution.diagonal)
            self.couplings.append(coupling.cpu())
        self._forget()
        self.passes += 1

    def worker(self) -> "LayerComponents":
        """Return a layer that takes other samples of the same pass; it shares the basis."""
        made = replace(self, non_finite=0, product=torch.zeros_like(self.product))
        made._forget()
        return made

    def _forget(self) -> None:
        self.drift = torch.zeros_like(self.drift)
        self.rows, self.squares, self.samples = [], [], 0

    def _begin(self, features: Tensor) -> None:
        """Choose shift and start by the first group."""
        parts = [features[:, columns].mean(0, dtype=torch.float64) for columns in self._columns(features)]
        wide = torch.device("cpu") if features.device.type == "mps" else features.device
        shift = torch.cat(parts) if parts else features.new_zeros(0, dtype=torch.float64)
        self.shift = torch.nan_to_num(shift, 0.0, 0.0, 0.0).to(wide)
        self.resolution = float(torch.finfo(features.dtype).eps)
        largest = float(features.abs().max()) if features.numel() else 0.0
        out_of_range = not _SMALLEST < largest < _LARGEST
        self.dtype = torch.float64 if self.precise or self.complete or out_of_range else features.dtype
        # The start is that of the features in the order of their dimensions, whatever their order in memory.
        if self.complete:
            start = torch.eye(self.features, dtype=torch.float64)
        else:
            generator = torch.Generator().manual_seed(self.seed)
            start = torch.randn(self.vectors, self.features, dtype=torch.float64, generator=generator)
            start = orthonormal(start, 0.0)
        assert self.order is not None
        self.basis = self.order.from_named(start).to(wide)
        self.product = torch.zeros_like(self.basis)
        self.drift = torch.zeros_like(self.shift)

    def _rows(self, features: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return shifted features times the basis, and their squared norms."""
        rows = self.basis.new_zeros(len(self.basis), len(features))
        squares = self.basis.new_zeros(len(features))
        for columns, part in self._parts(features, dtype):
            # The few basis vectors come first, in rows: so is the product many times faster than the other way round.
            rows += self.basis[:, columns].to(dtype) @ part.T
            squares += torch.linalg.vector_norm(part, dim=1).to(squares).square()
        return rows.T, squares

    def _add(self, features: Tensor, rows: Tensor, dtype: torch.dtype) -> None:
        counted = torch.cat([rows.T, rows.new_ones(1, len(rows))]).to(dtype)
        for columns, part in self._parts(features, dtype):
            sums = counted @ part
            self.product[:, columns] += sums[:-1]
            self.drift[columns] += sums[-1]

    def _parts(self, features: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of features and their shifted values, which hold until the next."""
        assert self.shift is not None
        shift = self.shift.to(dtype)
        room: Tensor | None = None
        for columns in self._columns(features):
            part = features[:, columns].to(shift.device)
            if room is None:
                room = shift.new_empty(part.numel())
            yield columns, torch.sub(part, shift[columns], out=room[: part.numel()].view(part.shape))

    def _varied(self) -> tuple[float, float]:
        """Return the summed squared distances from the mean, and the summed squared norms, offset included."""
        assert self.shift is not None
        rest = self.drift / self.samples
        total = float(torch.cat(self.squares).sum()) - self.samples * float(rest.square().sum())
        return total, total + self.samples * float((self.shift + rest).square().sum())

    def _columns(self, features: Tensor) -> Iterator[slice]:
        chunk = CHUNK if features.device.type == "cpu" else DEVICE_CHUNK
        step = max(1, chunk // len(features))
        return (slice(start, start + step) for start in range(0, features.shape[1], step))

    def _outside(self, diagonal: Tensor) -> Tensor:
        """Return what the product of the newest basis vectors holds beside the basis so far (vector, feature)."""
        count = sum(len(part) for part in self.rows)
        mean = (sum((part.sum(0) for part in self.rows), torch.zeros(diagonal.shape[0])) / count).to(self.basis)
        outside = self.product - torch.outer(mean, self.drift) - diagonal.to(self.basis) @ self.basis
        return outside - (outside @ self.basis.T) @ self.basis


def _finite(rows: Tensor, squares: Tensor) -> bool:
    return bool(torch.isfinite(rows.sum() + squares.sum()))
