import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from outcrop.data import SkippedSamplesWarning, load_data, subset
from outcrop.data.folder import find_images, natural_order
from outcrop.errors import DataNotFoundError, DataReadError


def write(path: Path, value: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def classes(tmp_path):
    folder = tmp_path / "pets"
    for value, name in enumerate(["cat/img10.png", "cat/img2.png", "cat/more/img1.jpg", "dog/a.png", "ant/b.PNG"]):
        write(folder / name, value)
    return folder


def test_subfolders_are_classes_and_order_is_natural(classes):
    data = load_data(classes)
    assert data.sample_ids == ("ant/b.PNG", "cat/img2.png", "cat/img10.png", "cat/more/img1.jpg", "dog/a.png")
    assert data.classes == ("ant", "cat", "dog")
    assert data.labels.tolist() == [0, 1, 1, 1, 2]
    assert data.labels.dtype == np.int64
    assert (data.name, data.source, data.skipped) == ("pets", str(classes), ())


def test_samples_are_the_pixels_of_the_files(classes):
    data = load_data(str(classes))
    for index, sample_id in enumerate(data.sample_ids):
        with Image.open(classes / sample_id) as expected:
            np.testing.assert_array_equal(np.asarray(data.read(index)), np.asarray(expected))
        assert data.thumbnail(index).shape == (48, 48, 3)


def test_a_folder_with_images_at_the_top_has_no_classes(classes):
    write(classes / "loose.png", 9)
    data = load_data(classes)
    assert data.labels is None
    assert data.classes is None
    assert len(data) == 6


def test_hidden_files_and_other_files_are_left_out(classes):
    write(classes / ".hidden.png")
    write(classes / ".cache" / "thumbnail.png")
    write(classes / "__MACOSX" / "cat.png")
    (classes / "cat" / "._img2.png").write_bytes(b"resource fork")
    (classes / "cat" / "notes.txt").write_text("not an image")
    assert len(load_data(classes)) == 5


def test_links_are_followed_and_circles_are_not(classes):
    (classes / "linked").symlink_to(classes / "cat", target_is_directory=True)
    (classes / "dog" / "up").symlink_to(classes, target_is_directory=True)
    data = load_data(classes)
    assert data.classes == ("ant", "cat", "dog", "linked")
    assert len(data) == 8


def test_a_single_image_is_one_sample(classes):
    data = load_data(classes / "cat" / "img2.png")
    assert (data.sample_ids, data.name, data.labels) == (("img2.png",), "img2.png", None)
    assert data.read(0).size == (10, 12)


def test_an_unreadable_image_is_named_and_skipped_with_a_count(classes):
    whole = write(classes / "dog" / "cut.jpg", 7, (120, 90)).read_bytes()
    (classes / "dog" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (classes / "dog" / "text.png").write_text("hello")
    with pytest.warns(SkippedSamplesWarning, match=r"^Skipped 2 of 7 images of 'pets' .*: dog/cut.jpg \(.*truncated"):
        data = load_data(classes)
    assert [one.sample_id for one in data.skipped] == ["dog/cut.jpg", "dog/text.png"]
    assert data.skipped[1].reason == "not an image"
    assert len(data) == 5


def test_many_unreadable_images_are_named_in_one_line(classes):
    for number in range(6):
        (classes / "dog" / f"bad{number}.png").write_bytes(b"")
    with pytest.warns(SkippedSamplesWarning, match=r"Skipped 6 of 11 images.* and 3 more\.$"):
        load_data(classes)


def test_strict_refuses_an_unreadable_image_by_name(classes):
    (classes / "dog" / "bad.png").write_bytes(b"")
    with pytest.raises(
        DataReadError, match=r"'pets' holds images that cannot be read: dog/bad.png \(not an image\)\. R"
    ):
        load_data(classes, strict=True)
    (classes / "dog" / "bad2.png").write_bytes(b"")
    with pytest.raises(DataReadError, match=r"dog/bad.png \(not an image\), and 1 more\."):
        load_data(classes, strict=True)


def test_a_folder_of_unreadable_images_only_is_an_error(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(
        DataReadError, match=r"None of the 1 images of .* can be read; the first: bad.png \(not an image"
    ):
        load_data(tmp_path)


def test_a_link_to_nothing_is_named(classes):
    (classes / "dog" / "gone.png").symlink_to(classes / "nowhere.png")
    with pytest.warns(SkippedSamplesWarning, match=r"dog/gone.png \(.*No such file"):
        load_data(classes)


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"holds no images: found no file; expected images \(.jpg"):
        load_data(tmp_path)
    for name in ("a.txt", "b.txt", "c.csv", "README"):
        (tmp_path / name).touch()
    with pytest.raises(DataNotFoundError, match=r"found 4 files \(2 .txt, 1 .csv, 1 without extension\); expected"):
        load_data(tmp_path)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    with pytest.raises(DataReadError, match=r"Folder '.*gone' cannot be listed: No such file or directory"):
        list(find_images(tmp_path / "gone"))


def test_a_file_that_changes_afterwards_is_refused(classes):
    data = load_data(classes)
    write(classes / "ant" / "b.PNG", 99)
    with pytest.raises(DataReadError, match=r"b.PNG has changed since the folder was read; load the data again"):
        data.read(0)
    os.remove(classes / "dog" / "a.png")
    with pytest.raises(DataReadError, match=r"a.png cannot be read any more: .*No such file"):
        data.read(4)


def test_the_fingerprint_knows_content_and_order_but_not_place_and_time(classes, tmp_path):
    first = load_data(classes).fingerprint
    copied = tmp_path / "elsewhere" / "other"
    shutil.copytree(classes, copied)
    for path in copied.rglob("*.png"):
        os.utime(path, (1, 1))
    data = load_data(copied)
    assert data.fingerprint == first
    assert subset(data, range(len(data))).fingerprint == first
    assert subset(data, [1, 0, 2, 3, 4]).fingerprint != first
    write(copied / "dog" / "a.png", 50)
    assert load_data(copied).fingerprint != first


def test_a_renamed_class_is_other_data(classes):
    first = load_data(classes).fingerprint
    (classes / "dog").rename(classes / "wolf")
    assert load_data(classes).fingerprint != first


def test_a_limit_is_balanced_and_reads_no_other_file(tmp_path):
    for name in "abc":
        for number in range(10):
            write(tmp_path / name / f"{number}.png", number)
    checked = []

    @contextmanager
    def progress(description, total, *, unit="samples"):
        assert (description, total, unit) == ("checking images", 7, "images")
        yield checked.append

    data = load_data(tmp_path, limit=7, progress=progress)
    assert sum(checked) == len(data) == 7
    assert sorted(np.bincount(data.labels)) == [2, 2, 3]
    assert data.classes == ("a", "b", "c")
    assert data.fingerprint == load_data(load_data(tmp_path), limit=7).fingerprint


def test_a_limit_replaces_unreadable_images(tmp_path):
    for number in range(10):
        write(tmp_path / f"{number}.png", number)
    for number in (1, 3):
        (tmp_path / f"{number}.png").write_bytes(b"")
    with pytest.warns(SkippedSamplesWarning):
        data = load_data(tmp_path, limit=8)
    assert data.sample_ids == ("0.png", "2.png", *(f"{number}.png" for number in range(4, 10)))


@given(st.lists(st.text("aA1029./é٣", min_size=1).filter(lambda name: name.strip("./")), max_size=12))
def test_natural_order_is_total_and_repeatable(names):
    ordered = sorted(names, key=natural_order)
    backwards = names[::-1]
    assert sorted(backwards, key=natural_order) == ordered


def test_natural_order_counts_numbers():
    names = ["b1", "a10", "a9", "A2", "a", "10/x", "9/x"]
    assert sorted(names, key=natural_order) == ["9/x", "10/x", "a", "A2", "a9", "a10", "b1"]
