import numpy as np
import pytest
import torch

from outcrop.capture.numpy_threads import numpy_threads
from outcrop.numerics.kernels.products import centred_gram, flatten_samples, full_precision, symmetric_product


def exact(values):
    flat = values.double().flatten(1)
    flat = flat - flat.mean(0)
    return flat @ flat.T


def relative(found, values):
    true = exact(values)
    return float((torch.ldexp(found.gram, torch.tensor(found.exponent)) - true).abs().max() / true.abs().max())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 3, 63, 64, 65, 129])
def test_the_mirrored_product_is_the_product(rows, threads):
    x = torch.randn(rows, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with numpy_threads(threads):
            torch.testing.assert_close(symmetric_product(x), x @ x.T)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.filterwarnings("error")
def test_the_mirrored_product_takes_any_strides_and_values(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        values = torch.randn(70, 30, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
        for x in (values.conj().imag, values.real[:, 3:17], values.real.T.contiguous().T):
            with numpy_threads(threads):
                torch.testing.assert_close(symmetric_product(x), x @ x.T)
        large = values.real.float() * 1e30
        large[0, 0], large[1, 1] = torch.inf, torch.nan
        with numpy_threads(threads):
            found, expected = symmetric_product(large), large @ large.T
        torch.testing.assert_close(found.isfinite(), expected.isfinite())
        assert found[2, 3].isinf() == expected[2, 3].isinf()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("offset", [0.0, 1.0, 10.0, 100.0, 1000.0])
def test_no_offset_costs_the_digits_of_the_variance(offset):
    values = torch.randn(128, 300, generator=torch.Generator().manual_seed(0)) + offset
    assert relative(centred_gram(values), values) < 2e-6


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        (1e25, torch.float32),
        (1e-25, torch.float32),
        (1e100, torch.float64),
        (1e200, torch.float64),
        (1e-200, torch.float64),
    ],
)
def test_squares_outside_the_range_of_the_type_are_scaled_by_powers_of_two(size, dtype):
    plain = torch.randn(32, 50, generator=torch.Generator().manual_seed(0)).to(dtype)
    found, expected = centred_gram(plain * size), exact(plain)
    scale = float(np.ldexp(1.0, found.exponent // 2)) / size
    np.testing.assert_allclose(found.gram.numpy() * scale * scale, expected.numpy(), atol=1e-5 * expected.abs().max())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_whose_gram_would_overflow_is_widened(dtype):
    values = (torch.randn(16, 400, generator=torch.Generator().manual_seed(0)) * 200).to(dtype)
    assert not torch.isfinite(values.to(torch.float16) @ values.to(torch.float16).T).all()
    assert relative(centred_gram(values), values) < 1e-5


def test_integers_too_long_for_single_precision_keep_their_digits():
    values = torch.arange(12).reshape(6, 2) + 2**40
    assert relative(centred_gram(values), values) < 1e-9


def test_complex_values_count_as_pairs_of_real_ones():
    values = torch.randn(6, 5, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    assert relative(centred_gram(values), torch.view_as_real(values)) < 1e-6
    assert relative(centred_gram(values.conj()), torch.view_as_real(values)) < 1e-6


def test_non_finite_values_are_counted_and_give_a_zero_matrix():
    values = torch.zeros(6, 5)
    values[1, 2], values[3, 4] = float("nan"), float("inf")
    found = centred_gram(values)
    assert found.non_finite == 2
    assert not found.gram.any()


def test_one_component_of_nearly_all_variance_costs_the_rest_no_digits():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(100, 60, generator=generator) + 3
    values[::20] += 3e4 * torch.randn(60, generator=generator)
    found = centred_gram(values)
    torch.testing.assert_close(found.gram, exact(values), rtol=1e-12, atol=1e-4)
    assert found.noise < 1e-11
    assert centred_gram(torch.randn(100, 60, generator=generator)).noise > 1e-7


def test_constant_features_have_no_variance_share():
    found = centred_gram(torch.full((64, 100), 0.1))
    assert found.variance_share < 1e-14
    assert centred_gram(torch.zeros(8, 3)).variance_share == 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_tensors_of_either_layout_are_flattened_without_a_copy(layout):
    values = torch.randn(4, 3, 5, 6).contiguous(memory_format=layout)
    flat = flatten_samples(values)
    assert flat.shape == (4, 90)
    assert flat.data_ptr() == values.data_ptr()


def test_one_number_per_sample_is_one_feature():
    assert flatten_samples(torch.arange(4.0)).shape == (4, 1)


def test_the_values_are_left_as_they_are():
    values = torch.randn(16, 8) + 100
    before = values.clone()
    centred_gram(values)
    assert torch.equal(values, before)


def test_autocast_and_reduced_products_stay_outside():
    torch.set_float32_matmul_precision("medium")
    try:
        x = torch.randn(128, 200) + 100
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert relative(centred_gram(x), x) < 2e-6
        with full_precision(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("offset", [0.0, 2.0, 100.0])
def test_samples_of_unit_norm_have_their_cosines_and_their_row_means(offset):
    values = torch.randn(40, 30, generator=torch.Generator().manual_seed(0)) + offset
    values[3] *= 1e-25
    values[7] = 0
    found = centred_gram(values, unit_norm=True)
    unit = torch.nn.functional.normalize(values.double(), dim=1, eps=1e-60)
    cosines = unit @ unit.T
    torch.testing.assert_close(found.gram, exact(unit), rtol=0, atol=2e-6 * float(exact(unit).abs().max()))
    expected = cosines.mean(1) - cosines.mean()
    torch.testing.assert_close(found.row_means - found.row_means.mean(), expected, rtol=0, atol=1e-6)
    assert found.exponent == 0
    assert centred_gram(values).row_means is None


@pytest.mark.parametrize("offset", [0.0, 5.0, 300.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_features_that_are_centred_at_once_give_what_they_give_otherwise(offset, dtype):
    values = (torch.randn(70, 4000, generator=torch.Generator().manual_seed(0)) + offset).to(dtype)
    plain, expecting = centred_gram(values), centred_gram(values, expect_offset=True)
    assert plain.offset == expecting.offset == (offset > 0)
    assert relative(expecting, values.double()) < 2e-6
    for name in ("trace", "variance_share"):
        assert getattr(expecting, name) == pytest.approx(getattr(plain, name), rel=1e-4)
    assert (expecting.exponent, expecting.non_finite, expecting.product_epsilon) == (0, 0, plain.product_epsilon)


def test_an_offset_that_was_expected_and_is_not_there_or_out_of_range_does_no_harm():
    values = torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
    for size in (1e-25, 1e25):
        found = centred_gram(values * size, expect_offset=True)
        assert found.exponent != 0
        assert relative(found, values.double() * size) < 1e-5
    broken = values.clone()
    broken[3, 3] = torch.nan
    assert centred_gram(broken, expect_offset=True).non_finite == 1
    assert centred_gram(torch.zeros(8, 3), expect_offset=True).variance_share == 0
