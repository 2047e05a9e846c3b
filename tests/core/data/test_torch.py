import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

from outcrop.data import SkippedSamplesWarning, load_data
from outcrop.errors import DataNotFoundError, DataReadError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 10, 8, 3), dtype=np.uint8)


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


@pytest.mark.parametrize(
    "as_image",
    [Image.fromarray, np.asarray, lambda pixels: torch.as_tensor(pixels).permute(2, 0, 1)],
    ids=["pillow", "array", "tensor"],
)
@pytest.mark.parametrize("wrap", [lambda x, y: (x, y), lambda x, y: {"image": x, "label": y}], ids=["pair", "mapping"])
def test_images_are_images_in_every_form(as_image, wrap):
    data = load_data(Items([wrap(as_image(pixels), index % 3) for index, pixels in enumerate(PIXELS)]))
    sample = data.read(4)
    if isinstance(sample, dict):
        # An array in a mapping is a model's input by name, unlike a picture.
        sample = sample["image"]
        assert sample.shape in {(10, 8, 3), (3, 10, 8)}
    else:
        np.testing.assert_array_equal(np.asarray(sample), PIXELS[4])
        assert data.thumbnail(4).shape == (48, 48, 3)
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.sample_ids == tuple("012345")
    assert data.name == "Items"


def test_floats_are_taken_as_they_are_and_labels_may_be_tensors():
    values = torch.randn(5, 3, 9, 9)
    data = load_data(TensorDataset(values, torch.arange(5)))
    np.testing.assert_array_equal(data.read(3), values[3].numpy())
    assert data.labels.tolist() == [0, 1, 2, 3, 4]
    assert data.thumbnail(0).shape == (48, 48, 3)
    assert load_data(TensorDataset(values)).labels is None


def test_mappings_of_tokens_are_inputs_by_name():
    items = [{"input_ids": [1, 2, index], "attention_mask": torch.ones(3), "labels": index} for index in range(3)]
    data = load_data(Items(items))
    assert data.read(2)["input_ids"].tolist() == [1, 2, 2]
    assert set(data.read(2)) == {"input_ids", "attention_mask"}
    assert data.labels.tolist() == [0, 1, 2]
    assert data.thumbnail(0) is None


def test_targets_that_are_no_labels_are_left_out():
    assert load_data(Items([(np.zeros(2), 0.5), (np.ones(2), 0.1)])).labels is None
    assert load_data(Items([(np.zeros(2), {"boxes": []})])).labels is None


def test_lists_of_numbers_are_samples():
    data = load_data([[1.0, 2.0], [3.0, 4.0]])
    assert data.read(1).tolist() == [3.0, 4.0]


def test_classes_come_from_the_dataset_where_they_fit():
    items = Items([(np.zeros(2), 0), (np.ones(2), 1)])
    items.classes = ["cat", "dog"]
    assert load_data(items).classes == ("cat", "dog")
    items.classes = ["cat"]
    assert load_data(items).classes is None


def test_a_limit_is_balanced_where_targets_are_known():
    items = Items([(np.full(2, index), int(index > 9)) for index in range(40)])
    items.targets = [int(index > 9) for index in range(40)]
    data = load_data(items, limit=8)
    assert np.bincount(data.labels).tolist() == [4, 4]
    del items.targets
    assert load_data(items, limit=8).sample_ids == ("2", "7", "12", "17", "22", "27", "32", "37")


def test_a_torch_subset_has_the_content_of_its_items():
    items = Items([(np.full(2, index), index) for index in range(6)])
    direct = load_data({"x": np.array([[4, 4], [1, 1]]), "y": np.array([4, 1])})
    assert load_data(Subset(items, [4, 1])).fingerprint == direct.fingerprint


def test_unreadable_items_are_skipped_or_refused():
    items = Items([np.zeros(2), OSError("disk on fire"), np.ones(2)])
    with pytest.warns(SkippedSamplesWarning, match=r"Skipped 1 of 3 samples of 'Items' .*: 1 \(disk on fire\)"):
        data = load_data(items)
    assert data.sample_ids == ("0", "2")
    assert data.read(1).tolist() == [1, 1]
    with pytest.raises(DataReadError, match=r"'Items' holds samples that cannot be read: 1 \(disk on fire\)"):
        load_data(items, strict=True)


def test_a_mistake_in_the_dataset_is_not_hidden():
    with pytest.raises(ZeroDivisionError, match="mine"):
        load_data(Items([ZeroDivisionError("mine")]))


class Augmented(Items):
    def __getitem__(self, index):
        return np.random.default_rng().standard_normal(3)


def test_random_transforms_are_refused():
    with pytest.raises(
        DataReadError, match=r"Sample 0 of 'Augmented' differs from one reading to the next; take random"
    ):
        load_data(Augmented([1, 2]))


@pytest.mark.parametrize("item", ["a.png", None, np.array(["a"]), [[1], [1, 2]], object()])
def test_items_that_are_no_samples_are_refused(item):
    with pytest.raises(DataReadError, match=r"Sample 0 of 'Items' is a .*; expected an image, an array or tensor"):
        load_data(Items([item]))


def test_a_dataset_without_items_is_an_error():
    with pytest.raises(DataNotFoundError, match=r"Data 'Items' holds no sample"):
        load_data(Items([]))
