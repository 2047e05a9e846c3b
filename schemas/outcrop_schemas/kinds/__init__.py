"""The kinds of results that outcrop itself declares."""

from collections.abc import Mapping

from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds.blocks import BLOCKS
from outcrop_schemas.kinds.influence import INFLUENCE
from outcrop_schemas.kinds.pairwise import PAIRWISE
from outcrop_schemas.kinds.per_layer import PER_LAYER
from outcrop_schemas.kinds.projections import PROJECTIONS
from outcrop_schemas.kinds.trajectory import TRAJECTORY

KINDS: Mapping[str, Kind] = {
    kind.name: kind for kind in (BLOCKS, INFLUENCE, PAIRWISE, PER_LAYER, PROJECTIONS, TRAJECTORY)
}
"""All of them by name."""

__all__ = ["BLOCKS", "INFLUENCE", "KINDS", "PAIRWISE", "PER_LAYER", "PROJECTIONS", "TRAJECTORY"]
