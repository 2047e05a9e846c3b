"""Bring what one study holds into another: whole objects, never encoded anew, and nothing that is there replaced."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import zarr

from outcrop.errors import StudyError
from outcrop.progress import Progress, silent
from outcrop.store.ledger import CaptureRecord, LedgerEntry, read_record, write_record
from outcrop.store.maintenance.comparison import different_data, different_layer, different_result, unreadable
from outcrop.store.maintenance.contents import CapturePart, Contents
from outcrop.store.maintenance.objects import Objects, is_metadata, metadata_first

_NAMED = 4


@dataclass(frozen=True)
class Transfer:
    """What was brought into a study.

    Attributes:
        copied: Groups that are new, in the order in which they came.
        present: Groups that were there already, with the same values.
        left_out: Why groups of the source were not taken, by path.
        stored: Bytes that were written.
    """

    copied: tuple[str, ...]
    present: tuple[str, ...]
    left_out: Mapping[str, str]
    stored: int

    @classmethod
    def joined(cls, transfers: "Iterable[Transfer]") -> "Transfer":
        """Return several as one."""
        every = list(transfers)
        return cls(
            tuple(path for one in every for path in one.copied),
            tuple(path for one in every for path in one.present),
            {path: why for one in every for path, why in one.left_out.items()},
            sum(one.stored for one in every),
        )


def transfer(source: zarr.Group, target: zarr.Group, contents: Contents, *, progress: Progress = silent) -> Transfer:
    """Copy contents of a study into another, whose write lock must be held.

    Each group counts once all of it is there: a layer by its entry in the ledger, a result by its provenance, data by
    its mark. So a call that is killed leaves a valid study, and the next one continues; an object that is already there
    with the same content is not written again. The checksums of every copied chunk are verified where it
    was copied to.

    Args:
        source: Where to copy from.
        target: Where to.
        contents: What to copy, from :func:`outcrop.store.maintenance.contents.contents_of`.
        progress: Where to report.

    Raises:
        StudyError: Both hold something under one name that differs, or a chunk is damaged. Of several, all are named;
            nothing was written then.
    """
    return _Transfer(source, target, progress).run(contents)


@dataclass
class _Transfer:
    source: zarr.Group
    target: zarr.Group
    progress: Progress
    copied: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    stored: int = 0

    def run(self, contents: Contents) -> Transfer:
        self._check(contents)
        done = set(self.present)
        groups = [f"data/{node}" for node in contents.data] + [
            f"results/{analysis}/{run}" for analysis, run in contents.results
        ]
        groups = [path for path in groups if path not in done]
        layers = [(part, folder) for part in contents.captures for folder in part.layers]
        layers = [(part, folder) for part, folder in layers if f"{part.path}/{folder}" not in done]
        with self.progress("copying", len(groups) + len(layers), unit="groups") as advance:
            # Data first: a capture refers to it, and so does a result.
            for path in groups:
                self._copy_group(path)
                advance(1)
            for part, folder in layers:
                self._copy_layer(part, folder)
                advance(1)
        return Transfer(tuple(self.copied), tuple(self.present), contents.left_out, self.stored)

    def _check(self, contents: Contents) -> None:
        """Compare what both studies hold."""
        conflicts: list[str] = []

        def compare(path: str, difference: str | None) -> None:
            if difference is None:
                self.present.append(path)
            else:
                conflicts.append(f"{path} ({difference})")

        for node in contents.data:
            if _is_complete(self.target, f"data/{node}", "complete"):
                compare(f"data/{node}", different_data(self.source, self.target, f"data/{node}"))
        for analysis, run in contents.results:
            path = f"results/{analysis}/{run}"
            if _is_complete(self.target, path, "provenance"):
                compare(path, different_result(self.source, self.target, path))
        for part in contents.captures:
            known = {} if (record := _record(self.target, part.path)) is None else record.readable()
            for folder, layer in part.layers.items():
                path = f"{part.path}/{folder}"
                if layer.name in known and known[layer.name] < part.record.samples:
                    conflicts.append(f"{path} (there it is unfinished; finish it, or prune --unfinished)")
                elif layer.name in known:
                    compare(path, different_layer(self.source, self.target, path))
        if conflicts:
            more = f" and {len(conflicts) - _NAMED} more" if len(conflicts) > _NAMED else ""
            raise StudyError(
                f"Nothing was copied: both studies hold, and differ in, {'; '.join(conflicts[:_NAMED])}{more}. "
                "Leave these out, or remove them from one of the two with 'outcrop study prune'."
            )

    def _copy_group(self, path: str) -> None:
        """Copy a result or data: the metadata of the group, which makes it count, comes last."""
        self._require_parents(path)
        keys = self._copy_objects(path)
        for key in reversed(metadata_first(keys)):
            self._copy(key)
        self.copied.append(path)

    def _copy_layer(self, part: CapturePart, folder: str) -> None:
        """Copy the shards of a layer, verify them, and enter it in the ledger."""
        record = self._require_capture(part)
        path, layer = f"{part.path}/{folder}", part.layers[folder]
        for key in metadata_first(self._copy_objects(path)):
            self._copy(key)
        if problem := unreadable(self.target, path):
            raise StudyError(
                f"Layer {layer.name!r} of {part.path} cannot be copied: {problem}. What was copied before it is there; "
                "capture the layer again, or leave it out."
            )
        entry = next(entry for entry in part.record.ledger if layer.name in entry.layers)
        count = {name: number for name, number in entry.non_finite.items() if name == layer.name}
        alone = entry.model_copy(update={"layers": (layer.name,), "non_finite": count})
        write_record(self._capture(part), _with(record, part.record, alone))
        self.copied.append(path)

    def _require_capture(self, part: CapturePart) -> CaptureRecord:
        """Return the record of the capture at the target, made first where there is none."""
        record = _record(self.target, part.path)
        if record is not None:
            return record
        self._require_parents(part.path)
        # First: zarr warns of what lies in a folder that is no group.
        group = self.target.require_group(part.path)
        for key in metadata_first(self._copy_objects(f"{part.path}/sample")):
            self._copy(key)
        made = part.record.model_copy(update={"layers": (), "ledger": ()})
        write_record(group, made)
        return made

    def _capture(self, part: CapturePart) -> zarr.Group:
        group: zarr.Group = self.target[part.path]  # type: ignore[assignment] # a Group
        return group

    def _require_parents(self, path: str) -> None:
        parts = path.split("/")[:-1]
        for depth in range(len(parts)):
            self.target.require_group("/".join(parts[: depth + 1]))

    def _copy_objects(self, path: str) -> list[str]:
        """Copy all but the metadata, take away what a killed copy of something else has left, and return all keys."""
        keys = [key for key in Objects(self.source).sizes(path) if not key.endswith((".part", ".partial"))]
        there = Objects(self.target)
        there.remove(key for key in there.sizes(path) if key not in set(keys))
        for key in keys:
            if not is_metadata(key):
                self._copy(key)
        return keys

    def _copy(self, key: str) -> None:
        content = Objects(self.source).read(key)
        if content is None:
            raise StudyError(f"{key} has gone from the study while it was copied; run the copy again.")
        target = Objects(self.target)
        if target.read(key) != content:
            target.write(key, content)
            self.stored += len(content)


def _with(record: CaptureRecord, source: CaptureRecord, entry: LedgerEntry) -> CaptureRecord:
    """Return a record with one more layer of another record of the same capture."""
    names = {layer.name for layer in record.layers} | set(entry.layers)
    known = {layer.name: layer for layer in (*source.layers, *record.layers)}
    layers = tuple(sorted((known[name] for name in names), key=lambda layer: layer.index))
    return record.model_copy(update={"layers": layers, "ledger": (*record.ledger, entry)})


def _record(root: zarr.Group, path: str) -> CaptureRecord | None:
    group = root.get(path)
    return read_record(group) if isinstance(group, zarr.Group) else None


def _is_complete(root: zarr.Group, path: str, mark: str) -> bool:
    group = root.get(path)
    return isinstance(group, zarr.Group) and bool(group.attrs.get(mark))
