import math

import numpy as np
import pytest

from outcrop.errors import InputError
from outcrop.numerics import class_shares


def hypergeometric(inside: int, outside: int, members: int, rest: int) -> float:
    """Two-sided p-value: of all tables with the same margins, those no likelier than this one."""
    total = inside + outside

    def chance(count: int) -> float:
        return math.comb(members, count) * math.comb(rest, total - count) / math.comb(members + rest, total)

    own = chance(inside) * (1 + 1e-7)
    return sum(chance(count) for count in range(max(0, total - rest), min(members, total) + 1) if chance(count) <= own)


def test_shares_and_p_values_are_those_of_counting():
    labels = np.array([0] * 8 + [1] * 2 + [0] * 10 + [1] * 20 + [4] * 20 + [-1] * 5)
    members = np.arange(65) < 10
    members[-1] = True  # without a label
    found = class_shares(labels, members)
    assert found.labels.tolist() == [0, 1, 4]
    np.testing.assert_allclose(found.of_members, [0.8, 0.2, 0])
    np.testing.assert_allclose(found.of_rest, [0.2, 0.4, 0.4])
    expected = [hypergeometric(8, 10, 10, 50), hypergeometric(2, 20, 10, 50), hypergeometric(0, 20, 10, 50)]
    np.testing.assert_allclose(found.p_value, expected, rtol=1e-9)
    assert found.p_value[0] < 0.001 < 0.01 < found.p_value[2]


def test_one_class_is_neither_more_nor_less_frequent():
    found = class_shares(np.full(20, 3), np.arange(20) < 5)
    assert found.labels.tolist() == [3]
    assert found.of_members.tolist() == found.of_rest.tolist() == found.p_value.tolist() == [1.0]


def test_no_label_and_no_member_are_told_by_nan():
    nothing = class_shares(np.full(6, -1), np.arange(6) < 2)
    assert nothing.labels.shape == nothing.p_value.shape == (0,)
    empty = class_shares(np.arange(6) % 2, np.zeros(6, bool))
    assert np.isnan(empty.of_members).all()
    assert np.isnan(empty.p_value).all()
    assert empty.of_rest.tolist() == [0.5, 0.5]


def test_members_drawn_without_regard_to_class_are_rarely_called_special():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 500)
    p_values = [class_shares(labels, rng.permutation(500) < 50).p_value for _ in range(40)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.07  # the test is conservative


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"Labels have shape \(4,\) and members \(5,\); expected one of each per sam"):
        class_shares(np.zeros(4, int), np.zeros(5, bool))
