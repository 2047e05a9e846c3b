"""Penalise activations that are dominated by their first principal component (arXiv 2202.07184, appendix G)."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import count, dropwhile
from types import TracebackType
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.hooks import RemovableHandle

from outcrop.errors import LayerNotFoundError, ParameterError, ZooError, did_you_mean
from outcrop_zoo.interventions.intervention import Intervention
from outcrop_zoo.interventions.network_parts import stages

Modules = Sequence[str] | Callable[[str, nn.Module], bool]
"""Paths and patterns of modules, or a predicate on path and module."""


def principal_component_share(
    values: Float[Tensor, "sample unit"], vector: Float[Tensor, " unit"]
) -> tuple[Float[Tensor, ""], Float[Tensor, " unit"]]:
    """Return the share of variance along the first principal component by one power iteration, and the next vector.

    With mean-free features X: ``v = X'(X u)``, ``share = |v| / |X|_F^2``, next ``u = v / |v|`` (arXiv 2202.07184,
    appendix G). Never more than the exact share; equal to it, gradient included, once u has converged: some five
    iterations where the share exceeds 0.1. The gradient flows through v and through the norm, not through u.

    Cost: four readings of the values and one copy, and as much again for the gradient where there is one; on a CPU
    nothing where it is zero. Constant features have share 0, no gradient, and leave u as it is.

    Args:
        values: (sample, unit), float32 or float64: squares overflow in half precision.
        vector: (unit), u of unit length.

    Returns:
        The share, in [0, 1], and the next u, detached.
    """
    share, following = _Share.apply(values, vector.detach())
    return share, following


class PrincipalComponentPenalty(Intervention):
    """Adds ``alpha * max(share - delta, 0)`` to the loss for every chosen activation.

    The share of variance that its first principal component explains is estimated by one power iteration a training
    step (:func:`principal_component_share`); the vector lives from step to step, and in :meth:`state_dict`.
    By default the outputs of ``nn.ReLU`` from the second stage on count, as in arXiv 2202.07184.

        with PrincipalComponentPenalty(alpha=10, delta=0.2).attach(network) as penalty:
            for images, labels in batches:
                loss = cross_entropy(network(images), labels)
                if (extra := penalty.penalty()) is not None:
                    loss = loss + extra

    Nothing is done in evaluation mode, without gradients, or for modules that are frozen. A module that is called
    several times has a vector for each call. Arithmetic is float32 at least, also under autocast. Where the size of
    the activation changes, its vector starts anew.

    Keep delta well above ``1 / (samples - 1)``: of 128 samples of pure noise the first component still explains some
    0.01 to 0.02. Under data parallelism the share is that of a replica's own samples; save the first replica's state.

    Args:
        alpha: Strength, at least 0.
        delta: Share, in [0, 1], below which nothing is penalised.
        modules: Whose outputs are penalised: paths, patterns (``stage3.*.relu?``), or a predicate on path and module.
            By default every ``nn.ReLU`` from a stage on.
        from_stage: The first stage, counted from 1, where ``modules`` is not given.
        seed: Of the vectors' random start.

    Raises:
        ParameterError: alpha, delta or from_stage out of range.
    """

    def __init__(
        self,
        *,
        alpha: float = 10.0,
        delta: float = 0.2,
        modules: Modules | None = None,
        from_stage: int = 2,
        seed: int = 0,
    ) -> None:
        if not 0 <= alpha < float("inf"):
            raise ParameterError(f"alpha={alpha} is not a strength; give a number of at least 0.")
        if not 0 <= delta <= 1:
            raise ParameterError(f"delta={delta} is not a share of the variance; give a number from 0 to 1.")
        if from_stage < 1:
            raise ParameterError(f"from_stage={from_stage} is no stage; they are counted from 1.")
        self.alpha, self.delta, self.from_stage, self.seed = alpha, delta, from_stage, seed
        self._chosen = modules
        self._handles: list[RemovableHandle] = []
        self._paths: tuple[str, ...] = ()
        self._vectors: dict[str, Tensor] = {}
        self._shares: dict[str, Tensor] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the modules whose outputs are penalised; empty before :meth:`attach`."""
        return self._paths

    @property
    def shares(self) -> dict[str, Tensor]:
        """Estimated share of every activation of the last training step, scalars by ``path:call``."""
        return {key: share.detach() for key, share in self._shares.items()}

    def attach(self, network: nn.Module) -> Self:
        """Watch a network's activations until :meth:`detach`, or the end of a ``with`` block; return the penalty.

        Raises:
            ParameterError: It is attached already.
            LayerNotFoundError: A name or a pattern matches no module, or there is no ReLU in those stages.
        """
        if self._handles:
            raise ParameterError("The penalty is attached to a network already; detach it first, or make another one.")
        chosen = _choose(network, self._chosen, self.from_stage)
        self._paths = tuple(chosen)
        self._handles.append(network.register_forward_pre_hook(self._begin))
        for path, module in chosen.items():
            # The path is part of the seed, so that a vector does not depend on which others were drawn before it.
            seed = self.seed * 1_000_003 + zlib.crc32(path.encode())
            self._handles.append(module.register_forward_hook(self._hook(path, seed)))
        return self

    def detach(self) -> None:
        """Leave the network alone again; vectors are kept."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._shares.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.detach()

    def prepare(self, network: nn.Module) -> nn.Module:
        self.attach(network)
        return network

    def penalty(self) -> Tensor | None:
        """Return the penalty of the last training step, a scalar; None where nothing was watched since."""
        shares = list(self._shares.values())
        if not any(share.requires_grad for share in shares):
            return None
        excess = torch.stack([(share - self.delta).clamp_min(0).to(shares[0].device) for share in shares])
        self._shares = self.shares  # still readable, but without the graph
        return self.alpha * excess.sum()

    def state_dict(self) -> dict[str, Any]:
        return {"vectors": {key: vector.clone() for key, vector in self._vectors.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with saved vectors; after :meth:`attach`.

        Raises:
            ZooError: They belong to other modules.
        """
        vectors: Mapping[str, Tensor] = state["vectors"]
        strange = [key for key in vectors if key.rpartition(":")[0] not in self._paths]
        if strange:
            raise ZooError(
                f"The saved vectors belong to other modules: found {strange[0]!r}, expected one of {len(self._paths)} "
                "attached ones. Attach the penalty to the same modules of the same architecture first."
            )
        self._vectors = {key: vector.clone() for key, vector in vectors.items()}

    def finish(self, network: nn.Module) -> nn.Module:
        self.detach()
        return network

    def _begin(self, network: nn.Module, inputs: Any) -> None:  # noqa: ARG002 - torch's signature
        # What was never asked for is forgotten: graphs of earlier batches would fill the memory.
        if network.training and torch.is_grad_enabled():
            self._shares.clear()

    def _hook(self, path: str, seed: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001 - torch's signature
            if not (module.training and torch.is_grad_enabled()):
                return
            if not isinstance(output, Tensor) or not output.is_floating_point() or output.ndim < 2:
                raise ZooError(
                    f"Module {path!r} returns {_described(output)}; the penalty needs one tensor (sample, ...). "
                    "Choose other modules."
                )
            if output.requires_grad:
                self._watch(path, seed, output)

        return hook

    def _watch(self, path: str, seed: int, output: Tensor) -> None:
        call = next(number for number in count() if f"{path}:{number}" not in self._shares)
        key = f"{path}:{call}"
        with torch.autocast(output.device.type, enabled=False):
            values = output.flatten(1)
            values = values if values.dtype == torch.float64 else values.float()
            vector = self._vectors.get(key)
            if vector is None or len(vector) != values.shape[1]:
                vector = _random_direction(values.shape[1], seed=seed + call)
            self._shares[key], self._vectors[key] = principal_component_share(values, vector.to(values))


class _Share(Function):
    """The estimate, and its gradient in closed form: automatic differentiation takes several times as long."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        centred = values - values.mean(0)
        projection = centred @ vector
        product = centred.T @ projection
        length = torch.linalg.vector_norm(product)
        total = torch.linalg.vector_norm(centred).square()
        following = torch.where(length > 0, product / length, vector)
        share = torch.where(total > 0, length / total, 0.0)
        ctx.save_for_backward(centred, projection, vector, following, share, total)
        ctx.mark_non_differentiable(following)
        return share, following

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, None]:
        centred, projection, vector, following, share, total = ctx.saved_tensors
        # Most layers are below the threshold most of the time. Asking is free on a CPU; a GPU would have to wait.
        if grad.device.type == "cpu" and not torch.compiler.is_compiling() and not grad:
            return None, None
        scale = torch.where(total > 0, grad / total, 0.0)
        # The derivative of |X'Xu| by X has rank two; all of it is mean-free, as X is.
        left = torch.stack([projection, centred @ following], dim=1) * scale
        found = left @ torch.stack([following, vector])
        return found.addcmul_(centred, -2 * scale * share), None


def _choose(network: nn.Module, modules: Modules | None, from_stage: int) -> dict[str, nn.Module]:
    available = {path: module for path, module in network.named_modules() if path}
    if callable(modules):
        found = {path: module for path, module in available.items() if modules(path, module)}
        if not found:
            raise LayerNotFoundError(f"No module of {type(network).__name__} fits the predicate; choose some.")
        return found
    if modules is not None:
        patterns = [modules] if isinstance(modules, str) else modules
        for pattern in patterns:
            if not any(fnmatchcase(path, pattern) for path in available):
                raise LayerNotFoundError(
                    f"No module of {type(network).__name__} matches {pattern!r}; give paths or patterns of modules."
                    f"{did_you_mean(pattern, available)}"
                )
        return {path: m for path, m in available.items() if any(fnmatchcase(path, pattern) for pattern in patterns)}
    later = stages(network)[from_stage - 1 :]
    # What is registered behind the stages, such as the last ReLU of a pre-activation network, belongs to the last one.
    following = dict(dropwhile(lambda entry: entry[0] != later[0], available.items())) if later else {}
    found = {path: module for path, module in following.items() if isinstance(module, nn.ReLU)}
    if not found:
        raise LayerNotFoundError(
            f"{type(network).__name__} has no ReLU from stage {from_stage} on, in its {len(stages(network))} stages; "
            "name the modules whose outputs are penalised."
        )
    return found


def _random_direction(units: int, *, seed: int) -> Tensor:
    generator = Generator().manual_seed(seed)
    vector = torch.randn(units, generator=generator, dtype=torch.float64)
    direction: Tensor = vector / torch.linalg.vector_norm(vector)
    return direction


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)} and type {str(output.dtype).removeprefix('torch.')}"
    return f"a {type(output).__name__}"
