"""Write the layers of one entry of a capture's ledger, from where it stands to the last sample."""

import contextlib
import logging
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import zarr
from zarr.storage import LocalStore

from outcrop.capture.source import ActivationSource
from outcrop.errors import InputError, StudyError
from outcrop.models.model import Layer
from outcrop.progress import Progress
from outcrop.store.layout import layer_array
from outcrop.store.ledger import CaptureRecord, LedgerEntry, write_record
from outcrop.store.writing.codec import ChunkCodec
from outcrop.store.writing.direct import DirectWriter
from outcrop.store.writing.shards import LayerShards, layer_shards
from outcrop.store.writing.thread import ShardWriter

if TYPE_CHECKING:
    from torch import Tensor

SourceOf = Callable[[tuple[Layer, ...]], ActivationSource]
"""Makes the source of the values of stored layers."""

_log = logging.getLogger("outcrop")


class EntryWriter:
    """Writes the layers of one entry of the ledger from where it stands to the last sample."""

    def __init__(self, capture: zarr.Group, record: CaptureRecord, index: int) -> None:
        self._capture = capture
        self._record = record
        self._index = index
        names = set(self._entry.layers)
        self._layers = tuple(layer for layer in record.layers if layer.name in names)
        arrays = {layer.name: layer_array(capture, layer.name) for layer in self._layers}
        if any(array.shards is None for array in arrays.values()):
            raise StudyError(
                f"The capture {capture.basename} was begun by an earlier outcrop, which wrote no shards, and is not "
                f"finished. Remove it ('outcrop study prune --capture {capture.basename}') and capture again."
            )
        self._readable = 0
        self._counted_before: dict[str, int] = {}
        self._dtypes = {name: array.dtype for name, array in arrays.items()}
        writer = DirectWriter()  # for all: the layers of a batch are written one after the other
        self._shards: dict[str, LayerShards] = {
            name: layer_shards(array, ChunkCodec(array.dtype, self._entry.compression), writer)
            for name, array in arrays.items()
        }
        self._eager = not isinstance(capture.store, LocalStore)

    @property
    def _entry(self) -> LedgerEntry:
        return self._record.ledger[self._index]

    def write(self, source_of: SourceOf, progress: Progress) -> CaptureRecord:
        """Return the record once all samples are stored."""
        begin = self._restore()
        try:
            self._write(begin, source_of, progress)
        except BaseException:
            # Also upon Ctrl-C: what is committed can be read until somebody continues.
            with contextlib.suppress(OSError):
                self._publish()
            raise
        return self._record

    def _write(self, begin: int, source_of: SourceOf, progress: Progress) -> None:
        total = self._record.samples
        source = source_of(self._layers)
        pinned = self._record.identity.device == "cuda"
        with (
            contextlib.ExitStack() as stack,
            progress(f"{source.name}: {len(self._layers)} layers", total - begin) as advance,
            ShardWriter(self._shards, self._commit, pinned=pinned) as writer,
        ):
            groups = source.groups(np.arange(begin, total), self._entry.batch_size)
            if isinstance(groups, Generator):
                # Ends what it keeps for the network also where somebody holds on to an error from here.
                stack.callback(groups.close)
            for chosen, visit in groups:
                start = int(chosen[0])

                def keep(layer: Layer, values: "Tensor", start: int = start) -> None:
                    self._check_shape(source, layer, values)
                    writer.put(layer.name, start, values, self._dtypes[layer.name])

                visit(keep)
                writer.commit(start + len(chosen))
                advance(len(chosen))

    def _publish(self) -> None:
        samples, readable = self._entry.samples, self._entry.readable
        published = min(shards.publish(samples, readable) for shards in self._shards.values())
        if published == samples != readable:
            self._record_progress(samples, samples, self._entry.non_finite)

    def _restore(self) -> int:
        """Bring the shards to the state that the ledger tells of, or to an earlier one where a file is lost."""
        samples, batch = self._entry.samples, self._entry.batch_size
        # A reader must not be told of shards that are opened again.
        readable = self._in_whole_shards(self._entry.readable)
        if readable != self._entry.readable:
            self._record_progress(samples, readable, self._entry.non_finite)
        while True:
            possible = min(shards.restore(samples, readable) for shards in self._shards.values())
            if possible == samples:
                break
            possible -= possible % batch
            if not self._eager:
                _log.warning(
                    "Shards of %s that the ledger tells of are gone; continuing after %d samples and not %d.",
                    self._capture.path, possible, samples,
                )  # fmt: skip
            samples = possible
            readable = self._in_whole_shards(min(samples, readable))
            # Of fewer samples it is not known how many values were not finite; from the beginning it is.
            self._record_progress(samples, readable, self._entry.non_finite if samples else {})
        self._counted_before = dict(self._entry.non_finite)
        self._readable = self._in_whole_shards(samples)
        if self._readable != readable:
            self._record_progress(samples, self._readable, self._counted_before)
        return int(samples)

    def _commit(self, samples: int, non_finite: Mapping[str, int]) -> None:
        counts = {
            name: self._counted_before.get(name, 0) + count
            for name, count in (dict.fromkeys(self._counted_before, 0) | dict(non_finite)).items()
        }
        counts = {name: count for name, count in counts.items() if count}
        if not self._eager:
            # What the ledger tells of can be sealed again; what was sealed unknown to it could not be continued.
            self._record_progress(samples, self._readable, counts)
        for shards in self._shards.values():
            shards.seal(samples)
        self._readable = self._in_whole_shards(samples)
        if self._readable == self._record.samples or (self._eager and self._readable != self._entry.readable):
            self._record_progress(self._readable, self._readable, counts)

    def _in_whole_shards(self, samples: int) -> int:
        return min(shards.readable(samples) for shards in self._shards.values())

    def _record_progress(self, samples: int, readable: int, non_finite: Mapping[str, int]) -> None:
        self._record = self._record.with_progress(
            self._index, samples=samples, readable=readable, non_finite=non_finite
        )
        write_record(self._capture, self._record)

    def _check_shape(self, source: ActivationSource, layer: Layer, values: "Tensor") -> None:
        found, expected = tuple(values.shape[1:]), self._shards[layer.name].row_shape
        if found != expected:
            raise InputError(
                f"Layer {layer.name!r} of {source.name!r} gave values of shape {found} per sample; "
                f"its array has {expected}. Pad the samples to one size, or leave the layer out."
            )
