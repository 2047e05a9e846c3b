"""What can be said of a sample by itself: how bright a picture is, how large the values of an array are."""

from outcrop.data.statistics.arrays import array_statistics
from outcrop.data.statistics.bank import ARRAY_STATISTICS, PICTURE_STATISTICS, Statistic
from outcrop.data.statistics.describing import PICTURE_SIDE, Description, describe
from outcrop.data.statistics.pictures import picture_statistics

__all__ = [
    "ARRAY_STATISTICS",
    "PICTURE_SIDE",
    "PICTURE_STATISTICS",
    "Description",
    "Statistic",
    "array_statistics",
    "describe",
    "picture_statistics",
]
