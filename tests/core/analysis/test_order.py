"""The order of samples that a context tells is the one in which it streams them."""

import numpy as np

from outcrop import Context
from outcrop.capture.source import LiveSource
from outcrop.numerics import GramAccumulator
from outcrop.testing import ArrayModel, IndexData, noise_layers


class Listening(GramAccumulator):
    """Remembers which samples come."""

    seen: list[int]

    def take(self, model, layer, sample_index, reduced):
        self.seen.extend(sample_index.tolist() if layer.index == 0 else [])
        super().take(model, layer, sample_index, reduced)


def test_each_pass_shows_the_samples_in_the_order_told_before():
    model = ArrayModel("net", noise_layers(samples=50))
    context = Context([LiveSource(model, model.layers, IndexData(50))], sample_count=50, seed=4)
    listening = Listening(group_size=16, passes=2)
    listening.seen = []
    context.stream(listening, batch_size=16)
    np.testing.assert_array_equal(listening.seen, np.concatenate([context.order(), context.order(1)]))
