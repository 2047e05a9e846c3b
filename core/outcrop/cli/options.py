"""Options that several commands share, and what they are turned into."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from outcrop.errors import ParameterError

if TYPE_CHECKING:
    from outcrop.data import Data
    from outcrop.models import Model

_Command = TypeVar("_Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
layers_help = (
    "Layers: a preset (all, block, act, output), a name, a glob (layer3.*), kind:conv, /regex/, "
    "or several of these, comma-separated."
)
study_option = click.option(
    "--study", "location", required=True, metavar="PATH", help="Study to write to, made where there is none: s.zarr."
)


def model_options(command: _Command) -> _Command:
    """Add --model (repeatable) and --device."""
    command = click.option(
        "--device", default="auto", show_default=True, help="Where torch and ONNX models run: auto, cpu, cuda."
    )(command)
    return click.option(
        "--model",
        "references",
        multiple=True,
        required=True,
        metavar="[NAME=]REFERENCE",
        help="timm:NAME, torchvision:NAME, onnx:PATH, zoo:NAME, hf:NAME or python:module:factory; repeat for several.",
    )(command)


def data_options(command: _Command) -> _Command:
    """Add --data, --limit and --strict."""
    for option in (
        click.option("--strict", is_flag=True, help="Refuse data with unreadable samples instead of skipping them."),
        click.option("--limit", type=int, help="Use this many samples, spread evenly over the data."),
        click.option(
            "--data",
            "data_reference",
            required=True,
            metavar="REFERENCE",
            help="A folder of images, an .npy or .npz file, zoo:patches, torchvision:CIFAR10, ...",
        ),
    ):
        command = option(command)
    return command


def load_models(references: Sequence[str], device: str) -> "list[Model]":
    """Load every ``[NAME=]REFERENCE``.

    Raises:
        ParameterError: A name is empty or holds a slash, or two models have the same.
    """
    from outcrop.models import load_model

    # Names first: a slip is told before networks are loaded.
    named = [_split_name(text) for text in references]
    models = [load_model(reference, name=name, device=device) for name, reference in named]
    names = [model.name for model in models]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ParameterError(
            f"Two models are called {', '.join(map(repr, repeated))}; give one another name: --model other=REFERENCE."
        )
    return models


def load_samples(reference: str, limit: int | None, strict: bool) -> "Data":
    """Load data as the options ask."""
    from outcrop.cli.display import progress
    from outcrop.data import load_data

    return load_data(reference, limit=limit, strict=strict, progress=progress)


def check_samples(models: "Sequence[Model]", data: "Data") -> None:
    """Hold the first sample against what every model takes.

    Raises:
        InputError: It does not fit.
    """
    from outcrop.store.subjects import check_first_sample

    for model in models:
        check_first_sample(model, data)


def parse_parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """Return ``-p name=value`` pairs as a mapping; the analysis converts the values.

    Raises:
        ParameterError: A pair has no ``=``.
    """
    parsed: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ParameterError(f"-p takes name=value; got {pair!r}.")
        parsed[name.strip()] = value.strip()
    return parsed


def _split_name(text: str) -> tuple[str | None, str]:
    """Return the name, where one is given, and the reference of ``[NAME=]REFERENCE``."""
    name, equals, reference = text.partition("=")
    # An '=' also stands in queries (timm:resnet18?seed=1) and may stand in file names.
    if not equals or ":" in name or "?" in name or os.path.exists(text.partition("?")[0]):
        return None, text
    if not name.strip():
        raise ParameterError(f"--model {text!r} has an empty name before '='; write NAME=REFERENCE, or no '='.")
    if "/" in name or os.sep in name:
        raise ParameterError(
            f"There is no file {text!r}; and if {name!r} in --model {text!r} is meant as a name: a name holds no slash."
        )
    return name, reference
