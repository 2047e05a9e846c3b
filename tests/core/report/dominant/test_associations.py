"""What dominant samples share: dots, tables and classes are those of the dataset."""

import numpy as np
import pytest

from outcrop.report import Run
from outcrop.report.dominant.associations import draw_association


def draw(dataset):
    return draw_association(dataset, Run("dominant", "r1", {"association": dataset}))


def dots(plot):
    return [r.data_source.data for r in plot.renderers if type(r.glyph).__name__ == "Scatter"]


def test_dots_are_the_aurocs_the_most_telling_on_top_and_filled_where_it_is_no_chance(make_dominant):
    (found,) = dots(draw(make_dominant()["association"])[0].plots[0])
    assert found["name"] == ["blue", "border red", "entropy"]
    assert found["x"].tolist() == [0.95, 0.3, 0.52]
    assert found["fill"].tolist() == [1, 1, 0]
    assert found["inside"].tolist() == [95, 30, 52]
    assert found["p"] == ["0.001", "0.001", "0.6"]


def test_seeds_stand_side_by_side(make_dominant):
    drawing = draw(make_dominant(("first", "second"))["association"])[0]
    first, second = dots(drawing.plots[0])
    assert first["name"] == ["border red", "blue", "entropy"]
    assert second["x"].tolist() == [0.98, 0.2, 0.5]
    assert (np.abs(first["y"] - second["y"]) > 0.1).all()
    assert drawing.caption.startswith(
        "first: higher blue (AUROC 0.950, adjusted p 0.001). second: higher border red (AUROC 0.980, adjusted p 0.001)."
    )
    assert [sign.text for sign in drawing.key[:2]] == ["first", "second"]


def test_where_no_statistic_is_certain_it_is_said(make_dominant):
    found = make_dominant()["association"]
    found["leading_statistic"] = ("block", [""])
    assert draw(found)[0].caption.startswith("No statistic tells them for certain, nearest higher blue (AUROC 0.950")


def test_the_table_gives_means_and_says_how_all_together_do(make_dominant):
    drawing = draw(make_dominant()["association"])[1]
    assert drawing.title == "The leading statistics"
    assert drawing.table.rows[0] == pytest.approx(("blue (0 to 1)", 0.95, 0.001, 1.8, 95, 5, 0.45))
    assert drawing.caption.startswith(
        "They have a higher blue. Of all statistics together, the standard error over folds is 0.020, and 95 % of "
        "random draws stay below 0.610. All statistics, for the dominant samples of the block stage1.1 to stage2.4."
    )


def test_classes_are_shares_of_the_dominant_and_of_the_rest(make_dominant):
    drawing = draw(make_dominant()["association"])[-1]
    rest, inside = dots(drawing.plots[0])
    assert rest["name"] == ["cat", "coffee", "rocket"]
    assert inside["inside"].tolist() == [0.7, 0.2, 0.1]
    assert rest["outside"].tolist() == [0.1, 0.2, 0.7]
    assert rest["dash"] == ["solid", "dotted", "solid"]
    assert drawing.caption == (
        "2 of 3 classes are more or less frequent among dominant samples (adjusted p at most 0.05); the largest of "
        "them is cat, 70 % against 10 % of the rest."
    )


def test_without_labels_there_are_no_classes(make_dominant):
    found = make_dominant()["association"]
    bare = found.drop_vars([name for name in found.variables if str(name).startswith("class_")])
    assert [drawing.title for drawing in draw(bare)] == ["How well each statistic tells them", "The leading statistics"]


def test_unknown_statistics_leave_what_is_said(make_dominant):
    found = make_dominant()["association"]
    for name in ("auroc", "effect", "adjusted_p"):
        found[name][:] = np.nan
    first = draw(found)[0]
    assert (first.title, first.plots) == ("What they share", ())
    assert first.caption.startswith("They have a higher blue")
    assert draw(found.isel(statistic=[]))[0].plots == ()
    assert draw(found.isel(block=[])) == []


def test_a_statistic_that_is_not_known_is_a_dash(make_dominant):
    found = make_dominant()["association"]
    found["adjusted_p"][0, 2] = np.nan
    found["auroc"][0, 2] = np.nan
    (column,) = dots(draw(found)[0].plots[0])
    assert column["p"][2] == "\u2013"
    assert column["fill"][2] == 0
