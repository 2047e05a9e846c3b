import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import outcrop
from outcrop.errors import DataNotFoundError
from outcrop_zoo.imagenet import class_names


def test_the_classes_are_those_of_imagenet_in_order() -> None:
    names = class_names()
    assert len(names) == 1000
    assert (names[0], names[207], names[999].split(",")[0]) == (
        "tench, Tinca tinca",
        "golden retriever",
        "toilet tissue",
    )


def test_the_images_of_foolbox_load_with_the_labels_in_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "foolbox" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "foolbox" / "__init__.py").touch()
    for name, shade in (("imagenet_01_207", 90), ("imagenet_00_999", 30), ("cifar10_00_3", 60)):
        content = io.BytesIO()
        Image.new("RGB", (40, 30), (shade, 0, 0)).save(content, "jpeg")
        (folder / f"{name}.jpg").write_bytes(content.getvalue())
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    data = outcrop.load_data("zoo:foolbox-imagenet")
    assert (data.name, data.source, list(data.sample_ids)) == (
        "foolbox-imagenet",
        "zoo:foolbox-imagenet",
        ["imagenet_00_999", "imagenet_01_207"],
    )
    assert data.labels is not None
    assert data.labels.tolist() == [999, 207]
    assert data.classes == class_names()
    assert np.asarray(data.read(1)).shape == (30, 40, 3)
    assert np.asarray(data.read(1))[0, 0, 0] == pytest.approx(90, abs=3)
    assert data.digest(0) != data.digest(1)
    assert data.thumbnail(0) is not None


def test_missing_images_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "foolbox").mkdir()
    (tmp_path / "foolbox" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(
        DataNotFoundError, match="are those of the Python package 'foolbox'.*pip install --no-deps foolbox"
    ):
        outcrop.load_data("zoo:foolbox-imagenet")
