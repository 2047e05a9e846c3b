"""Batch norm in evaluation or with the statistics of the batch at hand, without a trace in the network."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

from outcrop.errors import InputError, ModelLoadError

if TYPE_CHECKING:
    from torch import nn

BatchNorm = Literal["evaluation", "batch"]
"""``evaluation`` normalises with the running statistics, ``batch`` with those of the batch at hand."""


def check_batch_norm(asked: str, name: str) -> BatchNorm:
    """Return what was asked for as one of the two.

    Args:
        asked: By a caller, or in a reference.
        name: Of the model.

    Raises:
        ModelLoadError: It is neither.
    """
    for known in get_args(BatchNorm):
        if asked == known:
            return known  # type: ignore[no-any-return] # get_args forgets the type of what it returns
    raise ModelLoadError(f"batch_norm={asked} of {name!r} is unknown; expected {' or '.join(get_args(BatchNorm))}.")


def batch_norm_layers(network: "nn.Module") -> "list[tuple[str, nn.Module]]":
    """Return path and module of all batch norm that torch knows as such, and what is derived from it."""
    from torch.nn.modules.batchnorm import _BatchNorm  # torch has no public name for the base of all dimensions

    return [(path, module) for path, module in network.named_modules() if isinstance(module, _BatchNorm)]


def check_changeable(network: "nn.Module", name: str) -> None:
    """Check that a network has batch norm, and none that cannot be changed.

    Args:
        network: To be run with the statistics of the batch.
        name: Of the model.

    Raises:
        ModelLoadError: It has none, or some is compiled into TorchScript.
    """
    from torch.jit import ScriptModule

    for path, module in network.named_modules():
        if isinstance(module, ScriptModule) and module.original_name.startswith("BatchNorm"):
            raise ModelLoadError(
                f"Batch norm {path!r} of model {name!r} is TorchScript, whose mode is fixed; leave batch_norm=batch "
                "out, or give the torch.nn.Module that it was made from."
            )
    if not batch_norm_layers(network):
        raise ModelLoadError(f"Model {name!r} has no batch norm to change; leave batch_norm=batch out.")


@contextmanager
def batch_statistics(network: "nn.Module", name: str) -> Iterator[None]:
    """Let every batch norm of a network normalise with the mean and the (biased) variance of the batch at hand.

    The values are those of torch's training mode; running statistics and their counter are neither read nor written,
    and all other modules stay in the mode that they are in: dropout and stochastic depth too.

    Args:
        network: In evaluation mode.
        name: Of the model, for messages.

    Raises:
        InputError: Inside, when a batch norm is given one value a channel: its variance is not defined.
    """
    layers = batch_norm_layers(network)
    before = [(module.training, module.track_running_stats) for _, module in layers]
    with ExitStack() as hooks:
        try:
            for path, module in layers:
                # Without tracking, torch hands the running statistics to no one, and counts no batch.
                module.training, module.track_running_stats = True, False  # type: ignore[assignment] # of a Module, torch types attributes as tensors
                hooks.callback(module.register_forward_pre_hook(_refuse_single_values(path, name), prepend=True).remove)
            yield
        finally:
            for (_, module), (training, tracking) in zip(layers, before, strict=True):
                module.training, module.track_running_stats = training, tracking


def _refuse_single_values(path: str, name: str) -> Any:
    def check(_module: "nn.Module", arguments: tuple[Any, ...]) -> None:
        shape = tuple(arguments[0].shape) if arguments else ()
        values = 1
        for axis, size in enumerate(shape):
            values *= size if axis != 1 else 1
        if len(shape) > 1 and values < 2:
            raise InputError(
                f"Batch norm {path!r} of model {name!r} takes its statistics from the batch, and this batch of "
                f"{shape[0]} has one value per channel there, whose variance is not defined. Give batches of two or "
                "more samples (also the last one: see batch_size and limit), or load it with batch_norm=evaluation."
            )

    return check
