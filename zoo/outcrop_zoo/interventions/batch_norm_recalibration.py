"""Measure the running statistics of batch norm anew."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # torch has no public name for the base of all dimensions

from outcrop.errors import InputError, ParameterError, ZooError
from outcrop_zoo.interventions.freezing import is_frozen
from outcrop_zoo.interventions.intervention import Intervention


@torch.no_grad()
def recalibrate_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set the running statistics of batch norm to averages over the given batches, and return how many there were.

    Statistics are forgotten and accumulated with every sample weighted the same, whatever the size of its batch
    (torch's ``momentum=None`` weights batches the same). Each layer sees inputs normalised with the statistics of the
    batch, as in training. The running variance is the mean of the batches' unbiased variances: for batches of n
    samples it lacks the variance of the batches' means, about 1/n of it. Weights, scales and shifts, modes and
    momenta stay as they are, and so does batch norm that :func:`~outcrop_zoo.interventions.freeze` froze. Used after
    weights were averaged or changed, as in REPAIR (arXiv 2211.08403).

    Cost: one forward pass.

    Args:
        network: Changed in place.
        batches: Inputs (sample, ...), as in training, augmented the same way.

    Raises:
        ZooError: The network has no batch norm with running statistics, or all of it is frozen.
        InputError: There is no batch; the statistics stay as they are.
    """
    tracking = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    norms = [norm for norm in tracking if not is_frozen(norm)]
    if not norms:
        lack = f"no batch norm with running statistics{' that is not frozen' if tracking else ''}"
        raise ZooError(f"{type(network).__name__} has {lack}; there is nothing to recalibrate.")
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise InputError("There is no batch to recalibrate batch norm with; give at least one.")
    modes = {module: module.training for module in network.modules()}
    momenta = [norm.momentum for norm in norms]
    samples = count = 0
    try:
        network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.training = True
        for batch in chain([first], iterator):
            samples += len(batch)
            count += 1
            for norm in norms:
                norm.momentum = len(batch) / samples
            network(batch)
    finally:
        for module, mode in modes.items():
            module.training = mode
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return count


class BatchNormRecalibration(Intervention):
    """Recalibrates batch norm when the training has ended, by :func:`recalibrate_batch_norm`.

    The statistics of a frozen prefix, which networks share, stay as they are.

    Args:
        batches: How many batches of an epoch are averaged; by default all.

    Raises:
        ParameterError: Not a positive number.
    """

    def __init__(self, *, batches: int | None = None) -> None:
        if batches is not None and batches < 1:
            raise ParameterError(f"batches={batches} cannot be averaged; give at least 1, or None for all.")
        self.batches = batches

    def calibrate(self, network: nn.Module, batches: Callable[[], Iterator[Tensor]]) -> None:
        recalibrate_batch_norm(network, islice(batches(), self.batches))
