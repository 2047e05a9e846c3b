"""Dimension names with one meaning each, over all kinds."""

from collections.abc import Mapping

DIMENSIONS: Mapping[str, str] = {
    "alpha": "position on a path in weight space, from 0 to 1",
    "block": "blocks of similar layers, over all models",
    "bootstrap": "bootstrap replicates",
    "channel": "channels of an image or feature map",
    "class_name": "classes of the samples",
    "component": "principal components, by descending variance",
    "feature": "features of a vector",
    "fraction": "shares of the samples that are left out",
    "layer": "layers of all models, one model after the other",
    "layer_a": "layers of all models, first of a pair",
    "layer_b": "layers of all models, second of a pair",
    "match": "matched pairs of units",
    "model": "models",
    "sample": "samples of a dataset",
    "seed": "random seeds",
    "selection": "rules by which samples are left out",
    "statistic": "numbers that describe each sample",
    "step": "training steps",
    "stimulus": "synthetic stimuli",
    "token": "tokens of a sequence",
    "unit": "units (neurons or channels) of a layer",
    "width": "widths of a network",
    "x": "columns of an image or feature map",
    "y": "rows of an image or feature map",
}
"""Meaning of every reserved dimension. A plugin's kind may add names of its own, not other meanings of these."""
