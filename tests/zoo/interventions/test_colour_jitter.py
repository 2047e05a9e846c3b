import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import functional as torchvision_functional

from outcrop.errors import InputError, ParameterError
from outcrop_zoo.interventions import ColourJitter, jitter_colours
from outcrop_zoo.interventions.colour_jitter import add_brightness, scale_contrast, scale_saturation, to_grey, turn_hue


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(seed: int, samples: int = 3, size: int = 5, *, low: float = 0, high: float = 1) -> Tensor:
    return low + (high - low) * torch.rand(samples, 3, size, size, generator=_generator(seed))


def _uniform(seed: int, samples: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(samples, generator=_generator(seed + 1))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_hue_equals_torchvision_image_by_image(seed: int) -> None:
    images, turns = _images(seed), _uniform(seed, 3, -0.5, 0.5)
    found = turn_hue(images, turns)
    for image, turn, mine in zip(images, turns.tolist(), found, strict=True):
        torch.testing.assert_close(mine, torchvision_functional.adjust_hue(image, turn), rtol=0, atol=2e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_contrast_equals_torchvision_channel_by_channel(seed: int) -> None:
    images, factors = _images(seed), _uniform(seed, 3, 0.2, 1.8)
    found = scale_contrast(images, factors).clamp(0, 1)
    for image, factor, mine in zip(images, factors.tolist(), found, strict=True):
        for channel in range(3):
            expected = torchvision_functional.adjust_contrast(image[channel : channel + 1], factor)
            torch.testing.assert_close(mine[channel : channel + 1], expected, rtol=0, atol=2e-6)


def test_grey_equals_torchvision() -> None:
    images = _images(0)
    expected = torchvision_functional.rgb_to_grayscale(images, num_output_channels=3)
    torch.testing.assert_close(to_grey(images), expected)


def test_brightness_is_added() -> None:
    images = _images(0)
    found = add_brightness(images, torch.tensor([0.0, 0.5, -0.25]))
    assert torch.equal(found, images + torch.tensor([0.0, 0.5, -0.25]).view(3, 1, 1, 1))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), low=st.sampled_from([0.0, -0.7]), high=st.sampled_from([1.0, 1.6]))
def test_saturation_and_hue_equal_the_standard_library_pixel_by_pixel_also_out_of_range(
    seed: int, low: float, high: float
) -> None:
    images = _images(seed, samples=2, size=3, low=low, high=high).double()
    factors, turns = _uniform(seed, 2, 0, 2).double(), _uniform(seed, 2, -0.5, 0.5).double()
    saturated, turned = scale_saturation(images, factors), turn_hue(images, turns)
    for sample in range(2):
        for y in range(3):
            for x in range(3):
                hue, saturation, value = colorsys.rgb_to_hsv(*images[sample, :, y, x].tolist())
                scaled = min(max(saturation * float(factors[sample]), 0), 1) if value > 0 else 0
                expected = colorsys.hsv_to_rgb(hue, scaled, value)
                np.testing.assert_allclose(saturated[sample, :, y, x], expected, atol=1e-12)
                expected = colorsys.hsv_to_rgb((hue + float(turns[sample])) % 1, saturation, value)
                np.testing.assert_allclose(turned[sample, :, y, x], expected, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_turning_the_hue_keeps_the_extremes_and_a_full_turn_everything(seed: int) -> None:
    images = _images(seed, low=-1, high=2).double()
    turned = turn_hue(images, _uniform(seed, 3, -0.5, 0.5).double())
    torch.testing.assert_close(turned.amax(1), images.amax(1))
    torch.testing.assert_close(turned.amin(1), images.amin(1))
    torch.testing.assert_close(turn_hue(images, torch.ones(3).double()), images)


def test_images_without_colour_stay_without() -> None:
    grey = torch.rand(3, 1, 4, 4, generator=_generator(0)).expand(-1, 3, -1, -1)
    anything = torch.tensor([0.3, 1.7, 0.1])
    assert torch.equal(scale_saturation(grey, anything), grey)
    assert torch.equal(turn_hue(grey, anything), grey)
    black = torch.zeros(3, 3, 2, 2)
    assert torch.equal(turn_hue(scale_saturation(black, anything), anything), black)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_whole_chain_equals_a_reference_that_takes_image_by_image(seed: int) -> None:
    # Mild, so that torchvision's clipping in between, which the released code does not do, has nothing to clip.
    images = _images(seed, samples=8, low=0.4, high=0.6)
    found = jitter_colours(
        images, generator=_generator(seed), brightness=0.1, contrast=0.8, saturation=0, hue=0.2, greyscale=0.4
    )
    draws = torch.rand(6, 8, generator=_generator(seed))
    for index, image in enumerate(images):
        jittered, brightness, contrast, _, hue, grey = draws[:, index].tolist()
        expected = image
        if jittered < 0.8:
            expected = expected + 0.1 * (2 * brightness - 1)
            expected = torch.cat(
                [
                    torchvision_functional.adjust_contrast(channel[None], 1 + 0.8 * (2 * contrast - 1))
                    for channel in expected
                ]
            )
            expected = torchvision_functional.adjust_hue(expected, 0.2 * (2 * hue - 1))
        if grey < 0.4:
            expected = torchvision_functional.rgb_to_grayscale(expected, num_output_channels=3)
        torch.testing.assert_close(found[index], expected, rtol=0, atol=5e-6)


def test_at_full_strength_values_are_clipped_and_shares_are_as_asked() -> None:
    images = _images(0, samples=2000, size=2)
    found = jitter_colours(images, generator=_generator(1))
    assert float(found.min()) == 0
    assert float(found.max()) == 1
    grey = (found.amax(1) - found.amin(1)).flatten(1).amax(1) < 1e-6
    unchanged = (found == images).flatten(1).all(1)
    coloured = jitter_colours(images, generator=_generator(1), greyscale=0)
    # Brightness moves some images to all black or white, so the share of grey ones is taken where that did not happen.
    kept = (coloured.amax(1) - coloured.amin(1)).flatten(1).amax(1) > 1e-6
    assert float(grey[kept].float().mean()) == pytest.approx(0.2, abs=0.03)
    assert float(unchanged.float().mean()) == pytest.approx(0.2 * 0.8, abs=0.03)


def test_amounts_are_uniform_over_their_ranges() -> None:
    flat = torch.full((4000, 3, 1, 1), 0.5)
    found = jitter_colours(
        flat, generator=_generator(0), brightness=0.4, contrast=0, saturation=0, hue=0, probability=1, greyscale=0
    )[:, 0, 0, 0]
    quantiles = torch.quantile(found, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    torch.testing.assert_close(quantiles, torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]), rtol=0, atol=0.02)


def test_the_same_generator_gives_the_same_images_and_the_global_one_is_left_alone() -> None:
    images = _images(0)
    before, state = images.clone(), torch.random.get_rng_state()
    first, second = (ColourJitter().augment(images, _generator(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, ColourJitter().augment(images, _generator(4)))
    assert torch.equal(images, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_every_image_is_distorted_its_own_way() -> None:
    same = _images(0, samples=1).expand(16, -1, -1, -1)
    found = jitter_colours(same, generator=_generator(0), probability=1, greyscale=0)
    assert len({tuple(image.flatten().tolist()) for image in found}) == 16


def test_as_many_numbers_are_drawn_whatever_happens() -> None:
    after = []
    for amounts in ({}, {"probability": 0, "greyscale": 0, "hue": 0}):
        generator = _generator(0)
        jitter_colours(_images(0), generator=generator, **amounts)
        after.append(torch.rand(3, generator=generator))
    assert torch.equal(*after)


def test_without_any_amount_images_stay_as_they_are() -> None:
    jitter = ColourJitter(brightness=0, contrast=0, saturation=0, hue=0, greyscale=0)
    images = _images(0)
    torch.testing.assert_close(jitter.augment(images, _generator(0)), images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (3, 4, 4)])
def test_images_that_are_not_rgb_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"need images \(sample, 3, y, x\); got \(.*\)\. Leave the jitter out"):
        jitter_colours(torch.zeros(shape), generator=_generator(0))


def test_amounts_out_of_range_are_refused() -> None:
    with pytest.raises(ParameterError, match="contrast=1.2 is out of range; give a number from 0 to 1"):
        ColourJitter(contrast=1.2)
    with pytest.raises(ParameterError, match="hue=0.6 is out of range; give a number from 0 to 0.5"):
        ColourJitter(hue=0.6)
