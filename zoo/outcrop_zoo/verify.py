"""Check that a zoo model is what its card says."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx

from outcrop.errors import DataNotFoundError, MissingDependencyError, OutcropError, ZooError
from outcrop.progress import Progress, silent
from outcrop_zoo.cards import AccuracyRecord
from outcrop_zoo.catalogue import Entry

if TYPE_CHECKING:
    from outcrop.models import Model

ACCURACY_TOLERANCE = 0.005
_BATCH = 250


@dataclass(frozen=True)
class Verification:
    """What came of checking one model.

    Attributes:
        name: Of the model.
        outcome: ``skipped`` where the model is sound, and its accuracy could not be measured here.
        detail: Why, in one line.
        accuracy: As measured, a share in [0, 1].
    """

    name: str
    outcome: Literal["verified", "skipped", "failed"]
    detail: str
    accuracy: float | None = None


def verify(entry: Entry, *, progress: Progress = silent) -> Verification:
    """Check the sha256, the graph, that it runs, and the stated accuracy within half a point on its data."""
    name, test = entry.card.name, entry.card.test
    try:
        model = _load(entry)
        if test is None:
            return Verification(name, "skipped", "the card states no accuracy; the file is sound and runs")
        measured = _accuracy(model, test, progress)
    except (DataNotFoundError, MissingDependencyError) as error:
        return Verification(name, "skipped", f"the file is sound and runs; its test data is not at hand: {error}")
    except OutcropError as error:
        return Verification(name, "failed", str(error))
    if not abs(measured - test.accuracy) <= ACCURACY_TOLERANCE:
        return Verification(
            name,
            "failed",
            f"accuracy {100 * measured:.2f} % on {test.data}; the card says {100 * test.accuracy:.2f} %",
            measured,
        )
    return Verification(
        name, "verified", f"accuracy {100 * measured:.2f} % on {test.images} images of {test.data}", measured
    )


def _load(entry: Entry) -> "Model":
    """Return the model after checking its file, its graph and that it runs on two samples.

    Raises:
        ZooError: The file is not the card's, its graph is not valid or does not agree with the card.
        ModelLoadError: It does not run.
    """
    import torch

    from outcrop.models.onnx_ import load_onnx

    card = entry.card
    path = entry.checked_model_path()
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ZooError(
            f"{path} is not a valid ONNX graph: {str(error).partition(chr(10))[0]}. Build it again."
        ) from error
    model = load_onnx(path, name=card.name)
    found = (model.inputs[0].name, model.inputs[0].shape, model.classes)
    stated = (card.input.name, card.input.shape, card.classes)
    if found != stated:
        raise ZooError(f"{path} has input and classes {found}; its card says {stated}. Build it again.")
    logits = model.forward({card.input.name: torch.zeros(2, *card.input.shape)})
    if not torch.isfinite(logits).all():
        raise ZooError(f"{path} returns values that are not finite on an input of zeros. Build it again.")
    return model


def _accuracy(model: "Model", test: AccuracyRecord, progress: Progress) -> float:
    """Return the share of correct answers on the card's test data, read the way everybody reads it."""
    from outcrop.data import batches, load_data

    data = load_data(test.data)
    if data.labels is None or len(data) != test.images or data.classes != model.classes:
        raise ZooError(
            f"The data {test.data} holds {len(data)} samples of classes {data.classes}; the card was tested on "
            f"{test.images} of {model.classes}. Use the release of outcrop that wrote the card."
        )
    hits = 0
    with progress(f"Testing {model.name}", len(data), unit="images") as advance:
        for batch in batches(data, model, batch_size=_BATCH):
            chosen = model.forward(batch.inputs).argmax(dim=1).cpu().numpy()
            hits += int(np.count_nonzero(chosen == data.labels[batch.sample_index]))
            advance(len(chosen))
    return hits / len(data)
