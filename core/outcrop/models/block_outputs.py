"""Tell the blocks of a torch network: the repeated containers that hand on the states of a residual stream."""

from collections.abc import Sequence

from torch import nn

from outcrop.models.activations import is_activation
from outcrop.models.block_rule import Container, blocks_among
from outcrop.models.discovery import Owner, Value


def block_paths(values: Sequence[Value]) -> frozenset[str]:
    """Return the module paths of the blocks, by the rule of :func:`outcrop.models.block_rule.blocks_among`."""
    return blocks_among(
        Container(
            owner.path, type(owner.module), type(owner.module).__name__, residual=_is_residual(owner, value, values)
        )
        for value in values
        for owner in value.owners
        if owner.made_here and _is_container(owner)
    )


def _is_container(owner: Owner) -> bool:
    return (
        owner.path != ""
        and owner.position == 0
        and type(owner.module) is not nn.Sequential
        and next(owner.module.children(), None) is not None
        and next(owner.module.parameters(), None) is not None
    )


def _is_residual(owner: Owner, value: Value, values: Sequence[Value]) -> bool:
    def joined_here(other: Value) -> bool:
        return other.joins and other.container == owner.path and other.operation in ("add", "cat", "concat")

    if joined_here(value):
        return True
    passes_on = is_activation(value.operation) or value.kind in ("act", "norm")
    return passes_on and any(joined_here(values[parent]) for parent in value.parents)
