"""Packages that ship weights: made here, with the record that pip leaves, and found as installed ones are."""

import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from outcrop.errors import MissingDependencyError, ZooError
from outcrop_zoo.cards import PackageSource, read_card
from outcrop_zoo.folders import PACKAGE_MODELS
from outcrop_zoo.sources.package import installed_version, load_package_network, package_file

ARCHITECTURE = "test_resnet"


def install(site: Path, content: bytes, *, package: str = "some-weights") -> dict[str, Any]:
    """Write a distribution as pip does, and return the fields of a source that names its file."""
    module = package.replace("-", "_")
    (site / module).mkdir(parents=True)
    (site / module / "weights.pth").write_bytes(content)
    record = site / f"{module}-1.2.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    return {
        "package": package,
        "version": "1.2",
        "file": f"{module}/weights.pth",
        "sha256": hashlib.sha256(content).hexdigest(),
        "architecture": ARCHITECTURE,
    }


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def foreign_names(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a state dict as another library would name it: other modules, the same parameters, the same order."""
    state = network.state_dict()
    return {f"layer{index}.{key.rpartition('.')[2]}": value for index, (key, value) in enumerate(state.items())}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    made: torch.nn.Module = timm.create_model(ARCHITECTURE).eval()
    for value in made.buffers():
        if value.is_floating_point():
            value.uniform_(0.5, 2.0)
    return made


def test_weights_of_other_names_fill_the_architecture_in_order(site: Path, network: torch.nn.Module) -> None:
    source = PackageSource(**install(site, saved(foreign_names(network))))
    loaded = load_package_network(source)
    assert not loaded.training
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), network(images), rtol=0, atol=0)
    assert installed_version(source) == "1.2"
    assert package_file(source) == site / "some_weights" / "weights.pth"


def test_a_network_without_its_classifier_is_filled(site: Path) -> None:
    features = timm.create_model(ARCHITECTURE, num_classes=0)
    source = PackageSource(**install(site, saved(foreign_names(features))), classes=0)
    assert load_package_network(source)(torch.rand(1, 3, 64, 64)).shape == (1, features.num_features)


def test_a_package_that_is_not_installed_says_how_to_install_it() -> None:
    source = PackageSource(
        package="no-such-weights", version="1.0", file="a/b.pth", sha256="0" * 64, architecture=ARCHITECTURE
    )
    assert installed_version(source) is None
    with pytest.raises(
        MissingDependencyError,
        match=r"'no-such-weights', which is not installed; run 'pip install --no-deps no-such-weights==1.0'",
    ):
        load_package_network(source)


def test_a_package_without_the_file_is_refused(site: Path, network: torch.nn.Module) -> None:
    source = PackageSource(**install(site, saved(foreign_names(network))) | {"file": "some_weights/other.pth"})
    with pytest.raises(
        ZooError, match=r"'some-weights' 1.2 holds no file 'some_weights/other.pth'; run .*--force-reinst"
    ):
        load_package_network(source)


def test_another_file_than_the_cards_is_refused_unread(site: Path) -> None:
    fields = install(site, b"anything")
    with pytest.raises(
        ZooError, match=f"sha256 {fields['sha256']}, expected {'0' * 64}. The installed version .* is 1.2"
    ):
        load_package_network(PackageSource(**fields | {"sha256": "0" * 64}))


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.exit, ("the file ran code",))


@pytest.mark.parametrize("content", [b"no file of torch", saved({"weight": _Harmful()}), b""])
def test_a_file_that_would_run_code_is_refused(content: bytes, site: Path) -> None:
    with pytest.raises(ZooError, match="not a file of weights that torch reads without running code"):
        load_package_network(PackageSource(**install(site, content)))


@pytest.mark.parametrize(("value", "kind"), [([torch.ones(2)], "list"), ({"epoch": 3}, "dict")])
def test_a_file_that_holds_no_tensors_by_name_is_refused(value: Any, kind: str, site: Path) -> None:
    with pytest.raises(ZooError, match=f"holds a {kind}; expected tensors by name"):
        load_package_network(PackageSource(**install(site, saved(value))))


def test_another_number_of_tensors_is_refused(site: Path, network: torch.nn.Module) -> None:
    fields = install(site, saved(foreign_names(network)))
    count = len(network.state_dict())
    with pytest.raises(ZooError, match=rf"holds {count} tensors; test_resnet has {count - 2}. Correct the card's arch"):
        load_package_network(PackageSource(**fields, classes=0))


def test_another_shape_is_refused(site: Path, network: torch.nn.Module) -> None:
    source = PackageSource(**install(site, saved(foreign_names(network))), classes=7)
    with pytest.raises(ZooError, match=r"in the place of 'fc.weight' \(7, \d+\) of test_resnet: its order is another"):
        load_package_network(source)


def test_another_order_of_one_shape_is_refused(site: Path, network: torch.nn.Module) -> None:
    names = list(foreign_names(network).items())
    mean = next(index for index, (key, _) in enumerate(names) if key.endswith("running_mean"))
    names[mean], names[mean + 1] = names[mean + 1], names[mean]
    with pytest.raises(ZooError, match=r"running_var' .* in the place of '.*running_mean' .* its order is another one"):
        load_package_network(PackageSource(**install(site, saved(dict(names)))))


def test_an_unknown_architecture_is_refused(site: Path, network: torch.nn.Module) -> None:
    fields = install(site, saved(foreign_names(network))) | {"architecture": "test_resnett"}
    with pytest.raises(
        ZooError, match=r"timm has no network 'test_resnett'. Did you mean 'test_resnet.*Correct the card"
    ):
        load_package_network(PackageSource(**fields))


@pytest.mark.parametrize("path", sorted(PACKAGE_MODELS.glob("*.json")), ids=lambda path: path.stem)
def test_a_package_models_card_fits_its_architecture(path: Path) -> None:
    card = read_card(path)
    assert card.name == path.stem
    assert isinstance(card.source, PackageSource)
    options = {} if card.source.classes is None else {"num_classes": card.source.classes}
    network = timm.create_model(card.source.architecture, **options)
    assert card.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert card.input is not None
    assert card.preprocessing is not None
    assert card.input.shape[1:] == card.preprocessing.size
