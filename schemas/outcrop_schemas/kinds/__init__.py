"""The kinds of results that outcrop itself declares."""

from collections.abc import Mapping

from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds.blocks import BLOCKS
from outcrop_schemas.kinds.pairwise import PAIRWISE
from outcrop_schemas.kinds.per_layer import PER_LAYER
from outcrop_schemas.kinds.trajectory import TRAJECTORY

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (BLOCKS, PAIRWISE, PER_LAYER, TRAJECTORY)}
"""All of them by name."""

__all__ = ["BLOCKS", "KINDS", "PAIRWISE", "PER_LAYER", "TRAJECTORY"]
