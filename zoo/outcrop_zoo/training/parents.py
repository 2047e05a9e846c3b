"""Trained networks of the zoo as torch modules, for interventions that start from them."""

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from outcrop.errors import ZooError
from outcrop_zoo.architectures import build_architecture

# The exporter leaves out what evaluation mode does not use.
_NOT_EXPORTED = "num_batches_tracked"


def load_zoo_network(name: str) -> nn.Module:
    """Return the network of a zoo model that was built by a recipe, with its weights, in evaluation mode.

    Raises:
        ModelNotFoundError: No such model, or it is a recipe that was not built yet.
        ZooError: Its file is missing or not the card's, it has no recipe, or parameters of another network.
    """
    from outcrop_zoo.catalogue import Catalogue

    entry = Catalogue().find(name)
    if entry.card.recipe is None:
        raise ZooError(
            f"The zoo model {name!r} was not built by a recipe, so its architecture is not known. "
            "Name one that 'outcrop zoo show' shows a recipe of."
        )
    model = onnx.load_model(entry.checked_model_path())
    network = build_architecture(entry.card.recipe.architecture)
    found = {
        initializer.name: torch.from_numpy(np.array(numpy_helper.to_array(initializer)))
        for initializer in model.graph.initializer
    }
    expected = {key: value for key, value in network.state_dict().items() if not key.endswith(_NOT_EXPORTED)}
    wrong = [key for key, value in expected.items() if key not in found or found[key].shape != value.shape]
    if wrong:
        raise ZooError(
            f"The zoo model {name!r} lacks {len(wrong)} of {len(expected)} parameters of its architecture, such as "
            f"{wrong[0]!r}: its network was changed as it was trained. Name an unchanged one."
        )
    network.load_state_dict({key: found[key] for key in expected}, strict=False)
    return network.eval()
