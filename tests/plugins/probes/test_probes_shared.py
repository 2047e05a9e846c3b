"""What dominant samples share, and which of them count as dominant and as typical."""

import numpy as np
import pytest

from outcrop.stimuli import Stimulus, StimulusMaterial
from outcrop_probes.material import dominant_samples, typical_samples
from outcrop_probes.samples import SampleForm
from outcrop_probes.shared import Bank, Described, Shared, dividing_value, find_bank
from outcrop_probes.shown import Shown

MEMBERS = np.arange(60) < 9


def described(*rows):
    values = np.array(rows, dtype=float)
    names = tuple(f"statistic {place}" for place in range(len(rows)))
    return Described(Bank(names, lambda sample, _: [float(sample.mean())] * len(rows)), values)


def noise(seed=0):
    return np.random.default_rng(seed).standard_normal(60)


def test_the_statistic_that_tells_members_is_named_with_the_value_that_divides_them():
    shared = described(noise(), noise(1) - 9 * MEMBERS).shared_by(MEMBERS, seed=0)
    assert (shared.name, shared.auroc, shared.above) == ("statistic 1", 1.0, False)
    assert shared.p_value == pytest.approx(1 / 1000)
    low, high = (noise(1) - 9 * MEMBERS)[MEMBERS].max(), noise(1)[~MEMBERS].min()
    assert shared.threshold == pytest.approx((low + high) / 2)
    assert shared.typical == np.median(noise(1)[~MEMBERS])
    assert shared.text == f"statistic 1 of {shared.threshold:.3g} or less"


def test_nothing_is_shared_where_no_statistic_tells_more_than_chance_or_tells_little():
    assert described(noise(), noise(1), np.ones(60)).shared_by(MEMBERS, seed=0) is None
    assert described(np.ones(60)).shared_by(MEMBERS, seed=0) is None
    everyone = np.ones(60, bool)
    assert described(noise()).shared_by(everyone, seed=0) is None
    assert described(noise()).shared_by(~everyone, seed=0) is None
    # Beyond chance in many samples, and yet most members are like the rest.
    many = np.arange(4000) < 400
    weak = np.random.default_rng(2).standard_normal(4000) + 0.5 * many
    assert described(weak).shared_by(many, seed=0) is None


def test_stimuli_are_told_by_the_statistic_and_what_is_not_finite_has_it_not():
    shared = Shared("statistic 0", 1.0, 0.001, True, 5.0, 2.0)
    values = np.array([1.0, 2.0, 4.9, 5.0, np.nan, np.inf])
    assert shared.had_by(values).tolist() == [False, False, False, True, False, True]
    # What lies between is neither.
    assert shared.lacked_by(values).tolist() == [True, True, False, False, False, False]
    below = Shared("statistic 0", 1.0, 0.001, False, -5.0, -2.0)
    assert below.had_by(-values).tolist() == shared.had_by(values).tolist()
    assert below.lacked_by(-values).tolist() == shared.lacked_by(values).tolist()
    shown = [Shown(Stimulus(str(value), np.full(3, value)), "family") for value in (1.0, 7.0)]
    assert described(noise()).of_stimuli(shared, shown).tolist() == [1.0, 7.0]


def test_the_dividing_value_loses_fewest_of_both_and_lies_in_the_widest_gap():
    members = np.array([False, False, True, True, True])
    assert dividing_value(np.array([0.0, 1, 3, 4, 5]), members, above=True) == 2
    assert dividing_value(-np.array([0.0, 1, 3, 4, 5]), members, above=False) == -2
    assert dividing_value(np.array([np.nan, 1, 3, 4, 5]), members, above=True) == 2
    # One of the rest is among the members: beyond it, all members and it, or two members alone.
    mixed = np.array([0.0, 1, 2, 3, 4, 5, 6])
    assert dividing_value(mixed, np.array([0, 0, 0, 1, 0, 1, 1], bool), above=True) == pytest.approx(2.5)


def test_banks_measure_what_their_names_say():
    white = np.full((9, 12, 3), 255, np.uint8)
    pictures = find_bank(SampleForm("image", white.shape, None, None), [])
    found = dict(zip(pictures.names, pictures.measure(white, None), strict=True))
    assert found["mean blue"] == found["mean blue of the four corners"] == 1
    assert found["standard deviation of luma"] == 0
    own = (np.array([5, 5, 0, 0]),)
    material = StimulusMaterial("tokens", (4,), own, (), np.zeros(4), np.zeros(4), vocabulary=(7, 5))
    tokens = find_bank(SampleForm("tokens", (4,), None, None), [material])
    measured = tokens.measure(np.array([7, 7, 5, 0]), np.array([True, True, True, False]))
    assert dict(zip(tokens.names, measured, strict=True)) == pytest.approx(
        {
            "share of token 7": 2 / 3, "share of token 5": 1 / 3, "share of token 0": 0,
            "share of tokens that are different": 2 / 3,
        }
    )  # fmt: skip
    few = find_bank(SampleForm("array", (2, 3), None, None), [])
    assert few.measure(np.arange(6.0).reshape(2, 3), None) == [0, 1, 2, 3, 4, 5]
    many = find_bank(SampleForm("array", (1000,), None, None), [])
    assert len(many.names) == len(set(many.names)) == 256 + 2
    assert many.measure(np.arange(1000.0), None)[-2] == 499.5
    assert (many.names[0], many.names[255]) == ("feature 0", "feature 999")


def test_dominant_samples_lie_on_one_side_and_typical_ones_are_none_of_them():
    projections = np.array([9.0, -8, 7, np.nan, 0.1, -0.2, 0.3, 0.0, 0.5, -0.6])
    assert dominant_samples(projections, 0.3).tolist() == [0, 2]
    assert dominant_samples(-projections, 0.1).tolist() == [0]
    assert dominant_samples(projections, 0.01).tolist() == [0]
    dominant = np.isin(np.arange(10), [0, 2])
    typical = typical_samples(projections, dominant)
    assert set(typical.tolist()) == {1, 4, 5, 6, 7, 8, 9}
    assert typical[0] == 4
    assert typical[-1] == 1
