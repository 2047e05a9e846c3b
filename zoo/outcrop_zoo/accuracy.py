"""Top-1 accuracy of a model on a data source, read the way everybody reads it."""

import numpy as np

from outcrop import Model
from outcrop.errors import ZooError
from outcrop.progress import Progress, silent
from outcrop_zoo.cards import AccuracyRecord

_BATCH = 250


def measure_accuracy(model: Model, reference: str, *, progress: Progress = silent) -> AccuracyRecord:
    """Return the share of samples of a data source whose largest logit is their label.

    Args:
        model: Whose logits are in the order of the data's classes.
        reference: What ``outcrop.load_data`` takes.
        progress: Told of images.

    Raises:
        DataNotFoundError: There is no such data here.
        ZooError: The data has no labels, or other classes than the model.
    """
    from outcrop.data import batches, load_data

    data = load_data(reference)
    if data.labels is None:
        raise ZooError(f"The data {reference} has no labels, so there is no accuracy on it; give labelled data.")
    if data.classes != model.classes:
        raise ZooError(
            f"The data {reference} has classes {_few(data.classes)}; the model {model.name!r} was made for "
            f"{_few(model.classes)}. Accuracy needs the same, in the same order."
        )
    hits = 0
    with progress(f"Testing {model.name}", len(data), unit="images") as advance:
        size = getattr(model, "batch_size", None) or _BATCH
        for batch in batches(data, model, batch_size=size):
            chosen = model.forward(batch.inputs).argmax(dim=1).cpu().numpy()
            hits += int(np.count_nonzero(chosen == data.labels[batch.sample_index]))
            advance(len(chosen))
    return AccuracyRecord(data=reference, images=len(data), accuracy=hits / len(data))


def _few(classes: tuple[str, ...] | None) -> str:
    if classes is None:
        return "without names"
    return ", ".join(classes[:10]) + (f" and {len(classes) - 10} more" if len(classes) > 10 else "")
