"""Where models are judged, as the figures of ``dominant`` read it."""

import numpy as np
import pytest

from outcrop.report import Run
from outcrop.report.dominant.judged import (
    evenly,
    interval_name,
    judged_of,
    mark_of,
    read_judged,
    share_of,
    shown_of,
    times,
)
from outcrop.report.maps import read_axis
from outcrop_schemas import KINDS, find_problems


@pytest.mark.parametrize("dissolves", [True, False])
def test_the_results_that_figures_are_tested_with_are_valid(make_dominant, dissolves):
    for leaf, dataset in make_dominant(("first", "second"), dissolves=dissolves).items():
        assert find_problems(dataset, KINDS[dataset.attrs["kind"]]) == [], leaf


def test_dominant_samples_come_by_rank_and_typical_ones_from_their_middle_rank(make_dominant):
    (one,) = judged_of(make_dominant()["references"])
    assert sorted(one.ordered.tolist()) == list(range(10))
    assert one.rank[one.ordered].tolist() == list(range(1, 11))
    assert len(one.typical) == 110
    assert abs(one.rank[one.typical[0]] - 65.5) == 0.5
    distance = np.abs(one.rank[one.typical] - 65.5)
    assert (np.diff(distance) >= 0).all()


def test_where_every_sample_dominates_none_is_typical(make_dominant):
    references = make_dominant()["references"]
    references["dominant"][:] = True
    assert not judged_of(references)[0].typical.size


def test_the_interval_is_marked_by_its_places(make_dominant):
    leaves = make_dominant(("first", "second"))
    judged = read_judged(Run("dominant", "r1", leaves))
    axis = read_axis(leaves["dominance"], "layer")
    (mark,) = mark_of(judged["second"], axis, axis.spans[1])
    assert (mark.start, mark.stop, mark.is_block) == (1, 5, True)


def test_a_single_layer_or_one_of_elsewhere_is_not_marked(make_dominant):
    leaves = make_dominant()
    axis = read_axis(leaves["dominance"], "layer")
    for last in ("stage1.1", "elsewhere"):
        changed = leaves["references"].assign(last_layer=("block", [last]))
        assert mark_of(judged_of(changed)[0], axis, axis.spans[0]) == ()
    assert mark_of(None, axis, axis.spans[0]) == ()


def test_a_run_that_does_not_say_judges_no_model():
    assert read_judged(Run("dominant", "r1", {})) == {}


def test_of_many_models_the_first_and_the_last_are_drawn_and_it_is_said():
    shown, said = shown_of(list(range(20)))
    assert (shown[0], shown[-1], len(shown)) == (0, 19, 8)
    assert said == " 8 of 20 models are drawn."
    assert shown_of([1, 2]) == ([1, 2], "")
    assert shown_of([]) == ([], "")


def test_places_are_spread_from_the_first_to_the_last():
    assert evenly(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert evenly(101, 5).tolist() == [0, 25, 50, 75, 100]
    assert evenly(0, 5).tolist() == []


def test_numbers_in_words():
    assert [times(3.44), times(123.4)] == ["3.4 times", "123 times"]
    assert [share_of(0.005), share_of(0.1), share_of(1 / 3)] == ["0.5 %", "10 %", "33.3 %"]
    assert interval_name("a", "b", True) == "block a to b"
    assert interval_name("a", "b", False) == "similar layers a to b"
    assert interval_name("a", "a", False) == "layer a"
