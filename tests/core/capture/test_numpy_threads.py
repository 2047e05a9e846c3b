"""Numpy's products run on as many threads as contexts let them, and afterwards on as many as before."""

from collections.abc import Iterator

import numpy as np
import pytest
import threadpoolctl
import torch

from outcrop.capture.numpy_threads import numpy_has_one_thread, numpy_threads
from outcrop.numerics.kernels import products


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        yield


def limits() -> set[int]:
    return {one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"}


def test_the_least_of_overlapping_limits_holds_and_the_last_to_end_brings_all_threads_back() -> None:
    first, second, third = numpy_threads(2), numpy_threads(1), numpy_threads(8)
    for context, expected in ((first, 2), (second, 1), (third, 1)):
        context.__enter__()
        assert limits() == {expected}
    assert numpy_has_one_thread()
    for context, expected in ((first, 1), (second, 3), (third, 3)):
        context.__exit__(None, None, None)
        assert limits() == {expected}
    assert not numpy_has_one_thread()


def test_an_error_brings_all_threads_back() -> None:
    with pytest.raises(KeyError), numpy_threads(1):
        raise KeyError
    assert limits() == {3}


def test_numpy_multiplies_where_torch_and_numpy_have_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(products.torch, "from_numpy", lambda array: calls.append(len(array)) or torch.tensor(array))
    values = torch.randn(70, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = (values @ values.T).numpy()
    before = torch.get_num_threads()
    for threads, limit, calls_expected in ((1, 1, 1), (2, 1, 0), (1, 2, 0)):
        calls.clear()
        torch.set_num_threads(threads)
        with numpy_threads(limit):
            np.testing.assert_allclose(products.symmetric_product(values).numpy(), expected, rtol=1e-12)
        assert len(calls) == calls_expected
    torch.set_num_threads(1)
    products.symmetric_product(values)
    assert not calls
    torch.set_num_threads(before)
