import numpy as np
import pytest

from outcrop.data import ArrayData, ImageArray, load_data
from outcrop.errors import DataNotFoundError, DataReadError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
FLOATS = RNG.standard_normal((6, 3, 4, 5))


def test_an_npy_file_of_floats_is_mapped_and_taken_as_it_is(tmp_path):
    np.save(tmp_path / "values.npy", FLOATS)
    data = load_data(tmp_path / "values.npy")
    assert isinstance(data, ArrayData)
    assert (data.name, data.source, len(data)) == ("values", str(tmp_path / "values.npy"), 6)
    np.testing.assert_array_equal(data.read(4), FLOATS[4])
    assert isinstance(data._arrays[""].base, np.memmap)
    assert data.fingerprint == load_data(FLOATS).fingerprint


def test_an_npy_file_of_uint8_is_images(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    data = load_data(str(tmp_path / "images.npy"))
    assert isinstance(data, ImageArray)
    np.testing.assert_array_equal(np.asarray(data.read(1)), IMAGES[1])


@pytest.mark.parametrize("key", ["images", "x", "inputs", "arr_0", "whatever"])
@pytest.mark.parametrize("label_key", ["labels", "label", "y"])
def test_an_npz_file_gives_samples_labels_ids_and_classes(tmp_path, key, label_key):
    names = [f"sample {index}" for index in range(6)]
    arrays = {key: IMAGES, label_key: np.arange(6) % 2, "ids": np.array(names), "classes": np.array(["a", "b"])}
    np.savez_compressed(tmp_path / "set.npz", **arrays)
    data = load_data(tmp_path / "set.npz")
    assert isinstance(data, ImageArray)
    assert data.sample_ids == tuple(names)
    assert data.labels.tolist() == [0, 1] * 3
    assert data.classes == ("a", "b")


def test_several_arrays_of_one_length_are_inputs_by_name(tmp_path):
    tokens = {"input_ids": np.arange(24).reshape(6, 4), "attention_mask": np.ones((6, 4), np.int64)}
    np.savez(tmp_path / "tokens.npz", **tokens, labels=np.arange(6))
    data = load_data(tmp_path / "tokens.npz")
    assert set(data.read(0)) == {"input_ids", "attention_mask"}
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_labels_of_every_token_stay_an_input():
    data = load_data({"input_ids": np.ones((3, 4), int), "labels": np.ones((3, 4), int)})
    assert data.labels is None
    assert set(data.read(0)) == {"input_ids", "labels"}


def test_targets_of_regression_are_left_out():
    data = load_data({"x": np.ones((3, 4)), "y": np.array([0.1, 0.2, 0.3])})
    assert data.labels is None
    np.testing.assert_array_equal(data.read(0), np.ones(4))


def test_an_array_called_y_alone_is_the_samples():
    np.testing.assert_array_equal(load_data({"y": np.arange(3.0)}).read(2), 2.0)


def test_an_npz_file_of_several_splits_is_refused(tmp_path):
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros((4, 2)), x_test=np.zeros((2, 2)))
    with pytest.raises(DataReadError, match=r"Data 'mnist' must hold arrays of one length.*found x_train 4, x_test 2"):
        load_data(tmp_path / "mnist.npz")


def test_nothing_but_ids_is_no_data():
    with pytest.raises(DataReadError, match=r"Data 'mapping' holds no array of samples; found ids"):
        load_data({"ids": np.arange(3)})
    with pytest.raises(DataReadError, match=r"holds no array of samples; found nothing"):
        load_data({})


def test_pickled_objects_are_not_executed(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataReadError, match=r"objects.npy' cannot be read as .npy: .*Expected what numpy.save"):
        load_data(tmp_path / "objects.npy")
    np.savez(tmp_path / "objects.npz", x=np.array([None]))
    with pytest.raises(DataReadError, match=r"objects.npz' cannot be read as .npz: .*allow_pickle"):
        load_data(tmp_path / "objects.npz")


@pytest.mark.parametrize("end", [".npy", ".npz"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
def test_a_file_cut_short_is_one_clear_error(tmp_path, end, share):
    path = tmp_path / f"cut{end}"
    if end == ".npy":
        np.save(path, FLOATS)
    else:
        np.savez_compressed(path, x=FLOATS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataReadError, match=rf"cut{end}' cannot be read as {end}: .*Expected what numpy.save"):
        load_data(path)


def test_a_garbled_npz_member_is_one_clear_error(tmp_path):
    path = tmp_path / "bad.npz"
    np.savez_compressed(path, x=FLOATS)
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(bytes(content))
    with pytest.raises(DataReadError, match=r"cannot be read as \.npz"):
        load_data(path)


def test_no_sample_in_a_file_is_an_error(tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 3)))
    with pytest.raises(DataNotFoundError, match=r"Data 'none' holds no sample"):
        load_data(tmp_path / "none.npy")
