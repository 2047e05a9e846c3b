"""What a :class:`outcrop.numerics.GramAccumulator` is asked for, checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.errors import ParameterError
from outcrop.numerics.kernels.gram_matrix import Kernel, check_kernel
from outcrop.numerics.kernels.hsic import LEAST_SAMPLES

LayerKey = tuple[str, str]
"""Model and layer name."""


@dataclass(frozen=True, eq=False)
class GramOptions:
    """Checked settings; two accumulators of equal settings can be merged.

    Attributes: see :class:`outcrop.numerics.GramAccumulator`.

    Raises:
        ParameterError: An option out of its range, or options that exclude each other.
    """

    group_size: int
    passes: int
    principal_component: bool
    group_limit: int
    kernel: Kernel
    bandwidth: float
    remove_input: bool
    projections: Mapping[LayerKey, NDArray[np.float64]] | None
    bandwidths: Mapping[LayerKey, float] | None

    def __post_init__(self) -> None:
        if self.group_size < LEAST_SAMPLES:
            raise ParameterError(
                f"group_size must be at least {LEAST_SAMPLES}, which HSIC1 needs; got {self.group_size}."
            )
        if self.passes < 1:
            raise ParameterError(f"passes must be at least 1; got {self.passes}.")
        check_kernel(self.kernel)
        if not 0 < self.bandwidth < math.inf:
            raise ParameterError(
                f"bandwidth is a fraction of the median distance and must be above 0; got {self.bandwidth}."
            )
        self._check_bandwidths()
        self._check_projections()

    def settings(self) -> dict[str, object]:
        """Return what must agree between accumulators that are merged, projections and bandwidths aside."""
        return {
            "group_size": self.group_size,
            "passes": self.passes,
            "principal_component": self.principal_component,
            "kernel": self.kernel,
            "bandwidth": self.bandwidth,
            "remove_input": self.remove_input,
            "projections": "none" if self.projections is None else f"of {len(self.projections)} layers",
        }

    def same_projections(self, other: "GramOptions") -> bool:
        """Return whether the same projections are removed."""
        mine, theirs = self.projections, other.projections
        if mine is theirs:
            return True
        if mine is None or theirs is None or mine.keys() != theirs.keys():
            return False
        return all(np.array_equal(mine[key], theirs[key], equal_nan=True) for key in mine)

    def _check_bandwidths(self) -> None:
        if self.bandwidths is None:
            return
        if self.kernel != "rbf":
            raise ParameterError(f"bandwidths are those of the rbf kernel; got kernel {self.kernel!r}. Leave them out.")
        for (model, layer), value in self.bandwidths.items():
            if not 0 <= value < math.inf:
                raise ParameterError(
                    f"The bandwidth of layer {layer!r} of model {model!r} must be finite and not negative; got {value}."
                )

    def _check_projections(self) -> None:
        if self.projections is None:
            return
        if self.kernel != "linear":
            raise ParameterError(
                f"projections are on a direction in feature space, which only the linear kernel has; got kernel "
                f"{self.kernel!r}."
            )
        if not self.principal_component:
            raise ParameterError(
                "projections say which component is removed and principal_component=False that none is; choose one."
            )
        for (model, layer), values in self.projections.items():
            shape: Any = np.shape(values)
            if len(shape) != 1:
                raise ParameterError(
                    f"The projections of layer {layer!r} of model {model!r} must be one number per sample; got an "
                    f"array of shape {shape}."
                )
