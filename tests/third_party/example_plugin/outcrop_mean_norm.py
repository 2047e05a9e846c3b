"""An outcrop plugin: the mean Euclidean norm of every layer's activations."""

from collections import Counter
from typing import ClassVar

import outcrop
from outcrop_schemas import KINDS, Variable

NORM = Variable("mean_norm", ("layer",), "float", "mean Euclidean norm of a sample", minimum=0, nullable=True)
KIND = KINDS["per_layer"].extend("mean_norm.per_layer", [NORM])


class Norms(outcrop.Accumulator):
    def __init__(self):
        self.sums = Counter()

    def update(self, model, layer, sample_index, values):
        self.sums[model, layer] += values.flatten(1).double().norm(dim=1).sum().item()

    def merge(self, other):
        self.sums.update(other.sums)

    def finish(self):
        return self.sums


class MeanNorm(outcrop.Analysis):
    name = "mean-norm"
    summary = "Mean Euclidean norm of every layer's activations."
    version = "1.0"
    produces: ClassVar = {"per_layer": KIND.name}

    def run(self, context, parameters):
        import xarray as xr

        norms = Norms()
        context.stream(norms, batch_size=64)
        keys = [(model, layer) for model, layers in context.models.items() for layer in layers]
        means = [norms.finish()[key] / context.sample_count for key in keys]
        return xr.Dataset({"mean_norm": ("layer", means)}, context.layer_coordinates())


@outcrop.hookimpl
def outcrop_analyses():
    return [MeanNorm]


@outcrop.hookimpl
def outcrop_schemas():
    return [KIND]
