import hashlib
import subprocess
import sys

import numpy as np
import pytest

from outcrop.errors import DataNotFoundError, ParameterError
from outcrop_zoo import patches as patches_module
from outcrop_zoo.patches import CLASSES, PATCH_SIZE, PATCHES_PER_PHOTOGRAPH, Patches, load_patches, photograph


@pytest.fixture(scope="module")
def splits() -> dict[str, Patches]:
    return {"train": load_patches("train"), "test": load_patches("test")}


@pytest.mark.parametrize(
    ("split", "per_class", "expected"),
    [
        ("train", None, "1d8efecdfe07dcb7263087558eb7fcd734ced10c22e3d03e1496a143faf527ad"),
        ("test", None, "ac71155e96e722021e96976a46712ff182af14e03d3e3c1e4f4dbd2f6d7fdd82"),
        ("train", 300, "0fe9012e57a9331cfcabdbb2b6f0f80df35894bc20f020f6deb786dc212dcaa4"),
    ],
)
def test_patches_are_the_same_on_every_machine(split: str, per_class: int | None, expected: str) -> None:
    patches = load_patches(split, per_class=per_class)  # type: ignore[arg-type] # parametrised strings
    content = patches.images.tobytes() + patches.labels.tobytes() + "\n".join(patches.ids).encode()
    assert hashlib.sha256(content + repr(patches.classes).encode()).hexdigest() == expected


def test_photographs_are_what_the_packages_own_functions_return() -> None:
    from skimage import data
    from sklearn.datasets import load_sample_image

    expected = {
        "astronaut": data.astronaut(),
        "cat": data.chelsea(),
        "coffee": data.coffee(),
        "flower": load_sample_image("flower.jpg"),
        "galaxies": data.hubble_deep_field(),
        "motorcycle": data.stereo_motorcycle()[0],
        "retina": data.retina(),
        "rocket": data.rocket(),
        "temple": load_sample_image("china.jpg"),
        "tissue": data.immunohistochemistry(),
    }
    assert tuple(expected) == CLASSES
    for name, pixels in expected.items():
        np.testing.assert_array_equal(photograph(name), pixels[..., :3], err_msg=name)


def test_train_and_test_patches_share_no_pixel(splits: dict[str, Patches]) -> None:
    for name in CLASSES:
        covered = {}
        for split, patches in splits.items():
            covered[split] = np.zeros(photograph(name).shape[:2], dtype=bool)
            for sample_id in patches.ids:
                photo, top, left = sample_id.split(":")
                if photo == name:
                    covered[split][int(top) : int(top) + PATCH_SIZE, int(left) : int(left) + PATCH_SIZE] = True
        assert not (covered["train"] & covered["test"]).any()
        assert all(mask.any() for mask in covered.values())


def test_ids_are_unique_and_say_where_the_pixels_are(splits: dict[str, Patches]) -> None:
    for patches in splits.values():
        assert len(set(patches.ids)) == len(patches.ids)
        for index in range(0, len(patches.ids), 997):
            name, top, left = patches.ids[index].split(":")
            expected = photograph(name)[int(top) : int(top) + PATCH_SIZE, int(left) : int(left) + PATCH_SIZE]
            np.testing.assert_array_equal(patches.images[index], expected)
            assert patches.classes[patches.labels[index]] == name


def test_every_prefix_is_class_balanced(splits: dict[str, Patches]) -> None:
    for split, patches in splits.items():
        assert np.bincount(patches.labels).tolist() == [PATCHES_PER_PHOTOGRAPH[split]] * len(CLASSES)
        for length in (1, 15, 128, 1234):
            counts = np.bincount(patches.labels[:length], minlength=len(CLASSES))
            assert counts.max() - counts.min() <= 1


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(
        ParameterError, match="Unknown split 'validation' of the patches; expected one of 'train', 'test', 'fit'"
    ):
        load_patches("validation")  # type: ignore[arg-type] # the point of the test


def test_no_patches_per_class_are_refused() -> None:
    with pytest.raises(ParameterError, match="Patches per class must be at least 1; got 0"):
        load_patches("test", per_class=0)


@pytest.mark.parametrize("package", ["skimage", "skimage_that_is_not_installed"])
def test_a_missing_photograph_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(patches_module._PHOTOGRAPHS, "cat", (package, "data/absent.png"))
    with pytest.raises(
        DataNotFoundError, match=r"photograph 'cat' .* data/absent.png .* which is not there; reinstall"
    ):
        load_patches("test", per_class=1)


def test_patches_need_neither_torch_nor_the_packages_that_ship_the_photographs() -> None:
    code = (
        "import sys; from outcrop_zoo.patches import load_patches; load_patches('test', per_class=1);"
        "print(*{'torch', 'skimage', 'sklearn', 'scipy'} & sys.modules.keys())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ""
