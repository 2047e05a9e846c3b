"""What is known of samples, as one labelled dataset."""

import numpy as np
import xarray as xr

from outcrop.data import ArrayData, ImageArray, subset
from outcrop.data.description import THUMBNAIL_LIMIT, described_data, describes
from outcrop.testing import IndexData

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)


def test_ids_labels_statistics_and_thumbnails_lie_along_the_samples() -> None:
    data = ImageArray(IMAGES, sample_ids=list("abcdef"), labels=[0, 1, 0, 1, 0, 1], classes=["cat", "dog"])
    found = described_data(data)
    assert found["sample"].values.tolist() == list("abcdef")
    assert found["label"].values.tolist() == [0, 1, 0, 1, 0, 1]
    assert found.attrs["classes"] == ["cat", "dog"]
    assert found.attrs["fingerprint"] == data.fingerprint
    np.testing.assert_allclose(found["blue"], IMAGES[..., 2].mean(axis=(1, 2)) / 255, atol=1e-6)
    assert found["blue"].attrs == {"long_name": "mean blue, 0 to 1", "units": "1"}
    assert found["thumbnail"].shape == (6, 48, 48, 3)


def test_nothing_is_read_where_statistics_are_not_wanted() -> None:
    class Unread(ImageArray):
        def read(self, index: int) -> None:  # type: ignore[override] # it never returns
            raise AssertionError(index)

    found = described_data(Unread(IMAGES), statistics=False)
    assert set(found.variables) == {"sample"}
    assert found.sizes == {"sample": 6}


def test_what_is_not_known_is_left_out() -> None:
    found = described_data(IndexData(5))
    assert set(found.variables) == {"sample"}
    assert found.attrs["classes"] == []
    assert "limit" not in found.attrs
    limited = subset(ImageArray(IMAGES), [0, 3])
    limited.limit = 2
    assert described_data(limited).attrs["limit"] == 2


def test_many_samples_get_no_thumbnails() -> None:
    data = ArrayData(np.zeros((THUMBNAIL_LIMIT + 1, 3, 8, 8), dtype=np.float32))
    assert "thumbnail" in described_data(subset(data, [0, 1]))
    found = described_data(data)
    assert "thumbnail" not in found
    assert found["value_mean"].shape == (THUMBNAIL_LIMIT + 1,)


def test_a_dataset_describes_data_where_it_has_every_statistic_of_it() -> None:
    data = ImageArray(IMAGES)
    found = described_data(data)
    assert describes(found, data)
    assert not describes(found.drop_vars("blue"), data)
    assert describes(xr.Dataset(), IndexData(3))
