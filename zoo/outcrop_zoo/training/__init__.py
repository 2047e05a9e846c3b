"""Train the zoo's networks from recipes."""

from outcrop_zoo.training.checkpoints import read_checkpoint
from outcrop_zoo.training.finishing import snapshot_network
from outcrop_zoo.training.images import ImageSet
from outcrop_zoo.training.loop import accuracy, train
from outcrop_zoo.training.run import TrainingRun
from outcrop_zoo.training.storing import MetricsStore, store_metrics

__all__ = [
    "ImageSet",
    "MetricsStore",
    "TrainingRun",
    "accuracy",
    "read_checkpoint",
    "snapshot_network",
    "store_metrics",
    "train",
]
