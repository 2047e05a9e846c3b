"""The statistics there are, with their names for programs and for people."""

from dataclasses import dataclass

EDGE = 0.1
"""Sobel gradient of luma beyond which a pixel lies on an edge."""

LOW_FREQUENCY = 1 / 8
"""Cycles per pixel up to which structure is coarse: a quarter of the highest frequency that pixels can show."""

DARK_SPOT = 0.2
"""Luma by which a spot is darker than its surroundings, or more."""


@dataclass(frozen=True)
class Statistic:
    """One number of every sample.

    Attributes:
        name: As a variable.
        long_name: For people.
        units: ``1`` for what has none.
    """

    name: str
    long_name: str
    units: str = "1"


def _of_each_channel(prefix: str, long_name: str) -> tuple[Statistic, ...]:
    return tuple(Statistic(f"{prefix}{colour}", long_name.format(colour)) for colour in ("red", "green", "blue"))


PICTURE_STATISTICS = (
    Statistic("brightness", "mean luma, 0 to 1"),
    Statistic("contrast", "standard deviation of luma"),
    Statistic("saturation", "mean saturation (HSV), 0 to 1"),
    *_of_each_channel("", "mean {}, 0 to 1"),
    Statistic("edge_density", f"share of pixels whose Sobel gradient of luma exceeds {EDGE:g}"),
    *_of_each_channel("standard_deviation_", "standard deviation of {}"),
    Statistic("red_minus_green", "mean red less mean green"),
    Statistic("blue_minus_red", "mean blue less mean red"),
    Statistic("blue_minus_yellow", "mean blue less the mean of red and green"),
    *_of_each_channel("border_", "mean {} of the border, 0 to 1"),
    Statistic("border_homogeneity", "standard deviation of the border's colours, times -1"),
    *_of_each_channel("corner_", "mean {} of the four corners, 0 to 1"),
    *_of_each_channel("top_left_", "{} of the top left pixel, 0 to 1"),
    Statistic("dark_spot_share", f"share of pixels in spots darker than their surroundings by {DARK_SPOT:g} of luma"),
    Statistic("low_frequency_share", f"share of luma's variance up to {LOW_FREQUENCY:g} cycles per pixel"),
    Statistic("entropy", "entropy of luma in 256 steps", "bit"),
)
"""Of every picture; the first seven are those of studies from before there were more."""

ARRAY_STATISTICS = (
    Statistic("value_mean", "mean of the values", ""),
    Statistic("value_standard_deviation", "standard deviation of the values", ""),
    Statistic("value_norm", "Euclidean norm of the values", ""),
)
