"""``outcrop zoo build`` and ``outcrop zoo export``: models made of recipes, and of networks from elsewhere."""

from pathlib import Path

import click

from outcrop.cli.display import progress, show_json, size_text
from outcrop.cli.options import json_option
from outcrop_zoo.commands.rows import summary


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
@click.option("--study", metavar="PATH", help="Study that takes the metrics of the training: s.zarr.")
@click.option("--force", is_flag=True, help="Replace an earlier build.")
@json_option
def build_models(
    patterns: tuple[str, ...],
    folder: Path | None,
    checkpoints: Path | None,
    threads: int | None,
    device: str | None,
    study: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Train, export and test models by their recipes. Run it again to continue after an interruption."""
    from outcrop.errors import ZooError
    from outcrop_zoo.catalogue import Catalogue, matching_names, user_folder

    catalogue = Catalogue()
    chosen = [catalogue.recipes[name] for name in matching_names(patterns, catalogue.recipes)]
    target = folder or user_folder()
    for recipe in chosen if folder is None else ():
        other = catalogue.entries.get(recipe.name)
        if other is not None and other.path.parent != target:
            raise ZooError(
                f"{recipe.name!r} is in the zoo already ({other.path}); pass --folder to build a copy elsewhere."
            )
    from outcrop_zoo.build import build

    cards = [
        build(
            recipe,
            folder=target,
            checkpoints=checkpoints,
            threads=threads,
            device=device,
            replace=force,
            study=study,
            progress=progress,
        )
        for recipe in chosen
    ]
    paths = [target / f"{card.name}.onnx" for card in cards]
    if as_json:
        show_json(
            [{**card.model_dump(mode="json"), "path": str(path)} for card, path in zip(cards, paths, strict=True)]
        )
        return
    for card, path in zip(cards, paths, strict=True):
        click.echo(f"{path}: {summary(card)}")


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
        return
    click.echo(
        f"{delivered['path']}: {size_text(delivered['size'])}, {delivered['layers']} layers, at most "
        f"{delivered['parity']['largest_relative_error']:.1e} from torch over {delivered['parity']['modules']} modules"
    )
