from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import ZooError
from outcrop_zoo.architectures import Mlp


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_it_computes_what_numpy_computes(depth: int, vectors: bool) -> None:
    torch.manual_seed(0)
    network = Mlp(depth, width=9, num_classes=3, **({"features": 12} if vectors else {"image": (3, 2, 2)})).double()
    x = torch.randn(5, 12).double()
    values = x.numpy()
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    for position in range(1, depth):
        values = np.maximum(values @ state[f"hidden{position}.weight"].T + state[f"hidden{position}.bias"], 0)
    expected = values @ state["classifier.weight"].T + state["classifier.bias"]
    logits = network(x if vectors else x.reshape(5, 3, 2, 2))
    np.testing.assert_allclose(logits.detach().numpy(), expected)


def test_images_are_flattened_the_same_in_any_memory_format() -> None:
    torch.manual_seed(0)
    network = Mlp(2, width=9, image=(3, 4, 4))
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(network(images.contiguous(memory_format=torch.channels_last)), network(images))


@given(depth=st.integers(1, 6), width=st.integers(1, 20), classes=st.integers(1, 12), features=st.integers(1, 30))
@settings(deadline=None, max_examples=30)
def test_parameters_follow_from_the_widths(depth: int, width: int, classes: int, features: int) -> None:
    network = Mlp(depth, width=width, num_classes=classes, features=features)
    sizes = [features, *[width] * (depth - 1), classes]
    assert sum(p.numel() for p in network.parameters()) == sum((a + 1) * b for a, b in pairwise(sizes))


def test_its_operations_have_names() -> None:
    assert [name for name, _ in Mlp(3).named_children()] == [
        *("flatten", "hidden1", "relu1", "hidden2", "relu2", "classifier")
    ]
    assert [name for name, _ in Mlp(1, features=4).named_children()] == ["classifier"]


@pytest.mark.parametrize(
    ("numbers", "message"), [({"depth": 0}, "depth 0"), ({"depth": 2, "features": 0}, "features 0")]
)
def test_numbers_of_which_there_is_no_mlp_are_refused(numbers: dict[str, int], message: str) -> None:
    with pytest.raises(ZooError, match=f"An MLP is built of whole numbers of at least 1; got {message}"):
        Mlp(**numbers)
