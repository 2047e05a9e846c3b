"""Data sets on disk: where they are looked for, and what they are read as."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outcrop.errors import DataNotFoundError, DataReadError, ParameterError
from outcrop_zoo.data_sources import load_zoo_data
from outcrop_zoo.data_sources.fashion_mnist import CLASSES, read_idx
from outcrop_zoo.patches import load_patches


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUTCROP_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "system"))


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """Two classes with twelve images each, whose left pixels are their number; 10 follows 9, not 1."""
    root = tmp_path / "sets" / "cifar10-jpeg"
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "airplane")):
            (root / split / name).mkdir(parents=True)
            for index in range(12):
                pixels = np.full((32, 32, 3), 20 * index, np.uint8)
                pixels[16:] = 100 * label
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
    return root


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.astype(np.uint8).tobytes())


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    folder = tmp_path / "system" / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(3)
    for prefix in ("train", "t10k"):
        images = generator.integers(0, 256, (30, 28, 28))
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(30) % 10))
    return folder


@pytest.mark.parametrize("inside", [True, False])
def test_cifar_is_found_under_the_folder_that_the_user_names_or_as_it(
    inside: bool, cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = cifar.parent if inside else cifar
    monkeypatch.setenv("OUTCROP_DATA", f"{tmp_path / 'nowhere'}:{named}")
    data = load_zoo_data("cifar10-jpeg")
    assert (data.name, data.source, len(data)) == ("cifar10-jpeg", "zoo:cifar10-jpeg", 24)
    assert data.classes == ("airplane", "cat")


def test_images_come_class_by_class_in_natural_order(cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCROP_DATA", str(cifar.parent))
    data = load_zoo_data("cifar10-jpeg/train?per_class=11")
    assert data.name == "cifar10-jpeg-train"
    assert list(data.sample_ids) == [f"{name}/{index}.png" for name in ("airplane", "cat") for index in range(11)]
    assert data.labels is not None
    assert data.labels.tolist() == [0] * 11 + [1] * 11
    for index in range(22):
        pixels = np.asarray(data.read(index))
        assert (pixels[0, 0, 0], pixels[31, 0, 0]) == (20 * (index % 11), 100 * (index < 11))


def test_missing_data_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataNotFoundError, match=r"'cifar10-jpeg' is not on this machine: OUTCROP_DATA is not set, .* Set"
    ):
        load_zoo_data("cifar10-jpeg")
    monkeypatch.setenv("OUTCROP_DATA", str(tmp_path))
    with pytest.raises(
        DataNotFoundError, match=rf"OUTCROP_DATA names {tmp_path}, and .* package dataset-fashion-mnist"
    ):
        load_zoo_data("fashion-mnist")


def test_a_folder_without_classes_or_with_too_few_images_is_refused(
    cifar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTCROP_DATA", str(cifar.parent))
    with pytest.raises(DataNotFoundError, match=r"airplane' holds 12 images; expected at least 13. Complete it, or"):
        load_zoo_data("cifar10-jpeg/train?per_class=13")
    with pytest.raises(ParameterError, match="Images per class must be at least 1; got 0"):
        load_zoo_data("cifar10-jpeg?per_class=0")
    (cifar / "test").rename(cifar / "validation")
    with pytest.raises(DataNotFoundError, match=r"test' holds no classes; expected CLASS/\*.jpg in it"):
        load_zoo_data("cifar10-jpeg")


def test_an_image_that_is_broken_or_of_another_size_is_named(cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCROP_DATA", str(cifar.parent))
    place = cifar / "test" / "cat" / "3.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(place)
    with pytest.raises(
        DataReadError, match=r"3.png is of shape \(8, 8, 3\); expected \(32, 32, 3\), that of the first"
    ):
        load_zoo_data("cifar10-jpeg")
    place.write_bytes(b"no picture")
    with pytest.raises(DataReadError, match=r"3.png cannot be read: not an image. Replace it"):
        load_zoo_data("cifar10-jpeg")


def test_fashion_mnist_is_found_among_the_systems_data_and_gets_a_border(fashion: Path) -> None:
    data = load_zoo_data("fashion-mnist/train")
    assert (data.classes, len(data)) == (CLASSES, 30)
    original = read_idx(fashion / "train-images-idx3-ubyte.gz")
    pixels = np.asarray(data.read(7))
    np.testing.assert_array_equal(pixels[2:30, 2:30, 1], original[7])
    assert pixels.sum() == 3 * original[7].astype(int).sum()


def test_fashion_mnist_gives_the_first_images_of_each_class(fashion: Path) -> None:
    data = load_zoo_data("fashion-mnist?per_class=2")
    assert list(data.sample_ids) == [f"{label + 10 * turn:05d}" for label in range(10) for turn in range(2)]
    with pytest.raises(DataNotFoundError, match="Class 'T-shirt/top' has fewer than the 4 images of each class"):
        load_zoo_data("fashion-mnist?per_class=4")
    with pytest.raises(ParameterError, match="Images per class must be at least 1; got 0"):
        load_zoo_data("fashion-mnist?per_class=0")


def test_a_broken_idx_file_is_refused(fashion: Path) -> None:
    labels = fashion / "t10k-labels-idx1-ubyte.gz"
    whole = labels.read_bytes()
    for content in (b"", b"no gzip", whole[:15], gzip.compress(b"\0\0")):
        labels.write_bytes(content)
        with pytest.raises(
            DataReadError, match=r"t10k-labels-idx1-ubyte.gz is no gzip-compressed IDX file \(.*Replace"
        ):
            load_zoo_data("fashion-mnist")
    labels.write_bytes(gzip.compress(gzip.decompress(whole)[:-3]))
    with pytest.raises(DataReadError, match=r"holds 27 values of type 0x08 for shape \(30,\); expected unsigned bytes"):
        load_zoo_data("fashion-mnist")
    labels.write_bytes(idx(np.arange(29) % 10))
    with pytest.raises(DataReadError, match=r"hold images \(30, 28, 28\) and labels \(29,\) up to 9; expected"):
        load_zoo_data("fashion-mnist")
    labels.unlink()
    with pytest.raises(DataNotFoundError, match=r"no file .*t10k-labels-idx1-ubyte.gz'. Install Debian's package"):
        load_zoo_data("fashion-mnist")


def test_patches_are_those_of_the_patches_module() -> None:
    for reference, split in (("patches", "test"), ("patches/fit", "fit"), ("patches/held_out", "held_out")):
        data = load_zoo_data(f"{reference}?per_class=2")
        assert list(data.sample_ids) == load_patches(split, per_class=2).ids  # type: ignore[arg-type] # literals


def test_unknown_data_and_queries_are_refused() -> None:
    with pytest.raises(DataNotFoundError, match=r"no data 'patchez'. Did you mean 'patches'.* It offers patches, "):
        load_zoo_data("patchez")
    with pytest.raises(ParameterError, match=r"zoo:cifar10-jpeg takes \?per_class=N .*; got 'size=3'"):
        load_zoo_data("cifar10-jpeg?size=3")
