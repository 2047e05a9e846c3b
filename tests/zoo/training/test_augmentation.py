import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop_zoo.training.augmentation import Flip, crop_and_flip

_FLIPPED = {
    "horizontal": (slice(None), slice(None), slice(None, None, -1)),
    "vertical": (slice(None), slice(None, None, -1), slice(None)),
    "none": (slice(None), slice(None), slice(None)),
}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    samples=st.integers(1, 6),
    height=st.integers(6, 12),
    padding=st.integers(0, 4),
    flip=st.sampled_from(["horizontal", "vertical", "none"]),
)
def test_crop_and_flip_equals_a_reference_that_takes_image_by_image(
    seed: int, samples: int, height: int, padding: int, flip: Flip
) -> None:
    images = torch.rand(samples, 3, height, 9, generator=torch.Generator().manual_seed(seed))
    found = crop_and_flip(images, generator=torch.Generator().manual_seed(seed), padding=padding, flip=flip)
    draws = torch.Generator().manual_seed(seed)
    tops, lefts = torch.randint(0, 2 * padding + 1, (2, samples), generator=draws).tolist()
    flips = (torch.rand(samples, generator=draws) < 0.5).tolist()
    for index in range(samples):
        padded = np.pad(images[index].numpy(), [(0, 0), (padding, padding), (padding, padding)], mode="reflect")
        expected = padded[:, tops[index] : tops[index] + height, lefts[index] : lefts[index] + 9]
        np.testing.assert_array_equal(found[index].numpy(), expected[_FLIPPED[flip]] if flips[index] else expected)


def test_without_crop_and_flip_images_are_left_alone() -> None:
    images = torch.rand(5, 3, 8, 8)
    assert torch.equal(crop_and_flip(images, generator=torch.Generator(), padding=0, flip="none"), images)
