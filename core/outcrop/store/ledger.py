"""What a capture is and how far it has come: one record in the attributes of its group, renewed atomically."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import zarr
from pydantic import BaseModel, ConfigDict, ValidationError

from outcrop.errors import StudyError
from outcrop.models.model import Layer, Model
from outcrop.store.dataset import data_id
from outcrop.store.layout import escape, write_attributes
from outcrop.store.writing.codec import Compression

if TYPE_CHECKING:
    from outcrop.data.dataset import Data

_KEY = "capture"
_LABELS = frozenset(["model_source", "data"])
_ADDED_LATER = frozenset(["arithmetic"])


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CaptureIdentity(_Frozen):
    """Everything that changes the numbers of a capture; other values make another capture."""

    model: str
    model_source: str
    model_fingerprint: str
    data: str
    data_fingerprint: str
    preprocessing: str
    device: str
    mode: str = "evaluation"
    reduction: str = "none"
    arithmetic: str = ""

    @property
    def node(self) -> str:
        """Return the capture's node name: model, data and a hash of all that determines the values."""
        determining = self.model_dump(exclude=set(_LABELS))
        # A field that a study from before it lacks counts where it says something only.
        determining = {name: value for name, value in determining.items() if value or name not in _ADDED_LATER}
        digest = hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()
        return f"{escape(self.model)}-{self.data.rsplit('-', 1)[0]}-{digest[:8]}"

    def differences(self, other: "CaptureIdentity") -> dict[str, tuple[str, str]]:
        """Return, by field, what determines the values here and there, where it differs."""
        own, others = self.model_dump(exclude=set(_LABELS)), other.model_dump(exclude=set(_LABELS))
        return {name: (value, others[name]) for name, value in own.items() if value != others[name]}


class LedgerEntry(_Frozen):
    """Layers that are written together, and how far they have come.

    Attributes:
        layers: Their names.
        samples: Leading samples that are safely stored; a capture continues behind them.
        readable: Leading samples that stand in whole shards, and that readers see.
        batch_size: Samples of a forward pass.
        compression: Of the chunks.
        non_finite: How many of the stored values are not finite, by layer, where any are.
    """

    layers: tuple[str, ...]
    samples: int
    readable: int
    batch_size: int
    compression: Compression = "none"
    non_finite: Mapping[str, int] = {}


class CaptureRecord(_Frozen):
    """The state of a capture.

    Attributes:
        identity: What it is of.
        samples: Number of samples of the data.
        layers: All layers that are stored or being stored, as they are stored.
        ledger: One entry per call that added layers.
    """

    identity: CaptureIdentity
    samples: int
    layers: tuple[Layer, ...] = ()
    ledger: tuple[LedgerEntry, ...] = ()

    def committed(self) -> dict[str, int]:
        """Return how many leading samples of each layer are safely stored."""
        return {name: entry.samples for entry in self.ledger for name in entry.layers}

    def readable(self) -> dict[str, int]:
        """Return how many leading samples of each layer stand in whole shards, which alone can be read."""
        return {name: entry.readable for entry in self.ledger for name in entry.layers}

    def non_finite(self) -> dict[str, int]:
        """Return how many stored values of each layer are not finite, where any are."""
        return {name: count for entry in self.ledger for name, count in entry.non_finite.items() if count}

    def with_layers(self, layers: tuple[Layer, ...], batch_size: int, compression: Compression) -> "CaptureRecord":
        """Return the record with one more entry, of which nothing is stored yet."""
        names = tuple(layer.name for layer in layers)
        entry = LedgerEntry(layers=names, samples=0, readable=0, batch_size=batch_size, compression=compression)
        ordered = tuple(sorted([*self.layers, *layers], key=lambda layer: layer.index))
        return self.model_copy(update={"layers": ordered, "ledger": (*self.ledger, entry)})

    def with_progress(
        self, entry: int, *, samples: int, readable: int, non_finite: Mapping[str, int]
    ) -> "CaptureRecord":
        """Return the record after so many samples of an entry are stored."""
        ledger = list(self.ledger)
        update = {"samples": samples, "readable": readable, "non_finite": dict(non_finite)}
        ledger[entry] = ledger[entry].model_copy(update=update)
        return self.model_copy(update={"ledger": tuple(ledger)})


def identify(model: Model, data: "Data", *, reduction: str = "none", batch_size: int | None = None) -> CaptureIdentity:
    """Return the identity of a capture of a model on data.

    Args:
        model: Whose layers they are.
        data: What it sees.
        reduction: What is kept of each layer.
        batch_size: Samples of a forward pass, which tell a capture only where values depend on the batch.
    """
    # Without a batch size stands what no capture is: values of the batches that an analysis asks for.
    mode = model.mode if model.mode == "evaluation" or batch_size is None else f"{model.mode} of {batch_size} in order"
    return CaptureIdentity(
        model=model.name,
        model_source=model.source,
        model_fingerprint=model.fingerprint,
        data=data_id(data),
        data_fingerprint=data.fingerprint,
        preprocessing=model.preprocessing.description if model.preprocessing is not None else "none",
        device=model.device.split(":")[0],
        mode=mode,
        reduction=reduction,
        arithmetic=_arithmetic(model.device.split(":")[0]),
    )


def _arithmetic(device: str) -> str:
    """Return how torch departs from plain float32 arithmetic; empty where it does not."""
    import torch

    said = []
    if torch.get_float32_matmul_precision() != "highest":
        said.append(f"float32 products at {torch.get_float32_matmul_precision()} precision")
    if device == "cuda" and torch.backends.cudnn.allow_tf32:
        said.append("convolutions in TF32")
    if torch.is_autocast_enabled(device):
        said.append(f"autocast to {str(torch.get_autocast_dtype(device)).removeprefix('torch.')}")
    return ", ".join(said)


def read_record(capture: zarr.Group) -> CaptureRecord | None:
    """Return the record of a capture, or None where none was written."""
    stored: Any = capture.attrs.get(_KEY)
    if stored is None:
        return None
    try:
        for entry in stored["ledger"]:
            entry.setdefault("readable", entry["samples"])  # before shards, what was stored could be read
        return CaptureRecord.model_validate(stored)
    except (ValidationError, KeyError, TypeError) as error:
        raise StudyError(
            f"The record of the capture {capture.path} is damaged: {str(error).splitlines()[0]}. Its arrays can still "
            "be read with zarr; delete that group to use the rest of the study."
        ) from error


def write_record(capture: zarr.Group, record: CaptureRecord) -> None:
    """Renew the record; the group's metadata is replaced in one step."""
    write_attributes(capture, {_KEY: record.model_dump(mode="json")})
