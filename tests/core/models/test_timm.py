"""Networks of timm."""

from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from outcrop.errors import ModelLoadError, ModelNotFoundError
from outcrop.models import RandomWeightsWarning, load_model, select_layers
from outcrop.models.timm_ import _find_weights

REPOSITORY = "timm/test_resnet.r160_in1k"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache, and a hub that refuses connections."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    return tmp_path / "hub"


def put_in_cache(hub: Path, repository: str, state: dict[str, torch.Tensor]) -> Path:
    folder = hub / ("models--" + repository.replace("/", "--"))
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    (folder / "snapshots" / ("a" * 40)).mkdir(parents=True)
    path = folder / "snapshots" / ("a" * 40) / "model.safetensors"
    save_file(state, path)
    return path


@pytest.mark.parametrize(
    ("name", "blocks"), [("test_resnet", 4), ("test_vit", 6), ("test_convnext", 9), ("test_efficientnet", 4)]
)
def test_small_networks_list_their_blocks_and_every_layer_can_be_visited(name, blocks):
    model = load_model(f"timm:{name}?pretrained=false")
    assert model.name == name
    assert model.source == f"timm:{name}?pretrained=false"
    assert len(select_layers(model, "block")) == blocks
    inputs = {spec.name: torch.randn(2, *spec.shape) for spec in model.inputs}
    found = {}
    model.visit(
        inputs, [layer.name for layer in model.layers], lambda layer, value: found.update({layer: value.clone()})
    )
    assert [layer.name for layer in found] == [layer.name for layer in model.layers]
    for layer, value in found.items():
        assert value.shape == (2, *layer.shape), layer.name
        assert len(layer.dims) == len(layer.shape)
    with torch.no_grad():
        expected = model.network.eval()(inputs["input"])
    torch.testing.assert_close(found[model.layers[-1]], expected)
    torch.testing.assert_close(model.forward(inputs), expected)


def test_the_blocks_of_a_vision_transformer_are_tokens_and_equal_timms_own_intermediates():
    model = load_model("timm:test_vit?pretrained=false")
    blocks = select_layers(model, "block")
    assert {layer.dims for layer in blocks} == {("token", "feature")}
    images = torch.randn(2, 3, 160, 160)
    found = {}
    model.visit(
        {"input": images}, [layer.name for layer in blocks], lambda layer, v: found.update({layer.name: v.clone()})
    )
    with torch.no_grad():
        expected = model.network.forward_intermediates(
            images, return_prefix_tokens=False, output_fmt="NLC", intermediates_only=True
        )
    for (_, values), other in zip(found.items(), expected, strict=True):
        torch.testing.assert_close(values[:, 1:], other)


def test_random_weights_follow_the_seed():
    prints = [
        load_model(f"timm:test_resnet?pretrained=false&seed={seed}", name="small").fingerprint for seed in (0, 1, 0)
    ]
    assert prints[0] == prints[2] != prints[1]


def test_images_are_prepared_as_timm_does_it():
    model = load_model("timm:test_resnet?pretrained=false")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8))
    config = timm.data.resolve_model_data_config(timm.create_model("test_resnet"))
    expected = timm.data.create_transform(**config, is_training=False)(image)
    torch.testing.assert_close(model.preprocessing.transform(image), expected)
    assert "crop_pct" in model.preprocessing.description
    assert len(model.classes) == 1000
    assert "goldfish" in model.classes[1]


def test_another_input_shape_reaches_layers_and_images():
    model = load_model("timm:test_resnet?pretrained=false&input_shape=3x64x64")
    assert model.inputs[0].shape == model.layers[0].shape == (3, 64, 64)
    assert model.preprocessing.transform(Image.new("RGB", (90, 90))).shape == (3, 64, 64)


def test_a_vision_transformer_is_built_for_another_input_shape():
    model = load_model("timm:test_vit?pretrained=false&input_shape=3x64x48")
    assert model.layer("blocks.0").shape == (1 + 4 * 3, 64)
    assert model.preprocessing.transform(Image.new("RGB", (90, 90))).shape == (3, 64, 48)


def test_a_network_of_other_channels_takes_no_images():
    model = load_model("timm:test_resnet?pretrained=false&input_shape=1x64x64")
    assert model.layers[0].shape == (1, 64, 64)
    assert model.preprocessing is None


def test_trained_positions_are_interpolated_for_another_input_shape(hub):
    state = {name: value.clone() for name, value in timm.create_model("test_vit").state_dict().items()}
    put_in_cache(hub, "timm/test_vit.r160_in1k", state)
    model = load_model("timm:test_vit?input_shape=3x64x64")
    torch.testing.assert_close(model.network.cls_token, state["cls_token"], check_stride=False)
    assert model.layer("blocks.0").shape[0] == 17


def test_trained_weights_come_from_safetensors_in_the_cache(hub):
    network = timm.create_model("test_resnet")
    state = {name: value.clone() for name, value in network.state_dict().items()}
    state["fc.bias"] += 3
    put_in_cache(hub, REPOSITORY, state)
    model = load_model("timm:test_resnet")
    for name, value in model.network.state_dict().items():
        torch.testing.assert_close(value, state[name])


def test_broken_weights_are_named(hub):
    put_in_cache(hub, REPOSITORY, {"x": torch.zeros(1)}).write_bytes(b"no weights at all")
    with pytest.raises(ModelLoadError, match="timm cannot build 'test_resnet'"):
        load_model("timm:test_resnet")


def test_weights_that_cannot_be_fetched_are_an_error_at_once_that_offers_random_ones(hub):
    with pytest.raises(ModelLoadError, match=r"'resnet18' cannot be fetched: .*does not answer.*\?pretrained=false"):
        load_model("timm:resnet18")


def test_a_network_without_safetensors_weights_says_so():
    with pytest.raises(
        ModelLoadError, match=r"timm has no safetensors weights for 'test_resnet.gone'.*\?pretrained=false"
    ):
        _find_weights("test_resnet.gone", None)


def test_offline_mode_of_the_hub_is_respected(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadError, match="not cached, and HF_HUB_OFFLINE is set"):
        load_model("timm:resnet18")


def test_a_test_network_without_its_weights_runs_with_random_ones_and_warns(hub):
    with pytest.warns(
        RandomWeightsWarning, match=r"test_resnet runs with random weights \(seed 0\): .*does not answer"
    ):
        model = load_model("timm:test_resnet")
    assert model.fingerprint == load_model("timm:test_resnet?pretrained=false&seed=0").fingerprint


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("timm:resnet19", ModelNotFoundError, "timm has no network 'resnet19'. Did you mean 'resnet1"),
        (
            "timm:resnet18.nonsense",
            ModelNotFoundError,
            "no weights 'resnet18.nonsense'; those of 'resnet18': resnet18.a1",
        ),
        ("timm:test_resnet?pretrained=perhaps", ModelLoadError, "pretrained=perhaps of 'test_resnet' is neither"),
        ("timm:test_resnet?pretrained=false&seed=x", ModelLoadError, "seed=x of 'test_resnet' is not a whole number"),
        ("timm:test_resnet?pretrained=false&input_shape=3*4", ModelLoadError, "not a shape; write it as 3x32x32"),
        ("timm:test_resnet?pretrained=false&input_shape=64x64", ModelLoadError, "has 2 numbers, write it as 3x64x64"),
        ("timm:test_resnet?pretraned=false", ModelLoadError, "Unknown option 'pretraned'.*Did you mean 'pretrained'"),
        ("timm:test_resnet?pretrained", ModelLoadError, "'pretrained' in .* has no value"),
    ],
)
def test_bad_references_are_refused_in_one_line(reference, error, message):
    with pytest.raises(error, match=message) as caught:
        load_model(reference)
    assert "\n" not in str(caught.value)
