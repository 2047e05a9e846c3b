"""Networks of torchvision."""

import os
import pickle

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from outcrop.errors import ModelLoadError, ModelNotFoundError
from outcrop.models import load_model, select_layers


@pytest.fixture
def weights_folder(tmp_path, monkeypatch):
    """An empty folder of weights, and a network that refuses connections."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # The shared opener keeps the proxies of the first call in the process.
    monkeypatch.setattr("urllib.request._opener", None)
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_resnet18_knows_its_preprocessing_classes_and_layers():
    model = load_model("torchvision:resnet18?weights=none&seed=3")
    assert model.inputs[0].shape == (3, 224, 224)
    assert len(model.layers) == 70
    assert len(select_layers(model, "block")) == 8
    assert model.classes[1] == "goldfish"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (250, 300, 3), dtype=np.uint8))
    expected = torchvision.models.ResNet18_Weights.DEFAULT.transforms()(image)
    torch.testing.assert_close(model.preprocessing.transform(image), expected)
    assert "crop_size=[224]" in model.preprocessing.description


def test_random_weights_follow_the_seed():
    prints = [load_model(f"torchvision:squeezenet1_1?weights=none&seed={seed}").fingerprint for seed in (0, 1, 0)]
    assert prints[0] == prints[2] != prints[1]


def test_another_input_shape_reaches_layers_and_images():
    model = load_model("torchvision:resnet18?weights=none&input_shape=3x64x64")
    assert model.layers[0].shape == (3, 64, 64)
    assert model.preprocessing.transform(Image.new("RGB", (90, 90))).shape == (3, 64, 64)
    assert "resized to 64x64" in model.preprocessing.description


def test_networks_of_segmentation_take_images_of_any_size():
    model = load_model("torchvision:lraspp_mobilenet_v3_large?weights=none")
    prepared = model.preprocessing.transform(Image.new("RGB", (333, 400)))
    model.check_inputs({"input": prepared.unsqueeze(0)})
    assert "resize_size=[520]" in model.preprocessing.description
    assert "then resized to 224x224" in model.preprocessing.description
    assert not model.preprocessing.assumed


def test_networks_of_video_take_clips_of_the_length_trained_on():
    model = load_model("torchvision:r3d_18?weights=none")
    assert model.inputs[0].shape == (3, 16, 112, 112)
    assert model.preprocessing is None
    small = load_model("torchvision:r3d_18?weights=none&input_shape=3x4x32x32")
    assert small.layer("output").shape == (400,)


def test_a_vision_transformer_is_built_for_another_input_shape():
    model = load_model("torchvision:vit_b_32?weights=none&input_shape=3x64x64")
    assert model.layer("encoder.layers.encoder_layer_11").shape == (5, 768)
    assert model.preprocessing.transform(Image.new("RGB", (90, 70))).shape == (3, 64, 64)
    with pytest.raises(ModelLoadError, match=r"'vit_b_32' takes square images; its input_shape is \(3, 64, 96\)"):
        load_model("torchvision:vit_b_32?weights=none&input_shape=3x64x96")


@pytest.mark.slow  # 350 MB of weights are written and read
def test_the_trained_positions_of_a_vision_transformer_are_interpolated(weights_folder):
    network = torchvision.models.vit_b_32(weights=None)
    file = os.path.basename(torchvision.models.ViT_B_32_Weights.DEFAULT.url)
    torch.save(network.state_dict(), weights_folder / file)
    model = load_model("torchvision:vit_b_32?input_shape=3x64x64")
    torch.testing.assert_close(model.network.encoder.pos_embedding[:, 0], network.encoder.pos_embedding[:, 0])
    assert model.network.encoder.pos_embedding.shape == (1, 5, 768)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("vit_b_16", 12),
        ("swin_t", 12),
        ("densenet121", 4),
        ("efficientnet_b0", 16),
        ("mobilenet_v2", 17),
        ("googlenet", 9),
    ],
)
def test_real_networks_list_their_blocks_and_every_layer_can_be_visited(name, blocks):
    model = load_model(f"torchvision:{name}?weights=none")
    assert len(select_layers(model, "block")) == blocks
    images = torch.randn(2, 3, 224, 224)
    seen = []

    def look(layer, values):
        assert values.shape == (2, *layer.shape), layer.name
        seen.append(layer.name)
        if layer is model.layers[-1]:
            torch.testing.assert_close(values, model.network(images), rtol=1e-4, atol=1e-5)

    model.visit({"input": images}, [layer.name for layer in model.layers], look)
    assert seen == [layer.name for layer in model.layers]


def test_trained_weights_are_read_from_torchs_own_folder(weights_folder):
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    file = os.path.basename(torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url)
    torch.save(state, weights_folder / file)
    model = load_model("torchvision:squeezenet1_1")
    for name, value in model.network.state_dict().items():
        torch.testing.assert_close(value, state[name])


def test_weights_that_hold_code_are_not_run(weights_folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "was-here"),))

    file = os.path.basename(torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url)
    (weights_folder / file).write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ModelLoadError, match="hold more than tensors and are not read"):
        load_model("torchvision:squeezenet1_1")
    assert not (tmp_path / "was-here").exists()


def test_weights_of_another_network_are_refused(weights_folder):
    file = os.path.basename(torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url)
    torch.save({"x": torch.zeros(1)}, weights_folder / file)
    with pytest.raises(ModelLoadError, match="torchvision cannot build 'squeezenet1_1': Error"):
        load_model("torchvision:squeezenet1_1")


def test_weights_that_cannot_be_fetched_are_an_error_that_offers_random_ones(weights_folder):
    with pytest.raises(ModelLoadError, match=r"'resnet18' cannot be fetched from https://.*\?weights=none"):
        load_model("torchvision:resnet18")


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("torchvision:resnet19", ModelNotFoundError, "torchvision has no network 'resnet19'. Did you mean 'resnet1"),
        ("torchvision:resnet50?weights=BEST", ModelNotFoundError, "no weights 'BEST' .*IMAGENET1K_V1, IMAGENET1K_V2"),
        (
            "torchvision:resnet18?pretrained=false",
            ModelLoadError,
            "Unknown option 'pretrained'.*Known: attention_maps, batch_norm, input_shape, seed",
        ),
    ],
)
def test_bad_references_are_refused_in_one_line(reference, error, message):
    with pytest.raises(error, match=message) as caught:
        load_model(reference)
    assert "\n" not in str(caught.value)
