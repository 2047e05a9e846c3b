"""Which samples dominate a layer: modes of projections, sets of samples, and what they share."""
