"""Images that the zoo's networks are trained and tested on, as ``zoo:NAME`` of outcrop's data."""

from outcrop_zoo.data_sources.sources import load_zoo_data

__all__ = ["load_zoo_data"]
