"""Train the zoo's networks from recipes."""

from outcrop_zoo.training.loop import ImageSet, TrainingRun, accuracy, read_checkpoint, train

__all__ = ["ImageSet", "TrainingRun", "accuracy", "read_checkpoint", "train"]
