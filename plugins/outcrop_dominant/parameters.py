"""Parameters of the ``dominant`` analysis."""

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from outcrop import Parameters

LEAST_BATCH = 4
"""Samples that unbiased CKA divides by."""


def _split(value: Any) -> Any:
    """Return ``0,0.1,0.5`` or ``[0, 0.1, 0.5]``, as the command line gives it, as a list."""
    return (
        [part.strip() for part in value.strip().removeprefix("[").removesuffix("]").split(",")]
        if isinstance(value, str)
        else value
    )


class DominantParameters(Parameters):
    """Parameters of the ``dominant`` analysis."""

    top_fraction: float = Field(
        0.05, gt=0, le=0.5, description="share of the samples taken as dominant where a layer's have no two modes"
    )
    reference: str = Field(
        "auto",
        min_length=1,
        description="layer on whose first component samples are ranked, by name or glob; auto is that of the largest "
        "share of variance in the block",
    )
    pooled: bool = Field(
        False, description="whether samples are ranked by their mean rank over the layers of the block instead"
    )
    fractions: Annotated[
        tuple[Annotated[float, Field(ge=0, lt=1)], ...], BeforeValidator(_split), Field(min_length=1)
    ] = Field(
        (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
        description="shares of the samples that the removal test leaves out (0,0.01,0.1); 0 is always among them",
    )
    random_replicates: int = Field(5, ge=1, le=100, description="draws of random samples that are left out as control")
    permutations: int = Field(
        2000,
        ge=99,
        le=100_000,
        description="shuffles of the dominant samples that a statistic's difference is held against",
    )
    logistic_permutations: int = Field(
        20, ge=0, le=10_000, description="shuffles that a prediction from all statistics together is held against"
    )
    batch_size: int = Field(
        256, ge=LEAST_BATCH, description="samples of a CKA batch; all samples where there are fewer"
    )

    @property
    def needed_samples(self) -> int:
        """Fewest samples: one of them dominant, and enough for CKA left in each half after the largest removal."""
        of_half = LEAST_BATCH / (1 - max(self.fractions))
        # Quotients of decimal fractions come out a last digit above whole numbers.
        return max(math.ceil(1 / self.top_fraction - 1e-6), 2 * math.ceil(of_half - 1e-6))
