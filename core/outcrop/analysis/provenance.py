"""What a result was made from: stamped by the engine, never by an analysis."""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel, ConfigDict

_PACKAGES = ("outcrop", "torch", "timm", "torchvision", "onnxruntime-gpu", "onnxruntime", "numpy", "xarray", "zarr")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelRecord(_Frozen):
    """One model of a run."""

    name: str
    source: str
    fingerprint: str
    preprocessing: str
    device: str
    mode: str = "evaluation"
    reduction: str = "none"
    arithmetic: str = ""


class DataRecord(_Frozen):
    """The data of a run."""

    name: str
    source: str
    fingerprint: str
    samples: int
    limit: int | None
    node: str


class Provenance(_Frozen):
    """Everything that determines the numbers of a result, and when and where they were computed.

    Attributes:
        selection: How the layers were selected, where that was text; empty otherwise.
        layers: The selected layers of every model.
        requires: Run ids of the results that the analysis built on, by analysis.
        run_id: Hash of all that determines the numbers: the same id means the same question.
    """

    analysis: str
    version: str
    parameters: Mapping[str, Any]
    selection: str
    layers: Mapping[str, tuple[str, ...]]
    models: tuple[ModelRecord, ...]
    data: DataRecord
    requires: Mapping[str, str]
    seed: int
    environment: Mapping[str, str]
    started: str = ""
    finished: str = ""

    @property
    def run_id(self) -> str:
        """Return the identity of the run, 12 hexadecimal digits."""
        asked = self.model_dump(mode="json", exclude={"selection", "environment", "started", "finished"})
        # Where a model or data came from does not matter: the fingerprints tell what they are.
        for record in (*asked["models"], asked["data"]):
            record.pop("source")
        for record in asked["models"]:
            # Runs from before these were recorded keep their identity.
            for name in ("mode", "reduction", "arithmetic"):
                if record[name] in ("evaluation", "none", ""):
                    record.pop(name)
        asked["data"].pop("limit")
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """Return the record as JSON, with its run id."""
        return json.dumps(self.model_dump(mode="json") | {"run_id": self.run_id}, sort_keys=True)


def environment() -> dict[str, str]:
    """Return versions of Python, the machine's architecture and the packages that compute."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["cpus"] = str(os.cpu_count())
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch threads"] = str(torch.get_num_threads())
    return found
