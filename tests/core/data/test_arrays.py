import hashlib
import struct

import numpy as np
import pytest
from PIL import Image

from outcrop.data import ArrayData, ImageArray
from outcrop.errors import DataNotFoundError, DataReadError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (4, 9, 8, 3), dtype=np.uint8)


def test_an_image_array_gives_rgb_images_and_thumbnails():
    data = ImageArray(COLOUR, name="colour", source="here", labels=[0, 1, 0, 1], classes=["a", "b"])
    image = data.read(2)
    assert isinstance(image, Image.Image)
    np.testing.assert_array_equal(np.asarray(image), COLOUR[2])
    assert data.thumbnail(0).shape == (48, 48, 3)
    assert (data.name, data.source, data.classes) == ("colour", "here", ("a", "b"))
    assert data.sample_ids == ("0", "1", "2", "3")
    assert data.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (COLOUR[..., 0], np.repeat(COLOUR[..., :1], 3, axis=-1)),
        (COLOUR[..., :1], np.repeat(COLOUR[..., :1], 3, axis=-1)),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR),
        (np.concatenate([COLOUR, COLOUR[..., :1]], axis=-1), COLOUR),
    ],
    ids=["grey", "one channel", "channel first", "with transparency"],
)
def test_every_layout_of_images_reads_as_rgb(array, expected):
    data = ImageArray(array)
    np.testing.assert_array_equal(np.stack([np.asarray(data.read(index)) for index in range(4)]), expected)


@pytest.mark.parametrize(
    "array",
    [COLOUR.astype(np.float32), COLOUR[0, 0], COLOUR[:, 0, 0], RNG.integers(0, 9, (2, 5, 5, 5)).astype(np.uint8)],
)
def test_what_is_no_image_is_refused(array):
    with pytest.raises(
        DataReadError, match=r"images of type .* and shape .*; expected uint8 \(sample, y, x, channel\)"
    ):
        ImageArray(array)


def test_floats_and_tokens_are_read_as_they_are():
    values = RNG.standard_normal((5, 3, 10, 10)).astype(np.float32)
    data = ArrayData(values)
    np.testing.assert_array_equal(data.read(3), values[3])
    assert data.thumbnail(3).shape == (48, 48, 3)
    tokens = ArrayData({"input_ids": np.arange(12).reshape(4, 3), "attention_mask": np.ones((4, 3), bool)})
    assert tokens.read(1)["input_ids"].tolist() == [3, 4, 5]
    assert tokens.thumbnail(1) is None


def test_what_was_read_cannot_change_the_data():
    values = np.zeros((2, 3))
    with pytest.raises(ValueError, match="read-only"):
        ArrayData(values).read(0)[0] = 1
    values[0] = 1


def test_no_sample_is_an_error():
    with pytest.raises(DataNotFoundError, match=r"Data 'array' holds no sample; expected at least one"):
        ArrayData(np.zeros((0, 3)))
    with pytest.raises(DataNotFoundError, match=r"Data 'images' holds no sample"):
        ImageArray(np.zeros((0, 4, 4, 3), np.uint8))


@pytest.mark.parametrize("array", [np.array(1.0), np.array(["a"]), np.array([1j]), np.array([None])])
def test_only_numbers_with_a_sample_dimension_are_taken(array):
    with pytest.raises(DataReadError, match=r"has an array of type .* expected real numbers with a sample dimension"):
        ArrayData(array)


def test_arrays_of_different_lengths_are_refused_by_name():
    with pytest.raises(DataReadError, match=r"arrays of one length, one row a sample; found a 2, array 3"):
        ArrayData({"a": np.zeros(2), "array": np.zeros(3)})
    with pytest.raises(DataReadError, match=r"has an array 'text' of type <U1"):
        ArrayData({"text": np.array(["a"])})


def test_ids_must_be_unique_and_as_many_as_samples():
    with pytest.raises(DataReadError, match=r"Data 'array' has the sample id 'b' more than once; ids must be unique"):
        ArrayData(np.zeros(4), sample_ids=["a", "b", "c", "b"])
    with pytest.raises(DataReadError, match=r"has 4 samples and 2 sample ids; give one id a sample"):
        ArrayData(np.zeros(4), sample_ids=["a", "b"])
    assert ArrayData(np.zeros(2), sample_ids=np.array([7, 9])).sample_ids == ("7", "9")


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        ([0, 1], None, r"4 samples and labels of shape \(2,\); give one label a sample"),
        ([0.5, 1, 2, 3], None, r"labels of type float64; expected whole numbers or names"),
        ([0, 1, 2, 3], ["a", "b"], r"labels from 0 to 3 and 2 classes; expected 0 to 1"),
        ([-1, 0, 1, 1], ["a", "b"], r"labels from -1 to 1 and 2 classes"),
        (["a", "b", "c", "a"], ["a", "b"], r"the label 'c', which is none of its classes \('a', 'b'\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, classes, words):
    with pytest.raises(DataReadError, match=words):
        ArrayData(np.zeros(4), labels=labels, classes=classes)


def test_labels_may_be_names_columns_or_whole_floats():
    named = ArrayData(np.zeros(3), labels=["dog", "cat", "dog"])
    assert (named.labels.tolist(), named.classes) == ([1, 0, 1], ("cat", "dog"))
    assert ArrayData(np.zeros(3), labels=["b", "a", "b"], classes=["b", "a"]).labels.tolist() == [0, 1, 0]
    column = ArrayData(np.zeros(3), labels=np.array([[2.0], [0.0], [1.0]]))
    assert column.labels.tolist() == [2, 0, 1]
    assert column.labels.dtype == np.int64


def test_the_fingerprint_covers_values_types_shapes_ids_labels_and_classes():
    values = np.arange(12, dtype=np.int32).reshape(3, 4)
    variants = [
        ArrayData(values),
        ArrayData(values[::-1]),
        ArrayData(values.astype(np.int64)),
        ArrayData(values.reshape(3, 2, 2)),
        ArrayData({"x": values}),
        ArrayData({"y": values}),
        ArrayData(values, sample_ids=["a", "b", "c"]),
        ArrayData(values, labels=[0, 1, 0]),
        ArrayData(values, labels=[0, 1, 1]),
        ArrayData(values, labels=[0, 1, 1], classes=["a", "b"]),
    ]
    assert len({data.fingerprint for data in variants}) == len(variants)


def test_the_fingerprint_ignores_names_and_memory_layout():
    values = RNG.standard_normal((3, 4, 5))
    first = ArrayData(values).fingerprint
    assert ArrayData(np.asfortranarray(values), name="other", source="there").fingerprint == first
    assert ArrayData(values.astype(">f8")).fingerprint == first
    assert ImageArray(COLOUR).fingerprint == ImageArray(COLOUR[:, ::-1][:, ::-1]).fingerprint


def test_the_fingerprint_is_the_same_on_every_machine():
    data = ArrayData(np.arange(6, dtype=np.float32).reshape(2, 3), labels=[1, 0])
    total = hashlib.sha256(b"None")
    for sample_id, label, values in (("0", 1, (0, 1, 2)), ("1", 0, (3, 4, 5))):
        content = hashlib.sha256(b"('', (3,), '<f4')" + struct.pack("<3f", *values)).hexdigest()
        total.update(f"('{sample_id}', {label}, '{content}')".encode())
    assert data.fingerprint == data.fingerprint == total.hexdigest()
