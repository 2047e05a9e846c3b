"""Networks of transformers: ``hf:NAME`` or a local folder, for text or images."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from outcrop.errors import MissingDependencyError, ModelLoadError, ModelNotFoundError
from outcrop.models.hub import HubUnreachableError, fetch
from outcrop.models.model import InputSpec, Preprocessing
from outcrop.models.reference import Reference, parse_reference
from outcrop.models.torch_ import TorchModel
from outcrop.models.torch_inputs import FOREIGN_ERRORS

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

OPTIONS = ("pretrained", "seed", "length", "attention_maps")
_LENGTH = 128


def load_huggingface(reference: str, *, name: str | None = None, device: str = "auto") -> TorchModel:
    """Return a network of transformers, without its task head (``AutoModel``).

    Weights are read from safetensors files only, and code of a repository is never run.

    Args:
        reference: A name on the hub or a local folder; ``?length=64`` states the number of tokens of one sample
            (128 by default), ``?pretrained=false`` gives random weights (with ``&seed=0``), and
            ``?attention_maps=true`` layers of what fused attention computes and never writes down.
        name: Short name; by default the last part of the reference.
        device: ``cpu``, ``cuda``, ...; ``auto`` is CUDA where there is one.

    Raises:
        MissingDependencyError: transformers is not installed.
        ModelNotFoundError: There is no such folder or repository.
        ModelLoadError: The network cannot be fetched or built, or takes what outcrop does not know.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            f"'hf:{reference}' needs transformers, which cannot be imported ({error}). "
            "Install it: pip install 'outcrop[hf]'."
        ) from error
    parts = parse_reference(reference, OPTIONS)
    local = _local_or_fetched(parts)
    try:
        config = transformers.AutoConfig.from_pretrained(parts.name, trust_remote_code=False, local_files_only=local)
        if parts.switch("pretrained") is False:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(parts.number("seed", 0))
                network = transformers.AutoModel.from_config(config, trust_remote_code=False)
        else:
            network = transformers.AutoModel.from_pretrained(
                parts.name, config=config, use_safetensors=True, trust_remote_code=False, local_files_only=local
            )
    except (*FOREIGN_ERRORS, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelLoadError(f"transformers cannot load {parts.name!r}: {reason}") from error
    images = _takes_images(network)
    return TorchModel(
        network,
        name=name or Path(parts.name).name,
        source=f"hf:{reference}",
        inputs=_image_inputs(config) if images else _text_inputs(config, parts),
        keywords=True,
        device=device,
        preprocessing=_preprocessing(parts.name, local=local) if images else None,
        attention_maps=bool(parts.switch("attention_maps")),
    )


def _local_or_fetched(parts: Reference) -> bool:
    """Return whether only local files are used, having made sure that there is a configuration."""
    if Path(parts.name).is_dir():
        if not (Path(parts.name) / "config.json").is_file():
            raise ModelNotFoundError(f"The folder {parts.name} holds no config.json; it is no transformers model.")
        return True
    try:
        fetch(parts.name, "config.json")
    except HubUnreachableError as error:
        raise ModelLoadError(f"The model {parts.name!r} cannot be fetched: {error}.") from error
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"{error}; give the name of a transformers model on the hub, or a folder.") from error
    except ValueError as error:  # what the hub's client raises on a name that no repository can have
        raise ModelNotFoundError(f"{parts.name!r} is neither a folder nor a name on the hub.") from error
    return False


def _takes_images(network: Any) -> bool:
    return getattr(network, "main_input_name", "input_ids") == "pixel_values"


def _image_inputs(config: Any) -> list[InputSpec]:
    size = getattr(config, "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    return [InputSpec("pixel_values", (getattr(config, "num_channels", 3), height, width), "float32")]


def _text_inputs(config: Any, parts: Reference) -> list[InputSpec]:
    if getattr(config, "vocab_size", None) is None:
        raise ModelLoadError(
            f"{parts.name!r} ({type(config).__name__}) takes neither token ids nor images; "
            "wrap it in a function and load it with python:module:function."
        )
    longest = getattr(config, "max_position_embeddings", None) or _LENGTH
    length = parts.number("length", min(_LENGTH, longest))
    return [InputSpec("input_ids", (length,), "int64"), InputSpec("attention_mask", (length,), "int64")]


def _preprocessing(name: str, *, local: bool) -> Preprocessing | None:
    import transformers

    try:
        processor = transformers.AutoImageProcessor.from_pretrained(name, local_files_only=local)
    except (*FOREIGN_ERRORS, OSError):
        return None  # the folder states none; TorchModel assumes the plain one

    def transform(image: "Image") -> "Tensor":
        pixels: Tensor = processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels

    return Preprocessing(f"transformers {sorted(processor.to_dict().items())!r}", transform)
