"""Sheets of pictures: each sample's picture at its place, and names that cannot become markup."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from outcrop.report import Run
from outcrop.report.dominant.sheet import build_sheet, sample_names


@pytest.fixture
def study(make_data):
    return make_data(30)["patches-5ee1"].to_dataset()


def test_a_picture_lies_at_its_place(study):
    study["thumbnail"][:] = np.arange(30)[:, None, None, None] * 8
    sheet = build_sheet(Run("a", "r", {}, data=study), np.array([20, 4, 4, 29, 0, 11]), "s")
    asset = sheet.assets["a/r/s"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(asset["codes"]))))
    side, columns = asset["side"], asset["columns"]
    for position in (20, 4, 29, 0, 11):
        (place,) = sheet.columns(np.array([position]))["place"]
        y, x = place // columns * side, place % columns * side
        np.testing.assert_allclose(pixels[y : y + side, x : x + side], 8 * position, atol=3)


def test_grey_pictures_are_shown(study):
    grey = study.isel(channel=[0])
    assert build_sheet(Run("a", "r", {}, data=grey), np.arange(3), "s").asset["codes"]


def test_many_pictures_are_small(make_data):
    data = make_data(600)["patches-5ee1"].to_dataset()
    assert build_sheet(Run("a", "r", {}, data=data), np.arange(10), "s").asset["side"] == 48
    assert build_sheet(Run("a", "r", {}, data=data), np.arange(600), "s").asset["side"] == 32


@pytest.mark.parametrize(
    "change", [lambda found: found.drop_vars("thumbnail"), lambda found: found.isel(sample=slice(3))]
)
def test_without_pictures_of_all_samples_there_is_no_sheet(study, change):
    sheet = build_sheet(Run("a", "r", {}, data=change(study)), np.array([2, 9]), "s")
    assert sheet.assets == {}
    assert sheet.formatters() == {}
    assert "<img" not in sheet.template([("norm", "@norm")])
    assert build_sheet(Run("a", "r", {}, data=study), np.arange(0), "s").assets == {}


def test_samples_are_named_by_id_and_class_or_by_their_position(study):
    assert sample_names(study, np.array([0, 7])) == ["cat/0000.png, cat", "coffee/0007.png, coffee"]
    assert sample_names(study.drop_vars("label"), np.array([7])) == ["coffee/0007.png"]
    assert sample_names(None, np.array([7])) == ["sample 7"]
    assert sample_names(study, np.array([7, 30])) == ["sample 7", "sample 30"]


def test_a_name_cannot_be_markup(study):
    study["sample"] = [f"<img src=x onerror=alert({i})>" for i in range(30)]
    sheet = build_sheet(Run("a", "r", {}, data=study), np.arange(2), "s")
    assert sheet.columns(np.array([1]))["sample"] == ["&lt;img src=x onerror=alert(1)&gt;, coffee"]
    assert "&lt;b&gt;" in sheet.template([("<b>", "@norm")])
