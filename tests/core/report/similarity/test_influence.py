"""The figure of influence: what the leading samples carry, and whose pictures are shown."""

import numpy as np
import pytest
import xarray as xr

from outcrop.report import Run, write_report
from outcrop.report.similarity.influence import draw_influence

SAMPLES = 120


def influence(models=("net",), *, unknown=()):
    """Return shares of which the first six samples have a tenth each, and the others the rest."""
    shares = np.full((len(models), SAMPLES), 0.4 / (SAMPLES - 6))
    shares[:, :6] = 0.1
    shares[list(unknown)] = np.nan
    count = len(models)
    return xr.Dataset(
        {
            "block_model": ("block", list(models)),
            "first_layer": ("block", ["stage1.0"] * count),
            "last_layer": ("block", ["stage2.3"] * count),
            "first_depth": ("block", [4] * count),
            "last_depth": ("block", [20] * count),
            "is_block": ("block", ([True] + [False] * count)[:count]),
            "measured_layers": ("block", [7] * count),
            "similarity": ("block", [0.95] * count),
            "effective_samples": ("block", [16.0] * count),
            "share": (("block", "sample"), shares, {"scope": "batch"}),
            "change": (("block", "sample"), shares / 100, {"scope": "batch"}),
        },
        {"sample": np.arange(SAMPLES)},
        {"kind": "influence", "kind_version": "1.0", "measure": "CKA", "sample_count": SAMPLES, "batch_size": 40},
    )


def draw(dataset, data=None):
    return draw_influence(dataset, Run("blocks", "r1", {"influence": dataset}, data=data))


def test_the_caption_says_how_much_a_twentieth_of_the_samples_carries():
    (drawing,) = draw(influence())
    assert drawing.caption == (
        "Block stage1.0 to stage2.3: the 6 leading samples, 5 % of 120, carry 60 % of the mean CKA of 0.95; "
        "as uneven as if 16 carried it alike. Taken within batches of 40 samples."
    )


def test_the_curve_adds_up_the_shares_from_the_largest_on():
    (plot,) = draw(influence())[0].plots
    curve = plot.renderers[0].data_source.data
    np.testing.assert_allclose(np.interp([1, 6, SAMPLES], curve["rank"], curve["share"]), [0.1, 0.6, 1])
    assert (plot.x_range.start, plot.x_range.end) == (1, SAMPLES)


def test_intervals_of_several_models_are_told_apart():
    drawing = draw(influence(("first", "second")))[0]
    labels = [item.label.value for item in drawing.plots[0].legend[0].items]
    assert labels == [
        "first, block stage1.0 to stage2.3",
        "second, similar layers stage1.0 to stage2.3",
        "all samples alike",
    ]
    assert "second, similar layers stage1.0 to stage2.3: the 6" in drawing.caption


def test_without_an_interval_or_a_known_share_nothing_is_drawn():
    assert draw(influence(())) == []
    assert draw(influence(unknown=[0])) == []


def test_the_pictures_are_those_of_the_largest_shares(data):
    study = data["patches-5ee1"].to_dataset()
    (row,) = draw(influence(), study)[1].pictures
    assert [thumbnail.sample for thumbnail in row.thumbnails[:6]] == study["sample"].values[:6].tolist()
    assert row.thumbnails[0].label == "cat, 10.00 %"
    assert (row.name, row.note) == ("Block stage1.0 to stage2.3", "66 % of the mean CKA")
    assert len(row.thumbnails) == 24


@pytest.mark.parametrize(
    "change", [lambda found: found.drop_vars("thumbnail"), lambda found: found.isel(sample=slice(9))]
)
def test_without_pictures_of_all_samples_the_curve_stands_alone(data, change):
    assert len(draw(influence(), change(data["patches-5ee1"].to_dataset()))) == 1


def test_the_report_holds_the_figure(tmp_path, make_run, make_results, data):
    run = {**make_run([("deep", 109, (38, 91))]), "influence": influence(("deep",))}
    tree = make_results([("blocks", "r1", run, "2026-03-04T12:30:00")])
    text = write_report(tree, data, tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    assert "Samples that carry the similar layers" in text
    assert "carry 60 % of the mean CKA" in text
    assert "Samples that carry the similarity" in text
