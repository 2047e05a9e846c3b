"""Where each model is judged; all of it is core's, which other analyses of the same blocks share."""

from outcrop.analysis.references import NO_LAYER, Reference, find_references, searched_layers

__all__ = ["NO_LAYER", "Reference", "find_references", "searched_layers"]
