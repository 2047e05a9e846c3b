"""An export on its way to where the user wants it: a file, or a model of the zoo with its card."""

import re
import tempfile
from pathlib import Path
from typing import Any

from outcrop.errors import ZooError
from outcrop.progress import Progress, silent
from outcrop_zoo.catalogue import Catalogue
from outcrop_zoo.description import Labels
from outcrop_zoo.exporting import export_model
from outcrop_zoo.files import write_atomically
from outcrop_zoo.own import add_file


def deliver_export(
    reference: str,
    *,
    output: Path | None = None,
    name: str | None = None,
    folded: bool = False,
    half: bool = False,
    tolerance: float = 1e-4,
    add: bool = False,
    folder: Path | None = None,
    test: str | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Export a model and write its file, or add it to the zoo with a card; return what was written, as JSON knows it.

    Args:
        reference: What ``outcrop.load_model`` takes.
        output: File to write; by default ``NAME.onnx`` here. Not with ``add``.
        name: Of the model; by default that of the reference.
        folded: Whether batch norm is folded into the convolutions.
        half: Whether kernels and matrices are stored in float16.
        tolerance: Largest relative difference from torch.
        add: Whether it goes into the zoo.
        folder: With ``add``: where; by default the first of the user's.
        test: With ``add``: data on which accuracy is measured and stated.
        force: Whether what is there is replaced.
        progress: Told of tested images.

    Raises:
        ZooError: The file exists already, or the export failed or does not agree with torch.
    """
    name = name or default_name(reference, folded=folded)
    path = output or Path(f"{name}.onnx")
    if not add and path.exists() and not force:
        raise ZooError(f"{path} exists already; choose another --output, or pass --force.")
    exported = export_model(reference, folded=folded, half=half, name=name, tolerance=tolerance)
    said: dict[str, Any] = {
        "name": name,
        "reference": reference,
        "opset": exported.opset,
        "layers": exported.layers,
        "size": len(exported.content),
        "parity": exported.parity.model_dump(mode="json"),
    }
    if not add:
        write_atomically(path, exported.content)
        return {**said, "path": str(path), "card": None}
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, f"{name}.onnx")
        file.write_bytes(exported.content)
        entry = add_file(
            file,
            name=name,
            labels=_labels(reference, exported.layers),
            folder=folder,
            test=test,
            origin=reference,
            parity=exported.parity,
            force=force,
            progress=progress,
        )
    return {**said, "path": str(entry.model_path), "card": str(entry.path)}


def default_name(reference: str, *, folded: bool = False) -> str:
    """Return what an export is called: the last part of the reference, in the letters that a name may have."""
    last = re.split(r"[:/\\]", reference.partition("?")[0])[-1].removesuffix(".onnx")
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("._-") or "model"
    return f"{plain}-folded" if folded else plain


def _labels(reference: str, layers: int) -> Labels:
    """Return what is known of a network: all that its card says, where it is one of the zoo."""
    scheme, _, name = reference.partition(":")
    entry = Catalogue().entries.get(name) if scheme == "zoo" else None
    if entry is None:
        return Labels(family="exported", architecture=default_name(reference), layers=layers)
    fields = ("family", "architecture", "data", "licence", "references", "depth", "width", "seed")
    return Labels(**{field: getattr(entry.card, field) for field in fields}, layers=layers)
