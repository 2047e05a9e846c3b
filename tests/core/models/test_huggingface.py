"""Networks of transformers, saved on the spot."""

import sys

import huggingface_hub.constants
import pytest
import torch
import transformers
from PIL import Image

from outcrop.errors import MissingDependencyError, ModelLoadError, ModelNotFoundError
from outcrop.models import load_model, select_layers

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture
def text_folder(tmp_path):
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=24, **SMALL)
    transformers.BertModel(config).save_pretrained(tmp_path / "text")
    return tmp_path / "text"


@pytest.fixture
def image_folder(tmp_path):
    config = transformers.ViTConfig(image_size=32, patch_size=8, **SMALL)
    transformers.ViTModel(config).save_pretrained(tmp_path / "image")
    return tmp_path / "image"


def test_a_text_network_takes_tokens_and_its_blocks_equal_its_own_hidden_states(text_folder):
    model = load_model(f"hf:{text_folder}?length=10")
    assert model.name == "text"
    assert [(spec.name, spec.shape, spec.dtype) for spec in model.inputs] == [
        ("input_ids", (10,), "int64"),
        ("attention_mask", (10,), "int64"),
    ]
    blocks = select_layers(model, "block")
    assert [(layer.name, layer.dims) for layer in blocks] == [
        (f"encoder.layer.{depth}", ("token", "feature")) for depth in (0, 1)
    ]
    inputs = {"input_ids": torch.randint(0, 50, (3, 10)), "attention_mask": torch.ones(3, 10, dtype=torch.int64)}
    inputs["attention_mask"][1, 6:] = 0
    found = {}
    model.visit(inputs, [layer.name for layer in model.layers], lambda layer, v: found.update({layer.name: v.clone()}))
    with torch.no_grad():
        expected = model.network(**inputs, output_hidden_states=True)
    for depth in (0, 1):
        torch.testing.assert_close(found[f"encoder.layer.{depth}"], expected.hidden_states[depth + 1])
    torch.testing.assert_close(model.forward(inputs), expected.last_hidden_state)
    assert model.layer("output.last_hidden_state").name == "encoder.layer.1"


def test_an_image_network_takes_pixels_and_lists_its_blocks(image_folder):
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(image_folder)
    model = load_model(f"hf:{image_folder}")
    assert [(spec.name, spec.shape) for spec in model.inputs] == [("pixel_values", (3, 32, 32))]
    assert len(select_layers(model, "block")) == 2
    assert model.preprocessing.transform(Image.new("RGB", (50, 40))).shape == (3, 32, 32)
    assert "image_mean" in model.preprocessing.description


def test_an_image_network_without_a_processor_gets_the_plain_preprocessing(image_folder):
    assert "assumed" in load_model(f"hf:{image_folder}").preprocessing.description


def test_saved_weights_are_used_and_random_ones_follow_the_seed(text_folder):
    prints = [
        load_model(f"hf:{text_folder}{options}").fingerprint
        for options in ("", "", "?pretrained=false&seed=1", "?pretrained=false&seed=2", "?pretrained=false&seed=1")
    ]
    assert prints[0] == prints[1]
    assert prints[2] == prints[4]
    assert len(set(prints)) == 3


def test_pickled_weights_are_not_read(text_folder):
    state = load_model(f"hf:{text_folder}").network.state_dict()
    (text_folder / "model.safetensors").unlink()
    torch.save(state, text_folder / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"transformers cannot load .*safetensors"):
        load_model(f"hf:{text_folder}")


def test_what_is_not_there_is_named_at_once(tmp_path, monkeypatch):
    with pytest.raises(ModelNotFoundError, match=r"holds no config.json; it is no transformers model"):
        load_model(f"hf:{tmp_path}")
    with pytest.raises(ModelNotFoundError, match="is neither a folder nor a name on the hub"):
        load_model("hf:no/such/folder/here")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadError, match=r"'someone/something' cannot be fetched: .*HF_HUB_OFFLINE is set"):
        load_model("hf:someone/something")


def test_a_network_of_neither_text_nor_images_is_refused(tmp_path):
    config = transformers.TimeSeriesTransformerConfig(prediction_length=4, d_model=8)
    transformers.TimeSeriesTransformerModel(config).save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match="takes neither token ids nor images"):
        load_model(f"hf:{tmp_path}")


def test_a_missing_transformers_is_named_with_the_command_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"needs transformers.*pip install 'outcrop\[hf\]'"):
        load_model("hf:bert-base-uncased")
