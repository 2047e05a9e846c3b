"""The figure of projections: what is counted where, and whose pictures are shown."""

import json
import re

import numpy as np
import pytest
import xarray as xr

from outcrop.report import Run, write_report
from outcrop.report.similarity.projections import PROJECTIONS, draw_projections

SAMPLES = 120


def projections(layers=4, samples=SAMPLES, models=("net",)):
    """Return projections of which the second layer's are those of ten samples, and the last layer's are missing."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((len(models) * layers, samples))
    values[1] *= 0.01
    values[1, :10] = -100 - np.arange(10)
    values -= values.mean(axis=1, keepdims=True)
    values[layers - 1] = np.nan
    return xr.Dataset(
        {"projection": (("layer", "sample"), values, {"scope": "all"})},
        {
            "model": ("layer", [model for model in models for _ in range(layers)]),
            "name": ("layer", [f"layer{index}" for _ in models for index in range(layers)]),
            "depth": ("layer", list(range(layers)) * len(models)),
            "layer_kind": ("layer", ["block"] * layers * len(models)),
            "sample": np.arange(samples),
        },
        {"kind": "projections", "kind_version": "1.0"},
    )


def draw(dataset, data=None):
    return draw_projections(dataset, Run("components", "r1", {"projections": dataset}, data=data))


def shares(drawing):
    [plot] = drawing.plots
    [image] = [renderer for renderer in plot.renderers if type(renderer.glyph).__name__ == "Image"]
    return np.asarray(image.data_source.data["image"][0]), plot


def test_every_sample_is_counted_once_where_its_projection_lies():
    counted, plot = shares(draw(projections())[0])
    np.testing.assert_allclose(np.nansum(counted[:3], axis=1), 1, atol=1e-6)
    assert np.isnan(counted[3]).all()
    # Ten of 120 samples hold all of it: each is sqrt(12) root mean squares, and the others next to none.
    edges = np.linspace(plot.x_range.start, plot.x_range.end, counted.shape[1] + 1)
    far = np.nansum(counted[1][edges[:-1] > np.log10(2)])
    assert far == pytest.approx(10 / SAMPLES, abs=1e-6)
    assert np.isnan(counted[1][(edges[:-1] > np.log10(0.6)) & (edges[1:] < np.log10(2.5))]).all()


def test_a_layer_left_out_is_said_to_be():
    assert "Rows left blank are layers left out." in draw(projections())[0].caption
    assert "blank" not in draw(projections().isel(layer=slice(3)))[0].caption


def test_layers_without_any_projection_draw_nothing():
    assert draw(projections().isel(layer=[3])) == []


def test_a_single_sample_is_drawn():
    dataset = projections().isel(layer=[0], sample=[0, 1])
    assert shares(draw(dataset)[0])[0].shape[0] == 1


def test_without_thumbnails_there_are_no_pictures(make_data):
    dataset = projections()
    plain = make_data(SAMPLES, pictures=False)["patches-5ee1"].to_dataset()
    fewer = make_data(60)["patches-5ee1"].to_dataset()
    for data in (None, plain, fewer):
        assert [drawing.title for drawing in draw(dataset, data)] == [
            "How far samples lie out on the first principal component"
        ]


def test_the_outermost_samples_are_shown_the_largest_first(make_data):
    dataset = projections()
    data = make_data(SAMPLES)["patches-5ee1"].to_dataset()
    rows = draw(dataset, data)[1].pictures
    assert [row.name for row in rows] == ["layer0", "layer1", "layer2"]
    assert rows[1].note == "carried by 12 of 120"
    assert [thumbnail.sample for thumbnail in rows[1].thumbnails[:10]] == [
        str(data["sample"].values[index]) for index in range(9, -1, -1)
    ]
    assert re.fullmatch(r"\w+, -3\.\d", rows[1].thumbnails[0].label)
    assert all(thumbnail.picture.startswith("data:image/png;base64,") for thumbnail in rows[1].thumbnails)


def test_the_layer_that_the_fewest_samples_carry_is_always_shown(make_data):
    data = make_data(SAMPLES)["patches-5ee1"].to_dataset()
    rows = draw(projections(layers=40), data)[1].pictures
    assert len(rows) == 6
    assert rows[1].name == "layer1"


def test_every_model_has_a_map_of_its_own():
    dataset = projections(models=("first", "second"))
    assert [drawing.title[:7] for drawing in draw(dataset)] == ["first: ", "second:"]


def test_many_layers_are_named_by_their_modules():
    dataset = projections(layers=100)
    dataset["name"] = ("layer", [f"stage{index // 50}.conv{index}" for index in range(100)])
    _, plot = shares(draw(dataset)[0])
    assert plot.yaxis[0].major_label_overrides == {24.5: "stage0", 74.5: "stage1"}


def test_the_report_shows_projections_with_the_pictures_of_their_data(make_data, make_results, tmp_path):
    results = make_results([("components", "c1", {"projections": projections()}, "2026-03-04T12:30:00")])
    text = write_report(results, make_data(SAMPLES), tmp_path / "r.html", title="t").read_text("utf-8")
    section = text[text.index(f"<h3>{PROJECTIONS.title}</h3>") :]
    assert section.index("Samples that lie farthest out") < section.index("carried by 12 of 120")
    assert 'title="cat/0000.png (cat, -3' in section
    other = make_data(SAMPLES)
    other["patches-5ee1"].attrs["fingerprint"] = "sha256:another"
    text = write_report(results, other, tmp_path / "r.html", title="t").read_text("utf-8")
    assert "Samples that lie farthest out" not in text


def test_names_cannot_end_the_script_that_holds_them(make_data, make_results, tmp_path):
    dataset = projections()
    dataset["name"] = ("layer", ["</script><b>0", "<b>1", "$$2", "3"])
    results = make_results([("components", "c1", {"projections": dataset}, "2026-03-04T12:30:00")])
    text = write_report(results, make_data(SAMPLES), tmp_path / "r.html", title="t").read_text("utf-8")
    assert "</script><b>0" not in text
    assert "&lt;/script&gt;&lt;b&gt;0" in text
    for found in re.findall(r'<script type="application/json" class="document">(.*?)</script>', text, re.DOTALL):
        json.loads(found)
