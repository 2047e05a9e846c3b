"""The influence of samples, streamed: from any source, and in parts."""

from outcrop.numerics import InfluenceAccumulator
from outcrop.testing import AccumulatorTests

BLOCK = (("first", "layer0"), ("first", "layer2"), ("first", "layer3"))
PAIR = (("first", "layer1"), ("second", "layer1"))


class TestOfBlocks(AccumulatorTests):
    def make(self) -> InfluenceAccumulator:
        return InfluenceAccumulator([BLOCK, PAIR], group_size=32)


class TestOfAnotherKernel(AccumulatorTests):
    def make(self) -> InfluenceAccumulator:
        widths = {key: 4.0 + place for place, key in enumerate((*BLOCK, *PAIR))}
        return InfluenceAccumulator([BLOCK, PAIR], group_size=32, kernel="rbf", bandwidths=widths)
