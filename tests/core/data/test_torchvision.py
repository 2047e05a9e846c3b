import numpy as np
import pytest

from outcrop.data import load_data
from outcrop.errors import DataNotFoundError, DataReadError


def write_idx(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes()
    path.write_bytes(header + values.tobytes())


@pytest.fixture
def digits(tmp_path):
    rng = np.random.default_rng(0)
    stored = {}
    for split, prefix, count in (("train", "train", 12), ("test", "t10k", 7)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(tmp_path / "MNIST" / "raw" / f"{prefix}-images-idx3-ubyte", images)
        write_idx(tmp_path / "MNIST" / "raw" / f"{prefix}-labels-idx1-ubyte", labels)
        stored[split] = images, labels
    return tmp_path, stored


@pytest.fixture
def offline(monkeypatch, tmp_path):
    # The shared opener keeps the proxies of the first call in the process.
    monkeypatch.setattr("urllib.request._opener", None)
    # A proxy where nothing listens: every request fails at once, and none leaves the machine.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(("suffix", "split"), [("", "test"), ("/test", "test"), ("/train", "train")])
def test_both_splits_are_read_from_a_root(digits, suffix, split):
    root, stored = digits
    data = load_data(f"torchvision:MNIST{suffix}?root={root}")
    images, labels = stored[split]
    assert (data.name, data.source) == (f"MNIST-{split}", f"torchvision:MNIST/{split}")
    assert data.labels.tolist() == labels.tolist()
    assert data.classes[3] == "3 - three"
    np.testing.assert_array_equal(np.asarray(data.read(4))[:, :, 2], images[4])


def test_the_default_root_is_the_users_cache(digits, offline):
    root, _ = digits
    (root / "cache" / "outcrop" / "torchvision").mkdir(parents=True)
    (root / "MNIST").rename(root / "cache" / "outcrop" / "torchvision" / "MNIST")
    assert len(load_data("torchvision:MNIST")) == 7


def test_the_name_is_checked_and_near_ones_suggested():
    with pytest.raises(
        DataNotFoundError, match=r"no data 'torchvision:cifar10'\. Did you mean 'CIFAR10'.*\? Available: CIF"
    ):
        load_data("torchvision:cifar10")


def test_split_root_and_option_are_checked(tmp_path):
    with pytest.raises(
        DataNotFoundError, match=r"'torchvision:MNIST' has no split 'valid'; expected one of 'train', 'test'"
    ):
        load_data("torchvision:MNIST/valid")
    with pytest.raises(DataNotFoundError, match=r"has an option 'folder=x'; expected 'root=PATH'"):
        load_data("torchvision:MNIST?folder=x")
    with pytest.raises(DataNotFoundError, match=r"no folder '.*gone' to look for 'torchvision:MNIST' in"):
        load_data(f"torchvision:MNIST?root={tmp_path / 'gone'}")
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "SVHN", "STL10", "USPS"])
def test_offline_the_error_tells_how_to_give_a_root(offline, name, capsys):
    words = (
        rf"'torchvision:{name}' is not under '.*outcrop.torchvision' and cannot be downloaded \(.+\)\. .*\?root=PATH'"
    )
    with pytest.raises(DataNotFoundError, match=words):
        load_data(f"torchvision:{name}")
    assert capsys.readouterr().out == ""


def test_a_broken_copy_is_one_clear_error(digits):
    root, _ = digits
    path = root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(b"not digits")
    with pytest.raises(
        DataReadError, match=r"'torchvision:MNIST' under '.*' is broken \(.+\); remove it, and it is downloaded"
    ):
        load_data(f"torchvision:MNIST?root={root}")
