from outcrop_mean_norm import MeanNorm, Norms

from outcrop.testing import AccumulatorTests, AnalysisTests


class TestMeanNorm(AnalysisTests):
    analysis = MeanNorm
    invariances = ("orthogonal", "sample_order")


class TestNorms(AccumulatorTests):
    def make(self):
        return Norms()
