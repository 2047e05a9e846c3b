"""Entry point of the command line, and the edge where expected errors become one line."""

import os
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from outcrop.errors import OutcropError

if TYPE_CHECKING:
    from collections.abc import Callable

    from outcrop.plugins import PluginRegistry

# Name -> module of the command and the line that help shows; the module is imported when the command is used.
COMMANDS = {
    "capture": ("outcrop.cli.capture", "Store activations of models over data in a study."),
    "layers": ("outcrop.cli.layers", "List what can be captured of a model."),
    "plan": ("outcrop.cli.plan", "Show what a capture will take: layers, bytes, disk and time."),
    "plugins": ("outcrop.cli.plugins", "List plugins, what they offer and which are broken."),
    "report": ("outcrop.cli.report", "Write one HTML file that shows a study's results."),
    "results": ("outcrop.cli.results", "Show what a study holds."),
    "run": ("outcrop.cli.run", "Run an analysis on models and data, and store its result."),
    "schemas": ("outcrop.cli.schemas", "Show the kinds of results and their JSON Schemas."),
    "study": ("outcrop.cli.study", "Measure, prune, merge and copy studies."),
}


class _Commands(click.Group):
    """Core commands, imported one at a time, and those that plugins bring."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        return sorted([*COMMANDS, *_plugin_commands()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name in COMMANDS:
            command: click.Command = import_module(COMMANDS[cmd_name][0]).command
            return command
        commands = _plugin_commands()
        if cmd_name not in commands:
            _registry().raise_if_broken("outcrop_commands", cmd_name)
        return commands.get(cmd_name)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click passes it
        formatter: click.HelpFormatter,
    ) -> None:
        """List all commands without importing those of core."""
        lines = {name: line for name, (_, line) in COMMANDS.items()}
        lines |= {name: command.get_short_help_str(80) for name, command in _plugin_commands().items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(lines.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Suggest near names for a mistyped command."""
        from outcrop.errors import did_you_mean

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = did_you_mean(args[0], self.list_commands(ctx))
            hint = hint if "Did you mean" not in error.message else ""
            raise click.UsageError(f"{error.message}{hint}{_registry().hint('outcrop_commands')}", ctx) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="outcrop", prog_name="outcrop")
def cli() -> None:
    """See the strata of a neural network.

    outcrop loads timm, torchvision, torch, transformers and ONNX models, stores their activations in a study
    that xarray can read, and runs analyses on them.
    """


def main() -> None:
    """Run the command line: exit 0 on success, 1 with one line on an expected error, 2 on wrong usage."""
    warnings.showwarning = _warnings_shown_once()
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except OutcropError as error:
        _say("Error", str(error))
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output has gone (`outcrop layers ... | head`); keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # A path of the user's that cannot be read or written: no such folder, no permission, a full disk.
        _say("Error", _system_text(error))
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _registry() -> "PluginRegistry":
    from outcrop.plugins import plugin_registry

    return plugin_registry()


def _plugin_commands() -> dict[str, click.Command]:
    return _registry().commands()


def _system_text(error: OSError) -> str:
    """Return what the system refused, and at which path."""
    if error.strerror is None:
        return f"{type(error).__name__}: {error}"
    paths = " -> ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
    return f"{error.strerror}: {paths}" if paths else f"{error.strerror}."


def _warnings_shown_once() -> "Callable[..., None]":
    """Return what shows a warning for users, the first time that it is given; others are for programmers."""
    shown = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, UserWarning) and str(message) not in shown:
            shown.add(str(message))
            _say("Warning", str(message))

    return show


def _say(label: str, text: str) -> None:
    click.secho(f"{label}: ", fg="red" if label == "Error" else "yellow", bold=True, nl=False, err=True)
    click.echo(" ".join(text.split()), err=True)
