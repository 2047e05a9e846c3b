"""Train the zoo's networks from recipes."""

from outcrop_zoo.training.loop import ImageSet, TrainingRun, accuracy, train

__all__ = ["ImageSet", "TrainingRun", "accuracy", "train"]
