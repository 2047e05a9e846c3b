"""What an analysis is run on: live models over data, or captures of a study, named by their model."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from outcrop.analysis.provenance import DataRecord, ModelRecord
from outcrop.capture.source import ActivationSource, LiveSource
from outcrop.errors import AnalysisError
from outcrop.models.model import AssumedPreprocessingWarning, Layer, Model
from outcrop.store.dataset import data_id
from outcrop.store.ledger import CaptureIdentity, identify
from outcrop.store.reading.stored_source import StoredSource

if TYPE_CHECKING:
    from outcrop.data.dataset import Data
    from outcrop.models.selection import Selection
    from outcrop.store.study import Study


@dataclass(frozen=True)
class Subject:
    """One model of a run: what it is, which layers were selected, and where their values come from.

    Attributes:
        record: For the provenance.
        data: The samples it sees.
        layers: Selected layers, in topological order.
        source: Opens the activations.
        model: The network itself; None where only its activations are stored.
    """

    record: ModelRecord
    data: DataRecord
    layers: tuple[Layer, ...]
    source: Callable[[], ActivationSource]
    model: Model | None = None


def find_subjects(
    study: "Study", models: Sequence[Model | str], data: "Data | None", layers: "Selection"
) -> list[Subject]:
    """Return the subjects of a run: a name stands for what the study holds of that model.

    Raises:
        AnalysisError: No model, two of one name, a live model without data, or different data.
        ModelNotFoundError: The study holds nothing of a named model.
    """
    if not models:
        raise AnalysisError("No model was given; give at least one.")
    _refuse_repeated([model if isinstance(model, str) else model.name for model in models])
    subjects = [
        _stored(study, model, data, layers) if isinstance(model, str) else _live(study, model, data, layers)
        for model in models
    ]
    # Captures of one model, in two modes or with two reductions, go by the names of their groups and share its name.
    _refuse_repeated([subject.record.name for subject in subjects])
    seen = {subject.data.node for subject in subjects}
    if len(seen) > 1:
        raise AnalysisError(
            f"The models saw different data: {', '.join(sorted(seen))}. "
            "Representations compare on the same samples only."
        )
    return subjects


def _refuse_repeated(names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise AnalysisError(
            f"Two models are called {', '.join(map(repr, repeated))}; give one another name: "
            "load_model(..., name='other'), or --model other=REFERENCE."
        )


def _stored(study: "Study", name: str, data: "Data | None", layers: "Selection") -> Subject:
    from outcrop.models.selection import select_layers

    capture = study.activations[name] if data is None else study.activations[name, data_id(data)]
    chosen = select_layers(capture, layers)
    if not capture.holds(chosen):
        raise AnalysisError(
            f"The capture of {name!r} is not finished: {min(map(capture.committed, capture))} of {capture.samples} "
            "samples are stored. Run the capture again to continue it."
        )
    identity = capture.identity
    record = _model_record(identity)
    return Subject(record, stored_data_record(study, identity.data), chosen, lambda: StoredSource(capture, chosen))


def _live(study: "Study", model: Model, data: "Data | None", layers: "Selection") -> Subject:
    from outcrop.models.selection import select_layers

    if data is None:
        raise AnalysisError(
            f"Model {model.name!r} was given without data; pass data=, or the name of a model whose activations "
            "the study holds."
        )
    chosen = select_layers(model, layers)
    warn_of_assumptions(model, data)
    identity = identify(model, data)
    record = _model_record(identity)
    return Subject(
        record, data_record(data), chosen, lambda: _best_source(study, identity.node, model, chosen, data), model
    )


def _model_record(identity: CaptureIdentity) -> ModelRecord:
    return ModelRecord(
        name=identity.model,
        source=identity.model_source,
        fingerprint=identity.model_fingerprint,
        preprocessing=identity.preprocessing,
        device=identity.device,
        mode=identity.mode,
        reduction=identity.reduction,
        arithmetic=identity.arithmetic,
    )


def _best_source(study: "Study", node: str, model: Model, layers: tuple[Layer, ...], data: "Data") -> ActivationSource:
    """Return a capture that holds all that is needed, else the model itself."""
    for capture in study.activations.captures():
        if capture.node == node and capture.holds(layers):
            return StoredSource(capture, layers)
    return LiveSource(model, layers, data)


def warn_of_assumptions(model: Model, data: "Data") -> None:
    """Warn where images go through a preprocessing that the model does not state."""
    from PIL.Image import Image

    if model.preprocessing is not None and model.preprocessing.assumed and isinstance(data.read(0), Image):
        warnings.warn(
            f"Model {model.name!r} does not say how its images are to be preprocessed; assumed: "
            f"{model.preprocessing.description}. State it, for example onnx:PATH?mean=R,G,B&std=R,G,B, "
            "if the network was trained otherwise.",
            AssumedPreprocessingWarning,
            stacklevel=1,  # Always from here, so that Python shows it once a model.
        )


def check_first_sample(model: Model, data: "Data") -> None:
    """Hold the first sample against what a model takes, before anything is made for it.

    Raises:
        InputError: It does not fit.
    """
    import numpy as np

    from outcrop.data.batching import batches

    count = model.batch_size or 1
    for _ in batches(data, model, batch_size=count, order=np.zeros(count, dtype=np.int64)):
        pass


def data_record(data: "Data") -> DataRecord:
    """Return the provenance of data at hand."""
    return DataRecord(
        name=data.name,
        source=data.source,
        fingerprint=data.fingerprint,
        samples=len(data),
        limit=data.limit,
        node=data_id(data),
    )


def stored_data_record(study: "Study", node: str) -> DataRecord:
    """Return the provenance of data that a study knows."""
    stored = study.data[node]
    return DataRecord(
        name=stored.attrs["name"],
        source=stored.attrs["source"],
        fingerprint=stored.attrs["fingerprint"],
        samples=stored.sizes["sample"],
        limit=stored.attrs.get("limit"),
        node=node,
    )
