"""The files of a training: what it is continued from, and the weights at chosen steps."""

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from outcrop.errors import ZooError
from outcrop_zoo.recipes import Recipe


def read_checkpoint(path: Path, recipe: Recipe) -> dict[str, Any]:
    """Return all that a checkpoint holds.

    ``network``, ``optimizer``, ``history``, ``interventions``, ``best``, ``settings``, and ``images``, a hash of what
    it was trained on; empty where that was not recorded.

    Raises:
        ZooError: The file was written by another recipe, or is no checkpoint.
    """
    state = _read(path, recipe, "Delete it to train again from the start.")
    if not {"network", "optimizer", "history"} <= state.keys():
        raise ZooError(f"The checkpoint {path} cannot be read (it is a snapshot). Delete it to train again.")
    # Earlier releases trained on the CPU, without interventions, kept the last weights, and did not hash the images.
    settings = {"device": "cpu", "compiler": ""}
    defaults: dict[str, Any] = {"interventions": [], "best": None, "settings": settings, "images": ""}
    return defaults | state


def read_snapshot(path: Path, recipe: Recipe) -> dict[str, Any]:
    """Return ``step``, ``network`` and ``interventions`` of a snapshot.

    Raises:
        ZooError: The file was written by another recipe, or is no snapshot.
    """
    state = _read(path, recipe, "Delete it and the checkpoint beside it to train again.")
    if "step" not in state:
        raise ZooError(f"The snapshot {path} cannot be read (it is a checkpoint). Delete it to train again.")
    return state


def snapshot_path(folder: Path, recipe: Recipe, step: int) -> Path:
    """Return where the weights at a step are kept."""
    return folder / f"{snapshot_name(recipe, step)}.pt"


def snapshot_name(recipe: Recipe, step: int) -> str:
    """Return the name of the model at a step."""
    return f"{recipe.name}@{step}"


def write_state(path: Path, recipe: Recipe, state: Mapping[str, Any]) -> None:
    """Write a checkpoint or snapshot atomically, with the recipe that it belongs to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    torch.save({"recipe": json.dumps(recipe.model_dump(), sort_keys=True), **state}, partial)
    os.replace(partial, path)


def _read(path: Path, recipe: Recipe, remedy: str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        # A recipe of an older release lacks the newer fields, which then have their defaults.
        found = Recipe.model_validate_json(state["recipe"])
    except ValidationError as error:
        problem = error.errors()[0]
        reason = f"its recipe: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        raise ZooError(f"The checkpoint {path} cannot be read ({reason}). {remedy}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ZooError(f"The checkpoint {path} cannot be read ({reason}). {remedy}") from error
    if found != recipe:
        changes = "; ".join(
            f"{key} {value}, expected {getattr(recipe, key)}" for key, value in found if value != getattr(recipe, key)
        )
        raise ZooError(
            f"The checkpoint {path} was written by another recipe than {recipe.name!r}: found {changes}. "
            f"Delete it or choose another folder."
        )
    return state
