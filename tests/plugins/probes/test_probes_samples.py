"""Samples of every kind become what stimuli are made of, and stimuli become samples."""

import numpy as np
import pytest
from PIL import Image

from outcrop.data import ArrayData, ContentData, ImageArray
from outcrop.errors import AnalysisError
from outcrop.stimuli import Stimulus
from outcrop_probes.material import Materials, typical_samples
from outcrop_probes.samples import LARGEST_SIDE, LOOKED_AT, StimulusData, find_form, looked_at

RNG = np.random.default_rng(3)


def images(count=6, size=(8, 10), channels=3):
    return RNG.integers(0, 256, (count, *size, channels), dtype=np.uint8)


def test_images_pass_unchanged_both_ways():
    pixels = images()
    data = ImageArray(pixels)
    form = find_form(data)
    assert (form.takes, form.shape) == ("image", (8, 10, 3))
    np.testing.assert_array_equal(form.decode(data.read(2)), pixels[2])
    np.testing.assert_array_equal(np.asarray(form.encode(pixels[2])), pixels[2])


def test_greyscale_images_have_three_equal_channels():
    pixels = images(channels=1)
    decoded = find_form(ImageArray(pixels)).decode(ImageArray(pixels).read(0))
    np.testing.assert_array_equal(decoded, np.repeat(pixels[0], 3, axis=2))


def test_large_images_are_made_smaller_in_their_proportion():
    form = find_form(ImageArray(images(1, (2 * LARGEST_SIDE, 3 * LARGEST_SIDE))))
    assert form.shape == (LARGEST_SIDE, round(1.5 * LARGEST_SIDE), 3)


def test_a_solid_stimulus_that_is_one_pixel_in_memory_becomes_an_image():
    form = find_form(ImageArray(images()))
    shown = form.encode(np.broadcast_to(np.array([[[1, 2, 3]]], np.uint8), (8, 10, 3)))
    assert isinstance(shown, Image.Image)
    assert shown.getpixel((9, 7)) == (1, 2, 3)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (4.0, -2.0)])
def test_pictures_of_floats_come_back_as_they_were_to_an_eighth_bit(scale, shift):
    values = (scale * RNG.random((20, 3, 9, 8)) + shift).astype(np.float32)
    form = find_form(ArrayData(values))
    assert (form.takes, form.shape) == ("image", (9, 8, 3))
    decoded = form.decode(values[4])
    assert decoded.dtype == np.uint8
    back = form.encode(decoded)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, values[4], atol=0.6 * scale / 255)


def test_white_is_the_largest_value_of_a_channel_where_pictures_are_normalised():
    values = RNG.standard_normal((30, 3, 9, 8))
    white = find_form(ArrayData(values)).encode(np.full((9, 8, 3), 255, np.uint8))
    np.testing.assert_allclose(white[:, 0, 0], values.max(axis=(0, 2, 3)))


def test_pictures_of_one_channel_take_the_mean_of_a_colour():
    form = find_form(ArrayData(RNG.random((5, 1, 9, 8))))
    np.testing.assert_allclose(form.encode(np.full((9, 8, 3), (0, 30, 225), np.uint8)), np.full((1, 9, 8), 85 / 255))


def test_tokens_are_taken_beside_masks_and_other_inputs():
    tokens = RNG.integers(2, 50, (7, 6))
    mask = np.ones((7, 6), np.int64)
    mask[:, 4:] = 0
    data = ArrayData({"attention_mask": mask, "input_ids": tokens, "segment": np.full((7, 6), 9)})
    form = find_form(data)
    assert (form.takes, form.shape) == ("tokens", (6,))
    np.testing.assert_array_equal(form.decode(data.read(3)), tokens[3])
    shown = form.encode(np.full(6, 7))
    np.testing.assert_array_equal(shown["input_ids"], np.full(6, 7))
    np.testing.assert_array_equal(shown["attention_mask"], np.ones(6))
    np.testing.assert_array_equal(shown["segment"], np.full(6, 9))
    vocabulary = Materials(data, form, steps=3, seed=0).of(np.array([0]), np.array([1])).vocabulary
    values, counts = np.unique(tokens[:, :4], return_counts=True)
    assert set(vocabulary) == set(values.tolist())
    assert counts[values == vocabulary[0]] == counts.max()


def test_other_arrays_of_floats_are_arrays():
    data = ArrayData(RNG.standard_normal((7, 5, 4)).astype(np.float32))
    form = find_form(data)
    assert (form.takes, form.shape) == ("array", (5, 4))
    assert form.encode(np.zeros((5, 4))).dtype == np.float32


def test_of_several_arrays_without_tokens_the_first_of_floats_is_varied():
    data = ArrayData({"flag": np.zeros((4, 2), np.int64), "x": RNG.random((4, 3)), "z": RNG.random((4, 3))})
    form = find_form(data)
    shown = form.encode(np.full(3, 0.5))
    np.testing.assert_array_equal(shown["x"], np.full(3, 0.5))
    np.testing.assert_array_equal(shown["z"], data.read(0)["z"])
    np.testing.assert_array_equal(shown["flag"], np.ones(2))


@pytest.mark.parametrize(
    "values", [np.arange(5), {"a": np.arange(5), "b": np.zeros((5, 2), bool)}, np.zeros((5, 2, 2), int)]
)
def test_samples_that_no_stimulus_is_known_for_are_refused(values):
    with pytest.raises(AnalysisError, match="Samples of data 'array' are .*; stimuli are known for images, sequences"):
        find_form(ArrayData(values))


def test_stimuli_are_data_with_names_pictures_and_a_fingerprint():
    form = find_form(ImageArray(images()))
    stimuli = [Stimulus("a", np.zeros((8, 10, 3), np.uint8)), Stimulus("b", np.full((5, 5, 3), 255, np.uint8))]
    data = StimulusData(stimuli, form, ["black", "white"])
    assert list(data.sample_ids) == ["black", "white"]
    assert data.thumbnail(1, 4).shape == (4, 4, 3)
    assert data.thumbnail(1, 4).min() == 255
    assert data.fingerprint != StimulusData(stimuli[::-1], form, ["black", "white"]).fingerprint
    tokens = find_form(ArrayData(RNG.integers(0, 9, (4, 6))))
    assert StimulusData([Stimulus("a", np.zeros(6, int))], tokens).thumbnail(0) is None


def test_what_data_is_like_on_average_is_found_from_evenly_spaced_samples():
    pixels = images(LOOKED_AT + 40)
    data = ImageArray(pixels)
    chosen = looked_at(data)
    assert len(chosen) == LOOKED_AT
    assert (chosen[0], chosen[-1]) == (0, len(pixels) - 1)
    made = Materials(data, find_form(data), steps=3, seed=0).of(np.array([5, 1]), np.array([2]))
    np.testing.assert_allclose(made.mean, pixels[chosen].mean(axis=0))
    np.testing.assert_allclose(made.deviation, pixels[chosen].std(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(made.dominant[0], pixels[5])
    np.testing.assert_array_equal(made.typical[0], pixels[2])


def test_values_that_are_not_finite_have_no_part_in_the_mean():
    values = RNG.standard_normal((6, 5))
    values[2, 1] = np.nan
    data = ArrayData(values)
    made = Materials(data, find_form(data), steps=3, seed=0).of(np.array([0]), np.array([0]))
    np.testing.assert_allclose(made.mean, np.nanmean(values, axis=0))
    np.testing.assert_allclose(made.deviation, np.nanstd(values, axis=0))


def test_typical_samples_lie_in_the_middle():
    assert typical_samples(np.array([9.0, 0.15, np.nan, -8.0, 0.3, 0.2]), np.zeros(6, dtype=bool), 3).tolist() == [
        5,
        1,
        4,
    ]


def test_pictures_of_one_channel_are_grey_and_come_back_as_they_were():
    class Grey(ContentData):
        name, source, sample_ids = "grey", "grey", ("0", "1")

        def read(self, index):
            return Image.fromarray(np.full((9, 9), 40 * (index + 1), dtype=np.uint8))

        def digest(self, index):
            return bytes([index])

    form = find_form(Grey())
    assert form.grey
    back = form.encode(form.decode(Grey().read(1)))
    assert (back.mode, np.asarray(back).max()) == ("L", 80)
    assert find_form(ArrayData(np.random.default_rng(0).random((4, 1, 9, 9)).astype(np.float32))).grey
    assert not find_form(ArrayData(np.random.default_rng(0).random((4, 3, 9, 9)).astype(np.float32))).grey
