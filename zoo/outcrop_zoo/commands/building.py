"""``outcrop zoo build`` and ``outcrop zoo export``: models made of recipes, and of networks from elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from outcrop.cli.display import progress, show_json, size_text
from outcrop.cli.options import json_option
from outcrop_zoo.commands.rows import say_where, summary

if TYPE_CHECKING:
    from outcrop_zoo.cards import Card
    from outcrop_zoo.recipes import Recipe


@click.command("build")
@click.argument("patterns", nargs=-1, required=True, metavar="NAME...")
@click.option("--folder", type=click.Path(path_type=Path), help="Where model and card go; by default outcrop's cache.")
@click.option(
    "--checkpoints", type=click.Path(path_type=Path), help="Folder of NAME.pt, to keep and resume; by default a cache."
)
@click.option("--threads", type=click.IntRange(1), help="Threads of torch; another number gives other last bits.")
@click.option(
    "--device", help="Where to train: cpu, cuda; by default that of a checkpoint, else CUDA where there is any."
)
@click.option(
    "--compile", "compiled", is_flag=True, help="Train by torch.compile (needs a C++ compiler); other last bits."
)
@click.option("--study", metavar="PATH", help="Study that takes the metrics of the training: s.zarr.")
@click.option("--force", is_flag=True, help="Replace an earlier build.")
@json_option
def build_models(
    patterns: tuple[str, ...],
    folder: Path | None,
    checkpoints: Path | None,
    threads: int | None,
    device: str | None,
    compiled: bool,
    study: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Train, export and test models by their recipes. Run it again to continue after an interruption.

    Of what wildcards match, only what is not built yet is built.
    """
    from outcrop_zoo.catalogue import Catalogue, user_folder

    chosen = Catalogue().matching_recipes(patterns)
    target = folder or user_folder()
    # All of them, before hours are spent on the first.
    there = {recipe.name: _built(recipe, folder, patterns, force) for recipe in chosen}
    from outcrop_zoo.build import build

    shown = []
    for recipe in chosen:
        found = there[recipe.name]
        card, path = found or (
            build(
                recipe,
                folder=target,
                checkpoints=checkpoints,
                threads=threads,
                device=device,
                compiler="inductor" if compiled else None,
                replace=force,
                study=study,
                progress=progress,
            ),
            target / f"{recipe.name}.onnx",
        )
        shown.append({**card.model_dump(mode="json"), "path": str(path), "built": found is None})
        if not as_json:
            click.echo(f"{path}: {'built already, ' if found else ''}{summary(card)}")
    if as_json:
        show_json(shown)
    say_where(folder)


def _built(recipe: "Recipe", folder: Path | None, patterns: Sequence[str], force: bool) -> "tuple[Card, Path] | None":
    """Return the card and file that a recipe made already, where only a wildcard asks for it; else None.

    Raises:
        ZooError: It was asked for by its name; or another model has that name.
    """
    from outcrop.errors import ZooError
    from outcrop_zoo.cards import read_card
    from outcrop_zoo.catalogue import Catalogue, user_folder

    other = Catalogue().entries.get(recipe.name)
    card_path = folder / f"{recipe.name}.json" if folder is not None else other.path if other is not None else None
    if card_path is None or not card_path.exists():
        return None
    elsewhere = folder is None and card_path.parent != user_folder()
    card = read_card(card_path)
    by_name = any(pattern == recipe.name for pattern in patterns)
    if not by_name and card.recipe == recipe and (elsewhere or not force):
        return card, card_path.with_name(f"{recipe.name}.onnx")
    if elsewhere:
        raise ZooError(f"{recipe.name!r} is in the zoo already ({card_path}); pass --folder to build a copy elsewhere.")
    if not force:
        raise ZooError(f"{card_path} exists already; choose another folder, or pass --force (replace=True).")
    return None


@click.command("export")
@click.argument("reference")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; by default ./NAME.onnx."
)
@click.option("--name", help="Of the model; by default that of the reference.")
@click.option("--folded", is_flag=True, help="Fold batch norm into the convolutions: faster, and fewer layers.")
@click.option("--half", is_flag=True, help="Store kernels and matrices in float16.")
@click.option(
    "--tolerance", type=float, default=1e-4, show_default=True, help="Largest relative difference from torch."
)
@click.option("--add", is_flag=True, help="Add the model with a card to your folder of the zoo.")
@click.option("--folder", type=click.Path(path_type=Path), help="With --add: another folder than the first of yours.")
@click.option("--test", metavar="DATA", help="With --add: measure accuracy on these data, and state it.")
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@json_option
def export_to_file(
    reference: str,
    output: Path | None,
    name: str | None,
    folded: bool,
    half: bool,
    tolerance: float,
    add: bool,
    folder: Path | None,
    test: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write the ONNX form of REFERENCE (timm:resnet18, torchvision:..., zoo:...), compared with torch.

    Parameters keep their names, batch norm stays unless folded, and any number of images can be fed at once.
    """
    if add and output is not None:
        raise click.UsageError("--add writes into your folder of the zoo; give --output or --add, not both.")
    if not add and (folder is not None or test is not None):
        raise click.UsageError("--folder and --test belong to --add; without it, only a file is written.")
    from outcrop_zoo.delivery import deliver_export

    delivered = deliver_export(
        reference,
        output=output,
        name=name,
        folded=folded,
        half=half,
        tolerance=tolerance,
        add=add,
        folder=folder,
        test=test,
        force=force,
        progress=progress,
    )
    if as_json:
        show_json(delivered)
        say_where(folder)
        return
    click.echo(
        f"{delivered['path']}: {size_text(delivered['size'])}, {delivered['layers']} layers, at most "
        f"{delivered['parity']['largest_relative_error']:.1e} from torch over {delivered['parity']['modules']} modules"
    )
    say_where(folder)
