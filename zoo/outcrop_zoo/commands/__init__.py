"""``outcrop zoo``: list, show, verify, export, add, build and remove the models of the zoo."""

import click

from outcrop_zoo.commands.building import build_models, export_to_file
from outcrop_zoo.commands.catalogue import list_models, show
from outcrop_zoo.commands.own import add_model, remove_models
from outcrop_zoo.commands.verification import verify_models

__all__ = ["zoo"]


@click.group("zoo")
def zoo() -> None:
    """List, verify, build, export and add models of the zoo."""


for _command in (list_models, show, verify_models, export_to_file, add_model, build_models, remove_models):
    zoo.add_command(_command)
