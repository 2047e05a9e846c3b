"""The kinds of results that outcrop itself declares."""

from collections.abc import Mapping

from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds.association import ASSOCIATION
from outcrop_schemas.kinds.blocks import BLOCKS
from outcrop_schemas.kinds.dominance import DOMINANCE
from outcrop_schemas.kinds.dominance_reference import DOMINANCE_REFERENCE
from outcrop_schemas.kinds.influence import INFLUENCE
from outcrop_schemas.kinds.overlap import OVERLAP
from outcrop_schemas.kinds.pairwise import PAIRWISE
from outcrop_schemas.kinds.per_layer import PER_LAYER
from outcrop_schemas.kinds.probe_response import PROBE_RESPONSE
from outcrop_schemas.kinds.probe_verdict import PROBE_VERDICT
from outcrop_schemas.kinds.projections import PROJECTIONS
from outcrop_schemas.kinds.removal import REMOVAL
from outcrop_schemas.kinds.removal_layers import REMOVAL_LAYERS
from outcrop_schemas.kinds.removal_maps import REMOVAL_MAPS
from outcrop_schemas.kinds.trajectory import TRAJECTORY

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        ASSOCIATION,
        BLOCKS,
        DOMINANCE,
        DOMINANCE_REFERENCE,
        INFLUENCE,
        OVERLAP,
        PAIRWISE,
        PER_LAYER,
        PROBE_RESPONSE,
        PROBE_VERDICT,
        PROJECTIONS,
        REMOVAL,
        REMOVAL_LAYERS,
        REMOVAL_MAPS,
        TRAJECTORY,
    )
}
"""All of them by name."""

__all__ = [
    "ASSOCIATION",
    "BLOCKS",
    "DOMINANCE",
    "DOMINANCE_REFERENCE",
    "INFLUENCE",
    "KINDS",
    "OVERLAP",
    "PAIRWISE",
    "PER_LAYER",
    "PROBE_RESPONSE",
    "PROBE_VERDICT",
    "PROJECTIONS",
    "REMOVAL",
    "REMOVAL_LAYERS",
    "REMOVAL_MAPS",
    "TRAJECTORY",
]
