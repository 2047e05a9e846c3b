import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from outcrop.data import ArrayData, Data, ImageArray, batches, load_data
from outcrop.errors import DataReadError, InputError, ParameterError
from outcrop.models.model import InputSpec, Model, Preprocessing

PATCHES = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 3), dtype=np.uint8)


def to_tensor(image):
    return torch.as_tensor(np.array(image)).permute(2, 0, 1).float() / 255 - 0.5


class Taker(Model):
    """A model that only says what it takes."""

    name, source, layers = "taker", "here", ()

    def __init__(self, *inputs, transform=None):
        self.inputs = inputs or (InputSpec("image", (3, 8, 8), "float32"),)
        self.preprocessing = Preprocessing("as is", transform) if transform else None

    @property
    def fingerprint(self):
        return "taker"

    def visit(self, inputs, layers, visitor):
        raise AssertionError("batches are assembled here, never run")

    def forward(self, inputs):
        raise AssertionError("batches are assembled here, never run")


TAKES_IMAGES = Taker(transform=to_tensor)
TAKES_FLOATS = Taker(InputSpec("x", (None,), "float32"))
TAKES_TOKENS = Taker(InputSpec("input_ids", (None,), "int64"), InputSpec("attention_mask", (None,), "int64"))


def working_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("outcrop-data")]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.none() | st.lists(st.integers(0, 22), max_size=40))
def test_batches_are_single_reads_in_order(batch_size, order):
    data = ImageArray(PATCHES)
    expected = list(range(23)) if order is None else order
    found = list(
        batches(data, TAKES_IMAGES, batch_size=batch_size, order=None if order is None else np.array(order, int))
    )
    assert [len(batch.sample_index) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
    assert [index for batch in found for index in batch.sample_index.tolist()] == expected
    if expected:
        inputs = torch.cat([batch.inputs["image"] for batch in found])
        torch.testing.assert_close(inputs, torch.stack([to_tensor(data.read(i)) for i in expected]), rtol=0, atol=0)
        assert inputs.dtype == torch.float32
    assert not working_threads()


def test_images_of_the_models_own_size_are_preprocessed_as_well():
    batch = next(batches(ImageArray(PATCHES), TAKES_IMAGES, batch_size=2))
    np.testing.assert_allclose(batch.inputs["image"][1].permute(1, 2, 0), PATCHES[1] / 255 - 0.5, atol=1e-6)


def test_images_take_the_type_of_the_input():
    model = Taker(InputSpec("pixels", (3, 8, 8), "float16"), transform=to_tensor)
    assert next(batches(ImageArray(PATCHES), model, batch_size=4)).inputs["pixels"].dtype == torch.float16


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", ">f8", "int16", "uint8", "bool"])
def test_arrays_become_the_type_of_the_input(dtype):
    values = np.arange(12).reshape(3, 4).astype(dtype)
    batch = next(batches(ArrayData(values), TAKES_FLOATS, batch_size=3))
    assert batch.inputs["x"].dtype == torch.float32
    np.testing.assert_array_equal(batch.inputs["x"], values.astype(np.float32))
    model = Taker(InputSpec("x", (None,), "bfloat16"))
    assert next(batches(ArrayData(values), model, batch_size=3)).inputs["x"].dtype == torch.bfloat16


def test_not_numbers_pass_and_what_overflows_is_infinite():
    batch = next(batches(ArrayData(np.array([[np.nan, 1e300]])), TAKES_FLOATS, batch_size=1))
    assert batch.inputs["x"].isnan().tolist() == [[True, False]]
    assert batch.inputs["x"].isinf().tolist() == [[False, True]]


def test_tokens_become_int64_and_extra_arrays_are_left_out():
    arrays = {name: np.ones((5, 7), dtype=np.int32) for name in ("input_ids", "attention_mask", "token_type_ids")}
    batch = next(batches(ArrayData(arrays), TAKES_TOKENS, batch_size=5))
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in batch.inputs.items()} == {
        "input_ids": (torch.int64, (5, 7)),
        "attention_mask": (torch.int64, (5, 7)),
    }


def test_a_memory_mapped_file_is_read_without_a_warning(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((5, 4), np.float32))
    assert next(batches(load_data(tmp_path / "a.npy"), TAKES_FLOATS, batch_size=5)).inputs["x"].sum() == 20


def first_error(data, model, **options):
    return next(iter(batches(data, model, **{"batch_size": 4, **options})))


def test_a_missing_input_is_named():
    with pytest.raises(
        InputError, match=r"'taker' takes input_ids, attention_mask; data 'array' offers input_ids, without att"
    ):
        first_error(ArrayData({"input_ids": np.ones((3, 2), int)}), TAKES_TOKENS)
    with pytest.raises(InputError, match=r"takes an input 'attention_mask'; the data offers input_ids"):
        first_error(ArrayData(np.ones((3, 2), int)), TAKES_TOKENS)


def test_an_image_for_a_model_without_preprocessing_is_refused():
    with pytest.raises(
        InputError, match=r"Sample '0' of data 'images' is an image, and model 'taker' has no preprocessing"
    ):
        first_error(ImageArray(PATCHES), TAKES_FLOATS)


def test_fractions_are_not_cut_to_whole_numbers():
    with pytest.raises(
        InputError, match=r"Input 'input_ids' takes int64; sample '0' of data 'array' is float64, which would"
    ):
        first_error(ArrayData(np.ones((3, 2))), TAKES_TOKENS)


def test_an_input_of_no_numeric_type_is_refused():
    with pytest.raises(InputError, match=r"Input 'x' takes 'string'; expected a numeric type such as 'float32'"):
        first_error(ArrayData(np.ones((3, 2))), Taker(InputSpec("x", (None,), "string")))


def test_a_wrong_shape_is_refused_by_the_model():
    with pytest.raises(InputError, match=r"takes 'image' of shape \(3, 8, 8\) per sample; the data has \(3, 9, 9\)"):
        first_error(ArrayData(np.zeros((4, 3, 9, 9))), Taker())


def test_samples_of_different_shapes_are_named():
    model = Taker(InputSpec("image", (3, None, None), "float32"), transform=to_tensor)
    images = [Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8)), Image.new("RGB", (9, 5))]
    with pytest.raises(
        InputError, match=r"differ in shape .*: '0' is \(3, 8, 8\), '2' is \(3, 5, 9\)\. Bring them to one"
    ):
        first_error(load_data(images), model)
    shapes = [tuple(batch.inputs["image"].shape) for batch in batches(load_data(images), model, batch_size=1)]
    assert shapes == [(1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 5, 9)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, r"The batch size is 0; expected at least 1"),
        ({"order": np.array([0, 23])}, r"There is no sample 23 in data 'images'; expected 0 to 22"),
        ({"order": np.array([0.5])}, r"The order of samples is float64 of shape \(1,\); expected a list of positions"),
        ({"order": np.array([[1]])}, r"The order of samples is int64 of shape \(1, 1\)"),
    ],
)
def test_arguments_are_checked_at_the_call(options, words):
    with pytest.raises(ParameterError, match=words):
        batches(ImageArray(PATCHES), TAKES_IMAGES, **{"batch_size": 4, **options})


class Slow(Data):
    """Counts what was read; breaks at one position."""

    name, source = "slow", "here"

    def __init__(self, count, *, broken=None, concurrent=True, seconds=0.0):
        self.sample_ids = tuple(map(str, range(count)))
        self.concurrent, self.broken, self.seconds = concurrent, broken, seconds
        self.reads, self.readers = [], set()

    @property
    def fingerprint(self):
        return "slow"

    def read(self, index):
        self.reads.append(index)
        self.readers.add(threading.current_thread().name)
        time.sleep(self.seconds)
        if index == self.broken:
            raise DataReadError(f"Sample {index} is broken.")
        return np.full(2, float(index))


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_no_more_is_read_ahead_than_is_bounded(batch_size):
    data = Slow(1000)
    iterator = batches(data, TAKES_FLOATS, batch_size=batch_size)
    assert data.reads == []
    for taken in range(1, 6):
        next(iterator)
        assert len(data.reads) <= batch_size * taken + max(2 * batch_size, 2 * 8 + batch_size)
    iterator.close()
    assert not working_threads()
    before = len(data.reads)
    time.sleep(0.02)
    assert len(data.reads) == before < 1000


def test_closing_does_not_wait_for_a_whole_batch():
    data = Slow(400, seconds=0.005)
    iterator = batches(data, TAKES_FLOATS, batch_size=100, order=np.arange(400))
    next(iterator)
    iterator.close()
    assert len(data.reads) < 300
    assert not working_threads()


def test_an_error_in_reading_arrives_after_the_batches_before_it():
    iterator = batches(Slow(40, broken=25), TAKES_FLOATS, batch_size=10)
    assert [next(iterator).sample_index[0], next(iterator).sample_index[0]] == [0, 10]
    with pytest.raises(DataReadError, match="Sample 25 is broken"):
        next(iterator)
    assert not working_threads()


def test_data_that_does_not_promise_otherwise_is_read_by_one_thread():
    data = Slow(60, concurrent=False, seconds=0.0005)
    list(batches(data, TAKES_FLOATS, batch_size=10))
    assert len(data.readers) == 1
    assert data.reads == list(range(60))


def test_streams_of_several_models_read_such_data_one_after_the_other():
    class Counted(Slow):
        within = most = 0

        def read(self, index):
            self.within += 1
            self.most = max(self.most, self.within)
            try:
                return super().read(index)
            finally:
                self.within -= 1

    data = Counted(40, concurrent=False, seconds=0.001)
    streams = [batches(data, TAKES_FLOATS, batch_size=10) for _ in range(3)]
    for together in zip(*streams, strict=True):
        assert len({tuple(batch.sample_index) for batch in together}) == 1
    assert data.most == 1


def test_an_iterator_that_is_forgotten_leaves_no_thread():
    iterator = batches(Slow(100), TAKES_FLOATS, batch_size=10)
    next(iterator)
    del iterator
    assert not working_threads()


def test_a_thousand_patches_take_well_under_a_second():
    images = np.random.default_rng(0).integers(0, 256, (1024, 32, 32, 3), dtype=np.uint8)
    model = Taker(InputSpec("image", (3, 32, 32), "float32"), transform=to_tensor)
    start = time.process_time()
    count = sum(len(batch.sample_index) for batch in batches(ImageArray(images), model, batch_size=256))
    assert count == 1024
    # Of all threads together, so that a busy machine changes little.
    assert time.process_time() - start < 1
