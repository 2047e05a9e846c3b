"""What the families of images are made with: colours, luma, blur and spectra of uint8 pictures (y, x, channel)."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Pixels = Float[np.ndarray, "y x channel"]
Colour = tuple[float, float, float]

LUMA = np.array([0.2126, 0.7152, 0.0722])
"""Weights of the encoded channels, of ITU-R BT.709."""


def to_picture(pixels: Pixels) -> Picture:
    """Return pixels from 0 to 255, of any precision and clipped where they leave the range, as a picture."""
    return np.asarray(np.round(np.clip(pixels, 0, 255)), dtype=np.uint8)


def solid(shape: tuple[int, ...], colour: Colour) -> Picture:
    """Return a picture of one colour (0 to 1), which takes the memory of one pixel whatever its size."""
    pixel = to_picture(255 * np.asarray(colour, dtype=np.float64).reshape(1, 1, 3))
    return np.broadcast_to(pixel, (shape[0], shape[1], 3))


def colour_of(pixels: NDArray[np.generic]) -> Colour:
    """Return the mean colour, 0 to 1, of pixels from 0 to 255 whose last dimension is the channel."""
    red, green, blue = (np.asarray(pixels, dtype=np.float64).reshape(-1, 3).mean(axis=0) / 255).tolist()
    return red, green, blue


def luma_of(pixels: Pixels) -> Pixels:
    """Return the luma of pixels, repeated over the channels."""
    return np.repeat((pixels @ LUMA)[:, :, None], 3, axis=2)


def border_of(picture: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return which pixels (y, x) are border: the outer eighth of the shorter side, 2 pixels at least."""
    height, width = picture.shape[:2]
    return outer(height, width, max(2, min(height, width) // 8))


def outer(height: int, width: int, thickness: float) -> NDArray[np.bool_]:
    """Return which pixels (y, x) lie within a distance of an edge."""
    y, x = np.indices((height, width))
    return np.asarray(np.minimum(np.minimum(y, height - 1 - y), np.minimum(x, width - 1 - x)) < thickness)


def centre_of(picture: NDArray[np.generic]) -> Float[np.ndarray, "y x 1"]:
    """Return how far each pixel belongs to what stands in the centre: 1 in an ellipse, falling to 0 at its edge.

    Without a segmentation, the object of a photograph is taken to lie in the ellipse of three quarters of its sides.
    """
    y, x = (np.linspace(-1, 1, size) for size in picture.shape[:2])
    distance = np.hypot(y[:, None], x[None, :]) / 0.75
    return np.asarray(np.clip((1.1 - distance) / 0.2, 0, 1)[:, :, None])


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    """Return pixels after a Gaussian blur of so many pixels, edges reflected."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(pixels, (sigma, sigma, 0), mode="reflect"))


def with_random_phases(amplitude: Pixels, rng: np.random.Generator) -> Pixels:
    """Return pixels of given amplitudes of the Fourier transform and phases of white noise, the same in all channels.

    The phases of noise are those of a real picture, and one set for all channels keeps how these go together
    (Dakin, Hess, Ledgeway and Achtman 2002, doi:10.1016/S0042-6989(02)00222-7).
    """
    noise = np.fft.fft2(rng.standard_normal(amplitude.shape[:2]))
    phase = np.exp(1j * np.angle(noise))
    # The mean stays: its phase says whether it is positive.
    phase[0, 0] = 1
    return np.fft.ifft2(amplitude * phase[:, :, None], axes=(0, 1)).real


def amplitude_of(pixels: Pixels) -> Pixels:
    """Return the amplitudes of the Fourier transform of each channel."""
    return np.abs(np.fft.fft2(pixels, axes=(0, 1)))


def fitted(picture: Picture, shape: tuple[int, ...]) -> Picture:
    """Return the centre of a picture at a size (y, x)."""
    from PIL import Image, ImageOps

    if picture.shape[:2] == tuple(shape[:2]):
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(ImageOps.fit(image, (shape[1], shape[0]), Image.Resampling.BICUBIC))
