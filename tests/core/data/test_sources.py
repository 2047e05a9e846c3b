import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from outcrop.data import ArrayData, ImageArray, load_data
from outcrop.errors import DataNotFoundError, DataReadError, ParameterError


def test_data_is_returned_as_it_is_and_renamed_in_a_copy():
    data = ArrayData(np.zeros((3, 2)), name="first")
    assert load_data(data) is data
    renamed = load_data(data, name="second")
    assert (renamed.name, data.name) == ("second", "first")
    assert renamed.fingerprint == data.fingerprint


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
def test_arrays_and_tensors_are_data(make):
    values = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    data = load_data(make(values), name="mine")
    assert data.name == "mine"
    np.testing.assert_array_equal(data.read(2), values[2])
    assert data.source == "array float32 (4, 3)"
    assert isinstance(load_data(make(np.zeros((2, 8, 8, 3), np.uint8))), ImageArray)


def test_tensors_with_gradients_and_half_precision_are_data():
    values = torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True)
    assert load_data({"x": values}).read(0).dtype == np.float32


def test_lists_in_a_mapping_become_arrays_and_ragged_ones_are_refused():
    data = load_data({"input_ids": [[1, 2], [3, 4]], "attention_mask": [[1, 1], [1, 0]]})
    assert data.read(1)["attention_mask"].tolist() == [1, 0]
    assert data.source == "mapping of input_ids, attention_mask"
    with pytest.raises(DataReadError, match=r"A list is no array: .*Pad its rows to one length"):
        load_data({"input_ids": [[1, 2], [3]]})


@pytest.mark.parametrize("limit", [0, -3, 1.5, True, "4"])
def test_a_limit_must_be_a_whole_number_above_0(limit):
    with pytest.raises(ParameterError, match=r"The limit of samples is .*; expected a whole number above 0"):
        load_data(np.zeros((3, 2)), limit=limit)


def test_a_limit_above_the_number_of_samples_takes_all():
    data = ArrayData(np.arange(5.0))
    assert load_data(data, limit=9) is data
    assert load_data(data, limit=np.int64(2)).sample_ids == ("1", "3")


def test_a_limit_is_balanced_by_class():
    data = load_data({"x": np.zeros((90, 2)), "y": np.repeat([0, 1, 2], [10, 30, 50])}, limit=9)
    assert np.bincount(data.labels).tolist() == [3, 3, 3]


def test_a_missing_folder_suggests_what_is_beside(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(
        DataNotFoundError, match=r"There is no folder or file '.*photo'\. Did you mean 'photos'\? Expected"
    ):
        load_data(tmp_path / "photo")
    with pytest.raises(DataNotFoundError, match=r"its parent '.*nowhere' does not exist either"):
        load_data(tmp_path / "nowhere" / "photos")
    with pytest.raises(DataNotFoundError, match="There is no folder or file"):
        load_data("x" * 5000)


def test_a_bare_name_of_a_benchmark_suggests_its_scheme():
    with pytest.raises(DataNotFoundError, match=r"no folder or file 'cifar10'\. Did you mean 'torchvision:CIFAR10'\?"):
        load_data("cifar10")


def test_an_empty_reference_is_not_the_current_folder():
    with pytest.raises(DataNotFoundError, match=r"An empty reference names no data; give a folder, a file or"):
        load_data("  ")


def test_an_unknown_scheme_lists_and_suggests():
    with pytest.raises(
        DataNotFoundError, match=r"no data source 'torchvison' .* Did you mean 'torchvision'\? Available:"
    ):
        load_data("torchvison:CIFAR10")
    with pytest.raises(DataNotFoundError, match=r"Available: .*text, torchvision.*; or give a path"):
        load_data("https://example.org/photos")


@pytest.mark.parametrize("path", [r"C:\photos", "C:/photos", "c:photos"])
def test_a_drive_letter_is_no_scheme(path):
    with pytest.raises(DataNotFoundError, match="There is no folder or file"):
        load_data(path)


def test_an_existing_path_with_a_colon_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("zoo:patches").mkdir()
    Image.new("RGB", (9, 9)).save("zoo:patches/a.png")
    assert load_data("zoo:patches").sample_ids == ("a.png",)


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "a.npy", np.ones(3))
    assert len(load_data("~/a.npy")) == 3


def test_other_files_are_refused_with_advice(tmp_path):
    (tmp_path / "a.csv").touch()
    (tmp_path / "b.txt").touch()
    with pytest.raises(
        DataReadError, match=r"a.csv' is not data; expected an image, a folder of images, or a .npy or .npz"
    ):
        load_data(tmp_path / "a.csv")
    with pytest.raises(DataReadError, match=r"For lines of text say 'text:.*b.txt\?tokenizer=NAME'"):
        load_data(tmp_path / "b.txt")


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([torch.zeros(1)])

    def __len__(self):
        return 1


def test_what_cannot_be_indexed_is_refused_with_advice():
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(3)))
    with pytest.raises(DataReadError, match=r"A DataLoader is not data; expected .* Give the loader's dataset\."):
        load_data(loader)
    with pytest.raises(DataReadError, match=r"A Endless is not data; expected a reference, a path, an array"):
        load_data(Endless())
    with pytest.raises(DataReadError, match=r"A int is not data"):
        load_data(3)


def test_the_zoo_answers_through_its_plugin():
    data = load_data("zoo:patches", limit=20)
    assert isinstance(data.read(0), Image.Image)
    assert np.bincount(data.labels).tolist() == [2] * 10


def test_importing_the_package_imports_neither_torch_nor_pillow_nor_numpy():
    code = (
        "import sys, outcrop.data\n"
        "assert {'load_data', 'batches', 'ImageArray'} <= set(dir(outcrop.data))\n"
        "print([name for name in ('torch', 'PIL', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_exported_name_is_there_and_no_other():
    import outcrop.data

    assert all(getattr(outcrop.data, name) is not None for name in outcrop.data.__all__)
    with pytest.raises(AttributeError, match=r"module 'outcrop\.data' has no attribute 'load_dat'"):
        _ = outcrop.data.load_dat


def test_the_limit_that_was_asked_for_is_remembered() -> None:
    images = np.zeros((6, 4, 4, 3), dtype=np.uint8)
    assert load_data(images).limit is None
    limited = load_data(images, limit=4)
    assert (limited.limit, len(limited)) == (4, 4)
    assert load_data(limited, name="other").limit == 4
