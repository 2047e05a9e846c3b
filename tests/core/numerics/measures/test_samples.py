import numpy as np
import pytest
import torch

from outcrop.errors import InputError
from outcrop.numerics.measures.samples import features_of, matched_features, resolution


def test_arrays_and_tensors_are_flattened_and_keep_their_type_where_numpy_has_it():
    tensor = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    for values in (tensor, tensor.half(), tensor.bfloat16(), tensor.numpy(), tensor.tolist(), tensor.requires_grad_()):
        found = features_of(values, "x", measure="CKA")
        np.testing.assert_array_equal(found, np.arange(24).reshape(2, 12))
    assert features_of(tensor.half(), "x", measure="CKA").dtype == np.float16
    assert features_of(tensor.bfloat16(), "x", measure="CKA").dtype == np.float32


def test_an_array_of_two_dimensions_is_not_copied():
    values = np.ones((4, 3), dtype=np.float32)
    assert np.shares_memory(features_of(values, "x", measure="CKA"), values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([["a"]], "Distance takes real numbers; y holds values of type <U1"),
        (np.ones(3, dtype=complex), "Distance takes real numbers; y holds values of type complex128"),
        (1.0, r"Distance takes arrays \(sample, ...\); y is a single number"),
        ([1.0, np.nan, np.inf], "Distance needs finite values; 2 of the 3 values of y are NaN or infinite"),
    ],
)
def test_what_is_no_finite_number_is_refused_by_name(values, words):
    with pytest.raises(InputError, match=words):
        features_of(values, "y", measure="Distance")


def test_samples_must_match_and_be_enough():
    with pytest.raises(InputError, match="Distance compares representations of the same samples; x has 3 .* y has 4"):
        matched_features(np.ones(3), np.ones(4), measure="Distance", least=2)
    with pytest.raises(InputError, match="Distance needs at least 4 samples; got 3"):
        matched_features(np.ones(3), np.ones(3), measure="Distance", least=4)


def test_the_resolution_is_that_of_the_type():
    expected = {torch.float64: 2**-52, torch.float32: 2**-23, torch.float16: 2**-10, torch.bfloat16: 2**-7}
    for dtype, spacing in {**expected, torch.int64: 2**-52, torch.bool: 2**-52}.items():
        assert resolution(torch.ones(3).to(dtype)) == spacing
    assert resolution(np.ones(3, dtype=np.float16)) == 2**-10
    assert resolution([1, 2]) == resolution([True]) == 2**-52
