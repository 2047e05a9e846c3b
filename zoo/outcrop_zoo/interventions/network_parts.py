"""Find parts of a network by their paths: modules, stages, layers, and what comes before and behind a module.

Everything rests on the order in which modules are registered, which is the order in which they run in the networks of
the zoo, and of torchvision and timm as far as it matters here.
"""

import re
from collections.abc import Iterator

from torch import nn

from outcrop.errors import LayerNotFoundError, ParameterError, did_you_mean

_STAGE = re.compile(r"(?:[a-z_]\w*\.)*(?:stages?|layers?|groups?|blocks?)[._]?(\d+)")

_KERNELS = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention)  # torch has no public base of convolutions


def module_at(network: nn.Module, path: str) -> nn.Module:
    """Return the module under a dotted path.

    Raises:
        LayerNotFoundError: There is none; near names are suggested.
    """
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if not path or path not in modules:
        raise LayerNotFoundError(
            f"{type(network).__name__} has no module {path!r}; give the path of one of its {len(modules) - 1} modules."
            f"{did_you_mean(path, [name for name in modules if name])}"
        )
    return modules[path]


def replace_module(network: nn.Module, path: str, module: nn.Module) -> None:
    """Put another module under a dotted path at which there is one."""
    module_at(network, path)
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


def stages(network: nn.Module) -> list[str]:
    """Return the paths of the stages of a network, such as ``stage1``, ``layer1`` or ``stages.0``, in their order.

    Raises:
        LayerNotFoundError: No module is called so.
    """
    found = [(path, int(match[1])) for path, _ in network.named_modules() if (match := _STAGE.fullmatch(path))]
    if not found:
        raise LayerNotFoundError(
            f"{type(network).__name__} has no stages: no module is called stage1, layer1, stages.0 or the like. "
            "Name the modules that you mean."
        )
    depth = min(path.count(".") for path, _ in found)
    outermost = [(path, number) for path, number in found if path.count(".") == depth]
    return [path for path, _ in sorted(outermost, key=lambda entry: entry[1])]


def layers(network: nn.Module) -> list[list[str]]:
    """Return the paths of the modules of every layer.

    A layer is a block, or a convolution or dense layer outside blocks; normalisation, activation and pooling go with
    the layer before. Containers (``nn.Sequential``, ``nn.ModuleList``) are looked into, other modules are not.

    Raises:
        ParameterError: The network has no convolution and no dense layer.
    """
    found: list[list[str]] = []
    leading: list[str] = []
    for path, module in _outside_containers(network):
        if any(isinstance(part, _KERNELS) for part in module.modules()):
            found.append([*leading, path])
            leading = []
        else:
            (found[-1] if found else leading).append(path)
    if not found:
        raise ParameterError(f"{type(network).__name__} has no layers: no convolution and no dense layer.")
    return found


def units(network: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that hold parameters or buffers themselves, or have no children, by path."""
    return {
        path: module
        for path, module in network.named_modules()
        if not any(module.children())
        or any(True for _ in module.parameters(recurse=False))
        or any(True for _ in module.buffers(recurse=False))
    }


def weighted(modules: dict[str, nn.Module]) -> list[str]:
    """Return the paths of those modules that hold a weight matrix or a kernel themselves."""
    return [path for path, module in modules.items() if any(w.ndim > 1 for w in module.parameters(recurse=False))]


def split_at(network: nn.Module, site: str) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """Return the :func:`units` up to a module, itself included, and those behind it.

    Raises:
        LayerNotFoundError: There is no such module.
    """
    module_at(network, site)
    found = units(network)
    last = max(place for place, path in enumerate(found) if path == site or path.startswith(f"{site}."))
    entries = list(found.items())
    return dict(entries[: last + 1]), dict(entries[last + 1 :])


def features_at(network: nn.Module, site: str) -> int:
    """Return how many channels a module returns: those of the last layer registered up to it.

    Raises:
        LayerNotFoundError: There is no such module.
        ParameterError: No layer before it says how many channels it has.
    """
    before, _ = split_at(network, site)
    for module in reversed(before.values()):
        for name in ("out_channels", "out_features", "num_features", "num_channels", "embedding_dim"):
            if isinstance(value := getattr(module, name, None), int):
                return value
        if isinstance(module, nn.LayerNorm):
            return int(module.normalized_shape[-1])
    raise ParameterError(f"No layer up to {site!r} says how many channels it has; give features=.")


def _outside_containers(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.Sequential | nn.ModuleList):
            yield from _outside_containers(child, f"{path}.")
        else:
            yield path, child
