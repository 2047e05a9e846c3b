"""Choosing layers."""

import re

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from outcrop.errors import LayerNotFoundError
from outcrop.models import TorchModel, select_layers
from outcrop_zoo.architectures import CifarResNet

MODEL = TorchModel(CifarResNet(14))


def names(selection, model=MODEL):
    return [layer.name for layer in select_layers(model, selection)]


def test_presets_choose_all_blocks_activations_and_outputs():
    assert names("all") == [layer.name for layer in MODEL.layers]
    blocks = [f"stage{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1)]
    assert names("block") == blocks
    activations = ["relu"]
    for block in blocks:
        activations += [f"{block}.relu1", block]
    assert names("act") == activations
    assert names("output") == ["classifier"]


def test_a_transformer_has_activations_that_are_no_blocks():
    model = TorchModel(nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)), input_shape=(5, 8))
    assert [layer.operation for layer in select_layers(model, "act")] == ["relu"]
    assert names("output", model) == [model.layers[-1].name]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("stage1.0", ["stage1.0"]),
        ("stage1.0.relu2", ["stage1.0"]),
        ("stage1", ["stage1.1"]),
        ("stage?.0", ["stage1.0", "stage2.0", "stage3.0"]),
        ("stage[12].1.norm2", ["stage1.1.norm2", "stage2.1.norm2"]),
        ("stage3.1.*1", ["stage3.1.conv1", "stage3.1.norm1", "stage3.1.relu1"]),
        ("kind:pool", ["pool"]),
        ("classifier, conv , kind:pool", ["conv", "pool", "classifier"]),
        (r"/^stage\d\.0$/", ["stage1.0", "stage2.0", "stage3.0"]),
        (r"/shortcut/, pool", ["stage2.0.shortcut", "stage3.0.shortcut", "pool"]),
        (0, ["input"]),
        (-1, ["classifier"]),
        (slice(0, 3), ["input", "conv", "norm"]),
        (re.compile("flat"), ["flatten"]),
        (lambda layer: layer.shape == (64,), ["flatten"]),
        (["classifier", 0, "stage1.0", "stage1.0.relu2"], ["input", "stage1.0", "classifier"]),
    ],
)
def test_layers_are_chosen_in_topological_order_and_once(selection, expected):
    assert names(selection) == expected


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("stage1.O", r"no layer 'stage1.O'. Did you mean 'stage1.1' or 'stage1.0'"),
        ("stag9.*", r"No layer of model 'CifarResNet' matches 'stag9.\*'. Did you mean 'stage"),
        ("/^nothing$/", r"matches /\^nothing\$/"),
        ("/(/", "is not a regular expression"),
        ("kind:cov", r"no kind of layer 'cov'. Did you mean 'conv'\? Kinds: input, conv"),
        ("kind:attention", r"has no layer for 'kind:attention'; its layers are of kind input, conv, norm, act"),
        ("stage1.0, nowhere", "no layer 'nowhere'"),
        ("", "has no layer for ''"),
        (99, "has 51 layers, 0 to 50; there is no 99"),
        (True, "True selects no layer"),
        (3.5, "A float selects no layer"),
        (slice(5, 5), "has no layer for the slice 5:5:None"),
        (lambda _: False, "has no layer for the predicate <lambda>"),
        ([], "has no layer for an empty sequence"),
    ],
)
def test_a_selection_without_a_match_says_what_there_is(selection, message):
    with pytest.raises(LayerNotFoundError, match=message):
        select_layers(MODEL, selection)


def test_a_model_without_blocks_says_which_kinds_it_has():
    model = TorchModel(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))
    with pytest.raises(
        LayerNotFoundError, match=r"no layer for the preset 'block'; its layers are of kind input, linear"
    ):
        select_layers(model, "block")


def test_the_blocks_of_torchvision_resnet18_end_in_an_activation():
    with torch.random.fork_rng(devices=[]):
        model = TorchModel(torchvision.models.resnet18(weights=None), input_shape=(3, 64, 64))
    assert names("block", model) == [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert set(names("block", model)) < set(names("act", model))
    assert names("layer1.0.relu:1", model) == ["layer1.0"]


@given(st.sets(st.integers(0, 50), min_size=1))
def test_any_set_of_names_is_returned_in_order(positions):
    chosen = [MODEL.layers[position] for position in positions]
    assert select_layers(MODEL, ",".join(layer.name for layer in chosen)) == tuple(
        sorted(chosen, key=lambda layer: layer.index)
    )
