"""Export whatever ``outcrop.load_model`` loads."""

import os
import warnings
from typing import TYPE_CHECKING

from torch import nn

from outcrop.errors import ZooError
from outcrop.models import Model, load_model
from outcrop.models.torch_ import TorchModel
from outcrop.models.torch_inputs import sample_inputs, vocabulary_size
from outcrop_zoo.exporting.image_recipes import image_recipe
from outcrop_zoo.exporting.network import PARITY_TOLERANCE, Export, Unused, export_network

if TYPE_CHECKING:
    from torch import Tensor

_SAMPLES = 3


class PreprocessingLeftOutWarning(UserWarning):
    """A model's preprocessing has no equal among what an ONNX file of outcrop can state."""


def export_model(
    reference: "str | os.PathLike[str] | nn.Module | Model",
    *,
    folded: bool = False,
    half: bool = False,
    name: str | None = None,
    unused: Unused = "keep",
    tolerance: float = PARITY_TOLERANCE,
) -> Export:
    """Return the ONNX form of a model of timm, torchvision or torch.

    File metadata state its name, reference, class names, and how images are prepared. Parity with torch is measured on
    random samples. See :func:`~outcrop_zoo.exporting.export_network` for what is kept.

    Args:
        reference: What ``outcrop.load_model`` takes: ``timm:resnet18``, ``torchvision:vit_b_16?weights=none``, a
            torch module; or a model already loaded, such as ``load_model(module, input_shape=(3, 64, 64))``.
        folded: Make batch norms part of the convolutions before them.
        half: Store kernels and matrices in float16.
        name: Written into the file; by default that of the model.
        unused: Whether parameters that the forward pass does not use stay in the file (``keep``) or not (``drop``).
        tolerance: Largest relative difference from torch, over the outputs of the network and all its modules.

    Raises:
        ModelNotFoundError: No model answers to the reference.
        ModelLoadError: The model was found, and cannot be read or run.
        ZooError: It is an ONNX graph already, runs in another mode than evaluation, or cannot be exported faithfully.

    Warns:
        PreprocessingLeftOutWarning: Its preprocessing is none that the file could state.
    """
    model = load_model(reference, name=name, device="cpu" if isinstance(reference, str) else "auto")
    if not isinstance(model, TorchModel):
        raise ZooError(f"{model.source} is no torch network but an ONNX graph already; copy or add its file instead.")
    if model.mode != "evaluation":
        raise ZooError(
            f"{model.source} takes batch norm from the batch at hand; the zoo keeps networks in evaluation mode. "
            "Load it without batch_norm=batch."
        )
    network = model.network
    samples = sample_inputs(model.inputs, _SAMPLES, vocabulary=vocabulary_size(network), device="cpu")
    example: Tensor | dict[str, Tensor] = samples if len(samples) > 1 else next(iter(samples.values()))
    recipe = image_recipe(model.preprocessing)
    if recipe is None and model.preprocessing is not None and not model.preprocessing.assumed:
        warnings.warn(
            f"How images are prepared for {model.name!r} is left out of the file, which cannot state it: "
            f"{model.preprocessing.description}. Prepare them yourself.",
            PreprocessingLeftOutWarning,
            stacklevel=2,
        )
    return export_network(
        network,
        example,
        name=model.name,
        source=model.source,
        classes=model.classes,
        preprocessing=recipe,
        half=half,
        folded=folded,
        unused=unused,
        input_name=model.inputs[0].name,
        output_name="output" if model.classes is None else "logits",
        tolerance=tolerance,
    )
