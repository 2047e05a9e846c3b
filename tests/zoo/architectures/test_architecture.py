import json
import subprocess
import sys
from typing import get_args

import pytest
from pydantic import ValidationError

from outcrop.errors import ZooError
from outcrop_zoo.architectures import REFERENCES, Architecture, ArchitectureName, build_architecture

OF_OLD_CARDS = {"name": "cifar_resnet", "depth": 110, "width": 1, "classes": 10}


def test_what_old_cards_hold_means_and_reads_the_same() -> None:
    architecture = Architecture.model_validate(OF_OLD_CARDS)
    assert architecture == Architecture(depth=110)
    assert architecture.image == (3, 32, 32)
    assert architecture.model_dump() == OF_OLD_CARDS
    assert architecture.model_dump_json() == json.dumps(OF_OLD_CARDS, separators=(",", ":"))


def test_options_are_written_where_they_differ_from_their_default() -> None:
    architecture = Architecture(name="vit", depth=2, width=64, patch=7, image=(1, 28, 28))
    assert architecture.options() == {"patch": 7, "image": (1, 28, 28)}
    written = architecture.model_dump_json()
    always = {"name": "vit", "depth": 2, "width": 64, "classes": 10}
    assert json.loads(written) == {**always, "image": [1, 28, 28], "patch": 7}
    assert Architecture.model_validate_json(written) == architecture


def test_every_architecture_is_built_and_says_where_it_was_published() -> None:
    names = get_args(ArchitectureName)
    depths = {"wide_resnet": 10, "vgg": 11, "vit": 1}
    described = [Architecture(name=name, depth=depths.get(name, 8), width=4 if name == "vit" else 1) for name in names]
    built = {type(build_architecture(architecture)).__name__ for architecture in described}
    assert len(built) == len(names) == 7
    assert list(REFERENCES) == list(names)
    for references in REFERENCES.values():
        assert references
        assert all(reference.startswith(("https://arxiv.org/abs/", "https://doi.org/")) for reference in references)


def test_every_option_reaches_the_network() -> None:
    assert build_architecture(Architecture(depth=8, image=(1, 28, 20))).pool.kernel_size == (7, 5)
    assert build_architecture(Architecture(depth=8, classes=3)).classifier.out_features == 3
    assert "norm1" not in dict(
        build_architecture(Architecture(name="vgg", depth=11, batch_norm=False)).stage1.named_children()
    )
    assert build_architecture(Architecture(name="mlp", depth=2, features=5)).hidden1.in_features == 5
    vit = build_architecture(Architecture(name="vit", depth=1, width=6, patch=8, heads=3))
    assert (vit.patches.kernel_size, vit.blocks[0].attention.scores.heads) == ((8, 8), 3)


def test_options_of_another_architecture_are_refused_all_at_once() -> None:
    architecture = Architecture(depth=8, patch=2, heads=2)
    with pytest.raises(
        ZooError,
        match=r"'cifar_resnet' does not take patch = 2, heads = 2; its options are depth, width, classes, image. Leave",
    ):
        build_architecture(architecture)


@pytest.mark.parametrize("wrong", [{"name": "resnet"}, {"deep": 3}, {"image": (3, 32)}, {"depth": None}])
def test_a_description_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Architecture.model_validate({"depth": 8, **wrong})


def test_describing_a_network_imports_no_torch() -> None:
    program = (
        "from outcrop_zoo.architectures import Architecture\nArchitecture(depth=8)\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", f"import sys\n{program}"], check=True, timeout=60)


def test_the_package_lists_what_it_offers_and_nothing_else() -> None:
    import outcrop_zoo.architectures as package

    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="'outcrop_zoo.architectures' has no attribute 'Resnet'"):
        package.Resnet  # noqa: B018 - the access is the test
