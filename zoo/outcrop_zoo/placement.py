"""Where a build puts its models: one process at a time, and never over what it did not make.

The card of the recipe's own model is written last. Where it is missing, a build was interrupted or never ran.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from outcrop.errors import ZooError
from outcrop_zoo.cards import Card, read_card, write_card
from outcrop_zoo.files import write_atomically
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training.checkpoints import snapshot_name


@contextmanager
def only_builder(recipe: Recipe, folder: Path) -> Iterator[None]:
    """Keep other processes from training a recipe on the same checkpoint.

    Args:
        recipe: Whose checkpoint lies in the folder.
        folder: Of checkpoints; made where there is none.

    Raises:
        ZooError: Another process does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{recipe.name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ZooError(
            f"Another process is building {recipe.name!r} with the checkpoint in {folder}. Wait for it, or choose "
            "another folder with --checkpoints."
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_free(recipe: Recipe, folder: Path, *, interrupted: bool) -> None:
    """Refuse to build where models of these names are already, unless an interrupted build left them.

    Args:
        recipe: What is to be built.
        folder: Where its models would go.
        interrupted: Whether there is a checkpoint of the recipe.

    Raises:
        ZooError: One is there.
    """
    for name in model_names(recipe):
        model, card = model_paths(folder, name)
        if card.exists() and not (interrupted and name != recipe.name and read_card(card).recipe == recipe):
            raise _taken(card)
        if model.exists() and not interrupted:
            raise _taken(model)


def place(made: Sequence[tuple[Card, bytes]], folder: Path, *, replace: bool) -> None:
    """Write models and their cards into a folder, the recipe's own last.

    Args:
        made: Card and content of each file.
        folder: Made where there is none.
        replace: Whether other files of these names may go.

    Raises:
        ZooError: Another file has one of the names, or the disk is full.
    """
    paths = [model_paths(folder, card.name) for card, _ in made]
    if not replace:
        for (model, _), (_, content) in zip(paths, made, strict=True):
            if model.exists() and model.read_bytes() != content:
                raise _taken(model)
    # A model without a card is not in the zoo; a new one under an old card would be a broken one.
    paths[-1][1].unlink(missing_ok=True)
    for (model, card_path), (card, content) in zip(paths, made, strict=True):
        card_path.unlink(missing_ok=True)
        write_atomically(model, content)
        write_card(card, card_path)


def model_names(recipe: Recipe) -> list[str]:
    """Return what a recipe makes: its snapshots, then the model itself."""
    return [*(snapshot_name(recipe, step) for step in recipe.snapshots), recipe.name]


def model_paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Return where the file of a model and its card lie."""
    return folder / f"{name}.onnx", folder / f"{name}.json"


def _taken(path: Path) -> ZooError:
    return ZooError(f"{path} exists already; choose another folder, or pass --force (replace=True).")
