import numpy as np
import pytest

from outcrop.errors import ParameterError
from outcrop.numerics import GramAccumulator


def test_wrong_settings_are_refused():
    with pytest.raises(ParameterError, match="group_size must be at least 4, which HSIC1 needs; got 3"):
        GramAccumulator(group_size=3)
    with pytest.raises(ParameterError, match="passes must be at least 1; got 0"):
        GramAccumulator(passes=0)


def test_options_out_of_range_or_against_each_other_are_refused():
    with pytest.raises(ParameterError, match="Unknown kernel 'rfb': choose linear, rbf, cosine"):
        GramAccumulator(kernel="rfb")
    for wrong in (0.0, float("inf"), float("nan")):
        with pytest.raises(ParameterError, match=f"fraction of the median distance and must be above 0; got {wrong}"):
            GramAccumulator(kernel="rbf", bandwidth=wrong)
    with pytest.raises(ParameterError, match="bandwidths are those of the rbf kernel; got kernel 'cosine'"):
        GramAccumulator(kernel="cosine", bandwidths={("m", "l"): 1.0})
    with pytest.raises(ParameterError, match="bandwidth of layer 'l' of model 'm' must be finite .* got -1.0"):
        GramAccumulator(kernel="rbf", bandwidths={("m", "l"): -1.0})
    projections = {("m", "l"): np.zeros(5)}
    with pytest.raises(ParameterError, match="only the linear kernel has; got kernel 'rbf'"):
        GramAccumulator(kernel="rbf", projections=projections)
    with pytest.raises(ParameterError, match="principal_component=False that none is; choose one"):
        GramAccumulator(principal_component=False, projections=projections)
    with pytest.raises(ParameterError, match="layer 'l' of model 'm' must be one number per sample; .* \\(5, 2\\)"):
        GramAccumulator(projections={("m", "l"): np.zeros((5, 2))})
