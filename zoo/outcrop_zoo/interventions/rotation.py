"""Rotate the channels of a representation in the middle of a network."""

from collections.abc import Sequence
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from outcrop.errors import InputError, ParameterError
from outcrop_zoo.interventions.network_parts import module_at, replace_module
from outcrop_zoo.interventions.rotation_matrices import rotation_matrix
from outcrop_zoo.interventions.specs import RotationKind


class Rotation(nn.Module):
    """Multiplies the channel vector at every position by a fixed matrix: ``R h``, or ``R (h - mean) + mean``.

    An orthogonal 1x1 convolution, so that receptive fields stay. Matrix, offset and seed are buffers: saved, exported,
    never trained.

    Args:
        matrix: (feature, feature), R.
        mean: (feature), about which is rotated; by default the origin.
        seed: That the matrix was drawn with, for the record.
        dimension: Of the channels; by default 1, and -1 for (sample, token, feature).

    Raises:
        ParameterError: The matrix is not square, or the mean has another number of features.
    """

    matrix: Tensor
    offset: Tensor | None
    seed: Tensor | None

    def __init__(
        self,
        matrix: Float[Tensor, "feature feature"],
        *,
        mean: Float[Tensor, " feature"] | None = None,
        seed: int | None = None,
        dimension: int | None = None,
    ) -> None:
        super().__init__()
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ParameterError(f"A rotation is a square matrix; got shape {tuple(matrix.shape)}.")
        if mean is not None and mean.shape != matrix.shape[:1]:
            raise ParameterError(
                f"A rotation of {len(matrix)} features needs a mean of as many; got shape {tuple(mean.shape)}."
            )
        offset = None if mean is None else mean.double() - matrix.double() @ mean.double()
        self.dimension = dimension
        self.register_buffer("matrix", matrix.detach().float().clone())
        self.register_buffer("offset", None if offset is None else offset.float())
        self.register_buffer("seed", None if seed is None else torch.tensor(seed))

    @classmethod
    def draw(
        cls,
        kind: RotationKind,
        features: int,
        *,
        seed: int,
        mean: Float[Tensor, " feature"] | None = None,
        dimensions: int | None = None,
        fraction: float | None = None,
        dimension: int | None = None,
    ) -> Self:
        """Return a rotation by a random matrix; see :func:`~outcrop_zoo.interventions.rotation_matrix`."""
        matrix = rotation_matrix(kind, features, seed=seed, dimensions=dimensions, fraction=fraction)
        return cls(matrix, mean=mean, seed=seed, dimension=dimension)

    @property
    def features(self) -> int:
        """Number of channels."""
        return len(self.matrix)

    def forward(self, x: Tensor) -> Tensor:
        dimension = self.dimension if self.dimension is not None else -1 if x.ndim == 3 else 1
        if x.ndim < 2 or x.shape[dimension] != self.features:
            raise InputError(
                f"The rotation has {self.features} features, and got values of shape {tuple(x.shape)} with the "
                f"channels at {dimension}; insert one with as many features, or say where they are (dimension=)."
            )
        if x.ndim == 4 and dimension == 1:
            return F.conv2d(x, self.matrix[:, :, None, None], self.offset)
        return F.linear(x.movedim(dimension, -1), self.matrix, self.offset).movedim(-1, dimension)

    def extra_repr(self) -> str:
        return f"features={self.features}, seed={None if self.seed is None else int(self.seed)}"


class Rotated(nn.Module):
    """A module and the rotation of what it returns."""

    def __init__(self, module: nn.Module, rotation: Rotation) -> None:
        super().__init__()
        self.module = module
        self.rotation = rotation

    def forward(self, *inputs: Tensor) -> Tensor:
        rotated: Tensor = self.rotation(self.module(*inputs))
        return rotated


def insert_rotation(network: nn.Module, site: str, rotation: Rotation) -> Rotated:
    """Rotate what a module returns, and return what stands in its place: ``SITE.module`` and ``SITE.rotation``.

    Args:
        network: Changed in place, and function-changing: see :func:`compensate_rotation`.
        site: Path of a module that returns one tensor. Behind an activation function a rotation is informative;
            before one, or on the logits, the neighbouring weights can undo it exactly.
        rotation: Moved to the device and type of the network.

    Raises:
        LayerNotFoundError: There is no such module.
        ParameterError: It is rotated already.
    """
    module = module_at(network, site)
    if isinstance(module, Rotated):
        raise ParameterError(
            f"Module {site!r} is rotated already; remove that rotation first, or multiply the matrices."
        )
    reference = next((p for p in network.parameters() if p.is_floating_point()), rotation.matrix)
    inserted = Rotated(module, rotation.to(reference.device, reference.dtype)).train(module.training)
    replace_module(network, site, inserted)
    return inserted


def remove_rotation(network: nn.Module, site: str) -> Rotation:
    """Take an inserted rotation out again, in place, and return it.

    Raises:
        LayerNotFoundError: There is no such module.
        ParameterError: It is not rotated.
    """
    rotated = _rotated_at(network, site)
    replace_module(network, site, rotated.module)
    return rotated.rotation


@torch.no_grad()
def compensate_rotation(network: nn.Module, site: str, consumers: Sequence[str]) -> None:
    """Fold the inverse of an inserted rotation into the weights behind it: ``W <- W R^-1``, in place.

    The network then computes what it did before the insertion, which shows that a rotation is undone trivially where
    what reads it is trained.

    Args:
        network: With a rotation at the site.
        site: Where it was inserted.
        consumers: Paths of *all* convolutions and dense layers that read it; nothing else may. A dense layer may read
            channels times positions, flattened.

    Raises:
        LayerNotFoundError: There is no such module.
        ParameterError: The site is not rotated; a consumer is no dense layer or ungrouped convolution of as many
            channels; or it pads values that are rotated about a mean with zeros. Nothing is changed then.
    """
    rotation = _rotated_at(network, site).rotation
    modules = {path: module_at(network, path) for path in consumers}
    for path, module in modules.items():
        _check_consumer(path, module, rotation)
    inverse = torch.linalg.inv(rotation.matrix.double())
    for module in modules.values():
        assert isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
        weight = module.weight.double().reshape(len(module.weight), rotation.features, -1)
        folded = torch.einsum("oip,ij->ojp", weight, inverse)
        if rotation.offset is not None and module.bias is not None:
            shift = folded.sum(2) @ rotation.offset.double()
            module.bias.copy_(module.bias.double() - shift)
        module.weight.copy_(folded.reshape(module.weight.shape))


def _check_consumer(path: str, module: nn.Module, rotation: Rotation) -> None:
    if isinstance(module, nn.Linear):
        channels, multiple, padded = module.in_features, True, False
    elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups == 1:
        channels, multiple = module.in_channels, False
        padded = module.padding_mode == "zeros" and module.padding not in ("valid", (0,) * len(module.kernel_size))
    else:
        raise ParameterError(
            f"{path!r} is a {type(module).__name__}; only dense layers and ungrouped convolutions can take a rotation "
            "in. Choose another site."
        )
    if channels != rotation.features and not (multiple and channels % rotation.features == 0):
        raise ParameterError(
            f"{path!r} reads {channels} channels, and the rotation has {rotation.features}; give the modules that "
            "read it."
        )
    if rotation.offset is not None and (padded or module.bias is None):
        lack = "pads with zeros" if padded else "has no bias"
        raise ParameterError(f"{path!r} {lack}, so a rotation about a mean cannot be folded into it; rotate about 0.")


def _rotated_at(network: nn.Module, site: str) -> Rotated:
    module = module_at(network, site)
    if not isinstance(module, Rotated):
        raise ParameterError(
            f"Module {site!r}, a {type(module).__name__}, is not rotated; insert a rotation there first."
        )
    return module
