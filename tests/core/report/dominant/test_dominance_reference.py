"""Dominant samples beside typical ones: as pictures, or as what is known of them."""

import numpy as np

from outcrop.report import Run
from outcrop.report.dominant.dominance_reference import SHOWN_SAMPLES, draw_references


def draw(leaves, data=None):
    return draw_references(leaves["references"], Run("dominant", "r1", leaves, data=data))


def test_the_table_says_where_and_why(make_dominant):
    drawing = draw(make_dominant())[0]
    assert drawing.caption == "A block of 4 layers in net."
    assert drawing.table.rows == (
        ("net", "block", "stage1.1\nto stage2.4", "stage1.2", "two modes", 10, 100 * 10 / 120),
    )


def test_several_models_say_their_evidence_above_their_own_samples(make_dominant, data):
    leaves = make_dominant(("first", "second"))
    where, first, second = draw(leaves, data["patches-5ee1"].to_dataset())
    assert where.caption.startswith("Each of 2 models has a block; they are judged in it, at the layer")
    assert first.caption.startswith("A block of 4 layers in first. 10 of 120 samples dominate stage1.2")
    assert second.title == "second: dominant and typical samples"
    leaves["references"]["is_block"][1] = False
    assert draw(leaves)[0].caption.startswith(
        "1 of 2 models have a block and are judged in it, the others in their longest"
    )
    leaves["references"]["is_block"][:] = False
    assert draw(leaves)[0].caption.startswith("None of 2 models has a block; they are judged in their longest interval")


def test_pictures_are_the_dominant_ones_by_rank_and_typical_ones(make_dominant, data):
    leaves = make_dominant()
    study = data["patches-5ee1"].to_dataset()
    dominant, typical = draw(leaves, study)[1].pictures
    order = np.argsort(leaves["references"]["rank"].values[0])
    assert [one.sample for one in dominant.thumbnails] == study["sample"].values[order[:10]].tolist()
    assert dominant.thumbnails[0].label.endswith(", rank 1")
    assert (dominant.name, dominant.note, typical.note) == ("Dominant", "10", f"{SHOWN_SAMPLES} of 110")
    middle = {one.sample for one in typical.thumbnails}
    assert middle == set(study["sample"].values[order[65 - 13 : 65 + 13]].tolist())


def test_without_pictures_ids_and_statistics_are_listed_the_telling_ones_first(make_dominant, make_data):
    study = make_data(120, pictures=False)["patches-5ee1"].to_dataset()
    study["blue"] = ("sample", np.arange(120.0))
    study["other"] = ("sample", np.zeros(120))
    study["border_red"] = ("sample", -np.arange(120.0))
    leaves = make_dominant()
    drawing = draw(leaves, study)[1]
    assert drawing.table.columns == ("", "sample", "rank", "norm", "blue", "border red", "other")
    first = drawing.table.rows[0]
    leader = int(np.argmin(leaves["references"]["rank"].values[0]))
    assert first[:3] == (
        "Dominant",
        f"{study['sample'].values[leader]}, {study.attrs['classes'][leader % 6]}",
        1,
    )
    assert first[3] == leaves["dominance"]["norm"].values[2, leader]
    assert first[4:] == (leader, -leader, 0)
    assert [row[0] for row in drawing.table.rows] == ["Dominant"] * 8 + ["Typical"] * 8
    assert "No pictures are kept" in drawing.caption


def test_of_unknown_data_positions_and_ranks_are_listed(make_dominant):
    leaves = make_dominant()
    del leaves["dominance"], leaves["association"]
    drawing = draw(leaves)[1]
    assert drawing.table.columns == ("", "sample", "rank")
    assert drawing.table.rows[0][1].startswith("sample ")


def test_pooled_ranks_are_said_to_be_means(make_dominant):
    leaves = make_dominant()
    leaves["references"].attrs["pooled"] = True
    assert draw(leaves)[0].caption.endswith("Ranks are means over the layers that a model is judged in.")


def test_a_model_judged_nowhere_and_one_without_dominant_samples_are_listed_only(make_dominant):
    leaves = make_dominant(("first", "second"))
    leaves["references"] = leaves["references"].isel(block=[0])
    leaves["references"]["dominant"][:] = False
    (where,) = draw(leaves)
    assert [row[2] for row in where.table.rows] == ["stage1.1\nto stage2.4", "nowhere"]
    assert "Judged nowhere, as no layer tells samples apart: second." in where.caption
    leaves["references"] = leaves["references"].isel(block=[])
    assert [row[2] for row in draw(leaves)[0].table.rows] == ["nowhere", "nowhere"]
