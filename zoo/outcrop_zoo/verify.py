"""Check that a zoo model is what its card says."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from outcrop.errors import DataNotFoundError, MissingDependencyError, ModelNotFoundError, OutcropError, ZooError
from outcrop.progress import Progress, silent
from outcrop_zoo.accuracy import measure_accuracy
from outcrop_zoo.cards import AccuracyRecord, PackageSource
from outcrop_zoo.description import check_graph, check_runs, graph_opset
from outcrop_zoo.entry import Entry
from outcrop_zoo.loading import load_entry

if TYPE_CHECKING:
    from outcrop.models import Model

ACCURACY_TOLERANCE = 0.005


@dataclass(frozen=True)
class Verification:
    """What came of checking one model.

    Attributes:
        name: Of the model.
        outcome: ``skipped`` where the model or the data of its accuracy could not be had here, and nothing of what
            could be looked at was wrong. A model whose card states no accuracy is verified by all the rest.
        detail: Why, in one line.
        accuracy: As measured, a share in [0, 1].
    """

    name: str
    outcome: Literal["verified", "skipped", "failed"]
    detail: str
    accuracy: float | None = None


def verify(entry: Entry, *, progress: Progress = silent) -> Verification:
    """Check the sha256, the graph, that it runs, and the stated accuracy within half a point on its data.

    Of weights in a package: their sha256, that they fit the architecture by number, name and shape, and the rest alike.
    """
    name, test = entry.card.name, entry.card.test
    try:
        model = _load(entry, progress)
    except (MissingDependencyError, ModelNotFoundError) as error:
        return Verification(name, "skipped", str(error))
    except OutcropError as error:
        return Verification(name, "failed", str(error))
    sound = "the weights fit and run" if isinstance(entry.card.source, PackageSource) else "the file is sound and runs"
    if test is None:
        return Verification(name, "verified", f"{sound}; the card states no accuracy")
    try:
        measured = _accuracy(model, test, progress)
    except (DataNotFoundError, MissingDependencyError) as error:
        return Verification(name, "skipped", f"{sound}; its test data is not at hand: {error}")
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


def _load(entry: Entry, progress: Progress) -> "Model":
    """Return the model after checking its file or weights, its graph and that it runs on two samples.

    Raises:
        ModelNotFoundError: Its file cannot be fetched.
        MissingDependencyError: Its package is not installed.
        ZooError: The file is not the card's, its graph is not valid or does not agree with the card.
        ModelLoadError: It does not run.
    """
    card = entry.card
    path = None if isinstance(card.source, PackageSource) else entry.checked_model_path(progress=progress)
    if path is not None:
        opset = graph_opset(check_graph(path))
        if opset != card.opset:
            raise ZooError(f"{path} is written in opset {opset}; its card says {card.opset}. Build it again.")
    model = load_entry(entry, progress=progress)
    if path is not None and card.input is not None:
        found = (model.inputs[0].name, tuple(model.inputs[0].shape), model.classes)
        stated = (card.input.name, card.input.shape, card.classes)
        if found != stated:
            raise ZooError(f"{path} has input and classes {found}; its card says {stated}. Build it again.")
    check_runs(model, path or card.name)
    return model


def _accuracy(model: "Model", test: AccuracyRecord, progress: Progress) -> float:
    """Return the share of correct answers on the card's test data.

    Raises:
        DataNotFoundError: There is no such data here.
        ZooError: It is other data than the card's.
    """
    record = measure_accuracy(model, test.data, progress=progress)
    if record.images != test.images:
        raise ZooError(
            f"The data {test.data} holds {record.images} samples; the card was tested on {test.images}. "
            "Use the release of outcrop that wrote the card."
        )
    return record.accuracy
