"""What the figures of probes read of a result: the layer, the stimuli of each model, their names and pictures."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from outcrop.report import Picture, Run
from outcrop.report.probes.probed import hexadecimal, read_probed, swatch, table_of, times, verdict_rows
from outcrop_schemas import KINDS, find_problems


def read(leaves):
    return read_probed(leaves["response"], Run("probes", "r1", leaves))


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.source.partition(",")[2]))))


def test_the_planted_results_are_of_their_kinds(make_probes):
    leaves = make_probes(("first", "second"))
    for leaf in leaves.values():
        assert list(find_problems(leaf, KINDS[leaf.attrs["kind"]])) == []


def test_every_model_has_its_stimuli_and_the_layer_of_its_verdict(make_probes):
    leaves = make_probes(("first", "second"))
    first, second = read(leaves)
    assert (first.model, first.layer, second.layer) == ("first", "stage.3", "stage.3")
    assert first.rows.tolist() == [0, 1, 2, 3, 4, 5]
    names = [str(leaves["response"]["stimulus"].values[column]) for column in second.columns]
    assert len(names) == 27 + 6
    assert not any("(first)" in name for name in names)
    np.testing.assert_allclose(second.excitation[second.ranked[0]], 2.5)
    assert (np.diff(second.strength[second.ranked]) <= 0).all()


def test_without_a_verdict_the_layer_of_the_largest_norm_stands_in(make_probes):
    leaves = make_probes()
    leaves["response"]["norm_ratio"][4, 2] = 1000
    (probed,) = read({"response": leaves["response"]})
    assert probed.layer == "stage.4"
    assert probed.verdict == {}
    assert verdict_rows(None) == {}


def test_without_a_projection_stimuli_are_ranked_by_norm(make_probes):
    leaves = make_probes()
    leaves["response"]["projection"][:] = np.nan
    (probed,) = read(leaves)
    np.testing.assert_array_equal(probed.strength, leaves["response"]["norm_ratio"].values[3])
    leaves = make_probes()
    leaves["response"]["dominant_projection"][:] = 0
    (probed,) = read(leaves)
    assert np.isnan(probed.excitation).all()
    assert len(probed.ranked) == 33


def test_stimuli_without_a_response_are_not_ranked(make_probes):
    leaves = make_probes()
    leaves["response"]["projection"][3, :5] = np.nan
    (probed,) = read(leaves)
    assert sorted([*probed.ranked.tolist(), 0, 1, 2, 3, 4]) == list(range(33))


def test_names_are_told_without_family_and_model(make_probes):
    (probed,) = read(make_probes())
    found = probed.named("found colour: solid 0.00 0.00 1.00 (net)")
    assert (probed.title(found), probed.kind(found)) == ("solid 0.00 0.00 1.00", "found colour")
    assert (probed.title(27), probed.kind(27)) == ("border 0 of typical image 1", "border")
    assert probed.named("nothing") is None
    strange = make_probes()
    strange["response"] = strange["response"].assign_coords(stimulus=[f"a: {i}" for i in range(33)])
    assert read(strange)[0].title(3) == "a: 3"


def test_of_stimuli_that_respond_alike_one_is_kept(make_probes):
    leaves = make_probes()
    (probed,) = read(leaves)
    favourite = probed.named("solid: solid 0.00 0.00 1.00")
    found = probed.named("found colour: solid 0.00 0.00 1.00 (net)")
    assert list(probed.distinct([found, favourite, 27, 28])) == [found, 27, 28]
    # Neither has a colour, and both do the same in all layers.
    leaves["response"]["norm"][:, 28] = leaves["response"]["norm"][:, 27] * (1 + 1e-7)
    assert list(read(leaves)[0].distinct([27, 28])) == [27]
    leaves["response"]["norm"][:] = np.nan
    assert list(read(leaves)[0].distinct([27, 28])) == [27, 28]


def test_the_dominant_sample_is_found_among_stimuli_by_its_norms(make_probes):
    leaves = make_probes()
    (probed,) = read(leaves)
    assert probed.title(probed.dominant) == "dominant image 1"
    leaves["response"]["dominant_norm"][2] *= 1.01
    assert read(leaves)[0].dominant is None
    leaves["response"]["dominant_norm"][:] = np.nan
    assert read(leaves)[0].dominant is None


def test_pictures_are_those_of_the_stimuli_or_else_their_colours(make_probes):
    leaves = make_probes()
    (probed,) = read(leaves)
    place = probed.named("found colour: solid 0.00 0.00 1.00 (net)")
    np.testing.assert_array_equal(pixels(probed.picture(place))[0, 0], [0, 0, 255])
    assert pixels(probed.picture(place)).shape == (4, 4, 3)
    leaves["response"] = leaves["response"].drop_vars("thumbnail")
    (probed,) = read(leaves)
    np.testing.assert_array_equal(pixels(probed.picture(place)), [[[0, 0, 255]]])
    assert probed.picture(27) == ""


def test_a_result_without_stimuli_has_no_models(make_probes):
    assert read_probed(make_probes()["response"].isel(stimulus=[]), Run("probes", "r1", {})) == []


def test_colours_and_factors_are_told():
    assert hexadecimal(np.array([0.0, 0.5, 1.0])) == "#0080ff"
    assert swatch(np.array([0.0, np.nan, 1.0]), "x") == ""
    assert isinstance(swatch(np.array([0.0, 0.5, 1.0]), "x"), Picture)
    assert times(12.44) == "12.4 times"
    assert times(float("nan")) == "an unknown number of times"


@pytest.mark.parametrize(
    ("rows", "columns"), [([("", 1), ("", 2)], ("b",)), ([("", 1), ("x", 2)], ("a", "b")), ([], ())]
)
def test_columns_that_are_empty_throughout_are_left_out(rows, columns):
    assert table_of(("a", "b"), rows).columns == columns
