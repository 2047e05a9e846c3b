"""Train the zoo's networks from recipes."""

from outcrop_zoo.training.checkpoints import read_checkpoint
from outcrop_zoo.training.images import ImageSet
from outcrop_zoo.training.loop import accuracy, snapshot_network, train
from outcrop_zoo.training.run import TrainingRun
from outcrop_zoo.training.storing import store_metrics

__all__ = ["ImageSet", "TrainingRun", "accuracy", "read_checkpoint", "snapshot_network", "store_metrics", "train"]
