"""What a capture is and how far it has come: one record in the attributes of its group, renewed atomically."""

import hashlib
import json
from typing import TYPE_CHECKING

import zarr
from pydantic import BaseModel, ConfigDict

from outcrop.models.model import Layer, Model
from outcrop.store.dataset import data_id
from outcrop.store.layout import escape

if TYPE_CHECKING:
    from outcrop.data.dataset import Data

_KEY = "capture"


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

    @property
    def node(self) -> str:
        """Return the capture's node name: model, data and a hash of all that determines the values."""
        determining = self.model_dump(exclude={"model_source", "data"})
        digest = hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()
        return f"{escape(self.model)}-{self.data.rsplit('-', 1)[0]}-{digest[:8]}"


class LedgerEntry(_Frozen):
    """Layers that are written together, and how many leading samples of them are on disk."""

    layers: tuple[str, ...]
    samples: int
    batch_size: int


class CaptureRecord(_Frozen):
    """The state of a capture.

    Attributes:
        identity: What it is of.
        samples: Number of samples of the data.
        layers: All layers that are stored or being stored.
        ledger: One entry per call that added layers.
    """

    identity: CaptureIdentity
    samples: int
    layers: tuple[Layer, ...] = ()
    ledger: tuple[LedgerEntry, ...] = ()

    def committed(self) -> dict[str, int]:
        """Return how many leading samples of each layer are safely stored."""
        return {name: entry.samples for entry in self.ledger for name in entry.layers}

    def with_layers(self, layers: tuple[Layer, ...], batch_size: int) -> "CaptureRecord":
        """Return the record with one more entry, of which nothing is stored yet."""
        entry = LedgerEntry(layers=tuple(layer.name for layer in layers), samples=0, batch_size=batch_size)
        ordered = tuple(sorted([*self.layers, *layers], key=lambda layer: layer.index))
        return self.model_copy(update={"layers": ordered, "ledger": (*self.ledger, entry)})

    def with_commit(self, entry: int, samples: int) -> "CaptureRecord":
        """Return the record after so many samples of an entry are on disk."""
        ledger = list(self.ledger)
        ledger[entry] = ledger[entry].model_copy(update={"samples": samples})
        return self.model_copy(update={"ledger": tuple(ledger)})


def identify(model: Model, data: "Data") -> CaptureIdentity:
    """Return the identity of a capture of a model on data."""
    return CaptureIdentity(
        model=model.name,
        model_source=model.source,
        model_fingerprint=model.fingerprint,
        data=data_id(data),
        data_fingerprint=data.fingerprint,
        preprocessing=model.preprocessing.description if model.preprocessing is not None else "none",
        device=model.device.split(":")[0],
    )


def read_record(capture: zarr.Group) -> CaptureRecord | None:
    """Return the record of a capture, or None where none was written."""
    stored = capture.attrs.get(_KEY)
    return None if stored is None else CaptureRecord.model_validate(stored)


def write_record(capture: zarr.Group, record: CaptureRecord) -> None:
    """Renew the record; zarr replaces the group's metadata file in one step."""
    capture.attrs.update({_KEY: record.model_dump(mode="json")})
