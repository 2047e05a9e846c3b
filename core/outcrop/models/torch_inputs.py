"""What a torch network takes: its input shape, found by trying where nobody has stated it, and samples to try."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from outcrop.errors import ModelLoadError
from outcrop.models.model import InputSpec, Preprocessing
from outcrop.models.preprocessing import assumed_recipe

FOREIGN_ERRORS = (
    RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError, AttributeError,
)  # fmt: skip # what the code of a network may raise on inputs that do not fit it

_LARGE_FIRST = (224, 32, 28, 64, 96, 128, 160, 256, 299, 384, 512)
_SMALL_FIRST = (32, 28, 224, 64, 96, 128, 160, 256, 299, 384, 512)
_TOKENS = 16


def sample_inputs(specs: Sequence[InputSpec], count: int, *, vocabulary: int, device: str) -> dict[str, Tensor]:
    """Return random inputs (sample, ...); the first samples are the same whatever the count."""
    generator = torch.Generator().manual_seed(0)
    inputs: dict[str, Tensor] = {}
    for spec in specs:
        dtype = getattr(torch, spec.dtype)
        samples = [_sample(spec, dtype, vocabulary, generator) for _ in range(3)]
        inputs[spec.name] = torch.stack(samples[:count]).to(device)
    return inputs


def _sample(spec: InputSpec, dtype: torch.dtype, vocabulary: int, generator: torch.Generator) -> Tensor:
    shape = tuple(size or 1 for size in spec.shape)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    if "mask" in spec.name:
        return torch.ones(shape, dtype=dtype)
    return torch.randint(0, 1 if "type" in spec.name else vocabulary, shape, generator=generator).to(dtype)


def vocabulary_size(network: nn.Module) -> int:
    """Return how many tokens the network knows: as many as its first embedding has."""
    return next((module.num_embeddings for module in network.modules() if isinstance(module, nn.Embedding)), 2)


def state_input(network: nn.Module, shape: Sequence[int], *, name: str = "input") -> InputSpec:
    """Return the input of a network whose shape is known."""
    first = _first_consumer(network)
    if isinstance(first, nn.Embedding):
        return InputSpec(name, tuple(shape), "int64")
    return InputSpec(name, tuple(shape), _float_dtype(network))


def derive_input(network: nn.Module, *, device: str) -> InputSpec:
    """Return the input of a network, found by trying shapes that its first layer with weights suggests.

    Raises:
        ModelLoadError: No shape that was tried runs.
    """
    tried = []
    for shape in _candidates(network):
        spec = state_input(network, shape)
        tried.append(str(shape))
        if _runs(network, spec, device):
            return spec
    what = f"none of {', '.join(tried)} runs" if tried else "its first layer suggests none"
    raise ModelLoadError(
        f"The input shape of {type(network).__name__} is not known: {what}. "
        "State the shape of one sample: load_model(..., input_shape=(3, 64, 64)) or '?input_shape=3x64x64'."
    )


def _runs(network: nn.Module, spec: InputSpec, device: str) -> bool:
    inputs = sample_inputs([spec], 2, vocabulary=vocabulary_size(network), device=device)
    try:
        with torch.no_grad():
            network(*inputs.values())
    except FOREIGN_ERRORS:
        return False
    return True


def _candidates(network: nn.Module) -> Iterator[tuple[int, ...]]:
    configured = _configured(network)
    if configured is not None:
        yield configured
        return
    first = _first_consumer(network)
    if isinstance(first, nn.Embedding):
        yield (_TOKENS,)
    elif isinstance(first, nn.Conv2d):
        # A stem that reduces the resolution at once is made for photographs, one that does not for small images.
        sizes = _LARGE_FIRST if max(first.stride) > 1 else _SMALL_FIRST
        yield from ((first.in_channels, size, size) for size in sizes)
    elif isinstance(first, nn.Conv1d):
        yield from ((first.in_channels, size) for size in (128, 1024, 16000))
    elif isinstance(first, nn.Linear):
        yield (first.in_features,)
        yield (_TOKENS, first.in_features)
        side = round((first.in_features / 3) ** 0.5)
        if 3 * side * side == first.in_features:
            yield (3, side, side)
        side = round(first.in_features**0.5)
        if side * side == first.in_features:
            yield (1, side, side)
    elif isinstance(first, nn.TransformerEncoderLayer | nn.MultiheadAttention):
        yield (_TOKENS, first.embed_dim if isinstance(first, nn.MultiheadAttention) else first.linear1.in_features)


def _configured(network: nn.Module) -> tuple[int, ...] | None:
    """Return the input size that timm writes into its networks."""
    configuration = getattr(network, "pretrained_cfg", None)
    size = configuration.get("input_size") if isinstance(configuration, Mapping) else None
    return tuple(int(number) for number in size) if size else None


def _first_consumer(network: nn.Module) -> nn.Module | None:
    kinds = (nn.Embedding, nn.Conv2d, nn.Conv1d, nn.Linear, nn.MultiheadAttention, nn.TransformerEncoderLayer)
    return next((module for module in network.modules() if isinstance(module, kinds)), None)


def _float_dtype(network: nn.Module) -> str:
    dtypes = (tensor.dtype for tensor in network.parameters() if tensor.dtype.is_floating_point)
    return str(next(dtypes, torch.float32)).removeprefix("torch.")


def assumed_preprocessing(inputs: Sequence[InputSpec]) -> Preprocessing | None:
    """Return what is done to images for a network that states nothing, or None if it does not take colour images."""
    if len(inputs) != 1 or not inputs[0].dtype.startswith("float") or len(inputs[0].shape) != 3:
        return None
    channels, height, width = inputs[0].shape
    if channels != 3 or height is None or width is None:
        return None
    recipe = assumed_recipe(height, width, channels_last=False)
    return recipe.preprocessing(note=" (assumed: the network states none)")
