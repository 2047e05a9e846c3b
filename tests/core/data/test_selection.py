import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.data import ArrayData, Data, subset
from outcrop.data.selection import evenly_chosen
from outcrop.errors import DataNotFoundError, ParameterError

DATA = ArrayData(np.arange(10.0), name="ten", labels=np.arange(10) // 5, classes=["low", "high"])


@given(st.integers(1, 300), st.integers(1, 400))
def test_without_labels_positions_are_evenly_spaced(count, limit):
    chosen = evenly_chosen(count, limit)
    assert len(chosen) == min(count, limit)
    gaps = np.diff(chosen)
    assert (gaps > 0).all()
    if len(gaps):
        assert gaps.max() - gaps.min() <= 1
    assert chosen[0] >= 0
    assert chosen[-1] < count


@given(st.lists(st.integers(-2, 6), min_size=1, max_size=120), st.integers(1, 130))
def test_a_limit_is_balanced_within_one_as_far_as_classes_go(labels, limit):
    values = np.array(labels, dtype=np.int64)
    chosen = evenly_chosen(len(values), limit, values)
    assert len(chosen) == min(limit, len(values))
    assert (np.diff(chosen) > 0).all()
    sizes = {label: int((values == label).sum()) for label in set(labels)}
    shares = {label: int((values[chosen] == label).sum()) for label in sizes}
    unexhausted = [shares[label] for label in sizes if shares[label] < sizes[label]]
    if unexhausted:
        assert max(shares.values()) - min(unexhausted) <= 1


def test_fewer_samples_than_classes_come_from_classes_spread_evenly():
    chosen = evenly_chosen(100, 5, np.arange(100) // 10)
    assert (chosen // 10).tolist() == [1, 3, 5, 7, 9]


@given(st.permutations(range(10)), st.integers(1, 10))
def test_a_subset_keeps_the_order_asked_for(order, count):
    chosen = subset(DATA, order[:count])
    assert [float(chosen.read(index)) for index in range(count)] == order[:count]
    assert chosen.sample_ids == tuple(map(str, order[:count]))
    assert chosen.labels.tolist() == [position // 5 for position in order[:count]]
    assert (chosen.name, chosen.classes) == ("ten", ("low", "high"))


def test_a_subset_takes_truth_values_and_nests():
    odd = subset(DATA, np.arange(10) % 2 == 1)
    assert odd.sample_ids == ("1", "3", "5", "7", "9")
    nested = subset(odd, [4, 0])
    assert nested.sample_ids == ("9", "1")
    assert nested.fingerprint == subset(DATA, [9, 1]).fingerprint
    assert nested.thumbnail(0) is None


def test_the_whole_has_the_fingerprint_of_the_data():
    assert subset(DATA, range(10)).fingerprint == DATA.fingerprint
    assert subset(DATA, range(9)).fingerprint != DATA.fingerprint


def test_a_subset_of_data_of_another_kind_follows_its_fingerprint():
    class Constant(Data):
        name, source, sample_ids = "constant", "here", ("a", "b", "c")

        def __init__(self, fingerprint):
            self._fingerprint = fingerprint

        @property
        def fingerprint(self):
            return self._fingerprint

        def read(self, index):
            return np.zeros(2)

    one, same, other = (subset(Constant(value), [0, 2]) for value in ("x", "x", "y"))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert one.fingerprint != subset(Constant("x"), [0, 1]).fingerprint


@pytest.mark.parametrize(
    ("indices", "error", "words"),
    [
        ([10], ParameterError, r"There is no sample 10 in data 'ten'; expected 0 to 9"),
        ([-1], ParameterError, r"There is no sample -1 in data 'ten'"),
        ([1, 2, 1], ParameterError, r"'ten' takes each position at most once; some occur twice"),
        (
            [0.5],
            ParameterError,
            r"whole positions, or one truth value for each of 10 samples; found float64 of shape \(1,\)",
        ),
        ([True, False], ParameterError, r"found bool of shape \(2,\)"),
        ([[1, 2]], ParameterError, r"found int64 of shape \(1, 2\)"),
        ([], DataNotFoundError, r"'ten' must hold at least one sample; none is chosen"),
        (np.zeros(10, bool), DataNotFoundError, r"none is chosen"),
    ],
)
def test_what_cannot_be_chosen_is_refused(indices, error, words):
    with pytest.raises(error, match=words):
        subset(DATA, indices)
