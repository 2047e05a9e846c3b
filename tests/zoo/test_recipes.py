import hashlib
import subprocess
import sys

import pytest
from pydantic import ValidationError
from torch import nn

from outcrop_zoo.architectures import build_architecture
from outcrop_zoo.recipes import Architecture, Recipe, recipes
from outcrop_zoo.training.setup import make_network


def test_recipes_are_found_by_the_name_of_the_model_they_make() -> None:
    assert all(name == recipe.name for name, recipe in recipes().items())
    assert {"resnet14-patches-seed0", "resnet110-patches-seed1", "resnet8-patches-quick"} <= recipes().keys()


def test_members_of_a_family_differ_by_seed_depth_or_width_only() -> None:
    def shared(recipe: Recipe) -> dict[str, object]:
        values = recipe.model_dump(exclude={"name", "seed"})
        values["architecture"] = {
            key: value for key, value in values["architecture"].items() if key not in {"depth", "width"}
        }
        return values

    families: dict[str, list[dict[str, object]]] = {}
    for recipe in recipes().values():
        families.setdefault(recipe.family, []).append(shared(recipe))
    assert len(families["resnet-patches"]) == 4
    assert len(families["resnet-cifar10"]) == 3 * 3 + 4 * 2 + 2 * 3
    assert all(member == members[0] for members in families.values() for member in members)


def test_the_plain_cifar_recipes_are_those_that_the_networks_were_trained_by() -> None:
    for name, depth, width, seed in (
        ("resnet110-cifar10-seed0", 110, 1, 0),
        ("resnet14-cifar10-seed2", 14, 1, 2),
        ("resnet8x4-cifar10-seed1", 8, 4, 1),
    ):
        assert recipes()[name] == Recipe(
            name=name,
            family="resnet-cifar10",
            architecture=Architecture(depth=depth, width=width),
            data="cifar10-jpeg",
            seed=seed,
            epochs=100,
        )


def test_interventions_name_models_of_the_zoo() -> None:
    named = {
        model
        for recipe in recipes().values()
        for one in recipe.interventions
        if (model := getattr(one, "model", None)) is not None
    }
    assert named <= recipes().keys()
    assert named == {"resnet110-patches-seed0", "resnet14-cifar10-seed0", "resnet14-cifar10-seed2"}


def test_every_recipe_can_be_built_as_a_network_and_its_interventions() -> None:
    def load_network(name: str) -> nn.Module:
        return build_architecture(recipes()[name].architecture)

    for family in {recipe.family: recipe for recipe in recipes().values()}.values():
        network, interventions = make_network(family, load_network)
        assert len(interventions) == len(family.interventions)
        assert any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection": "held_out"}, "selection 'held_out' needs held-out images; set held_out_per_class"),
        ({"held_out_per_class": 3, "images_per_class": None}, "are those after images_per_class of each class; set im"),
        ({"snapshots": (3, 2)}, r"snapshots must be increasing steps, 0 or above; got \(3, 2\)"),
        ({"snapshots": (-1,)}, r"snapshots must be increasing steps, 0 or above; got \(-1,\)"),
        ({"order_seed": 0}, "order_seed 0 is the seed itself; choose another, or leave it out"),
        ({"shared_epochs": 1}, "shared_epochs 1 without order_seed: nothing parts; set order_seed"),
        ({"order_seed": 1, "shared_epochs": 2}, "shared_epochs 2 of 2 epochs leave none to part in"),
        ({"crop_padding": 32}, r"crop_padding 32 reflects more than the image of \(32, 32\) pixels has; choose less"),
        ({"name": "../elsewhere"}, "the name '../elsewhere' is no name of a file; use letters, digits"),
        ({"name": "tiny@3"}, "the name 'tiny@3' is no name of a file; use letters, digits"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"seed": 2**32}, "less than 4294967296"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"learning_rate": float("nan")}, "greater than 0|finite"),
        ({"momentum": 1}, "less than 1"),
        ({"weight_decay": -1e-3}, "greater than or equal to 0"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(changes: dict[str, object], message: str) -> None:
    values = recipes()["resnet8-patches-quick"].model_dump()
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate({**values, **changes})


def test_recipes_import_no_torch() -> None:
    code = (
        "import sys; from outcrop_zoo.recipes import recipes; recipes(); print(*{'torch', 'onnx'} & sys.modules.keys())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ""


def test_a_recipe_survives_its_json() -> None:
    for recipe in recipes().values():
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_a_recipe_cannot_be_changed_and_has_no_unknown_fields() -> None:
    recipe = recipes()["resnet8-patches-quick"]
    with pytest.raises(ValidationError, match="frozen"):
        recipe.epochs = 3  # type: ignore[misc] # the point of the test
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Recipe.model_validate({**recipe.model_dump(), "epoch": 3})


def test_a_recipe_without_epochs_is_refused() -> None:
    values = recipes()["resnet8-patches-quick"].model_dump()
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Recipe.model_validate({**values, "epochs": 0})


DIGESTS = {
    "resnet14-patches-seed0": "2777de11fa1e",
    "resnet8-patches-quick": "d037c5f2c4fd",
    "resnet110-cifar10-seed0": "ce7ca605daac",
    "resnet8x4-cifar10-seed1": "18bfe036c04c",
    "resnet110-cifar10-regularised-seed0": "29d9f1c6fe8e",
    "resnet110-cifar10-batch16-seed0": "b708c3aa2cc2",
}
"""Of the JSON that cards and checkpoints of these recipes hold."""


def test_the_json_of_a_recipe_is_what_it_was_when_its_network_was_trained() -> None:
    for name, digest in DIGESTS.items():
        assert hashlib.sha256(recipes()[name].model_dump_json().encode()).hexdigest()[:12] == digest, name


def test_another_order_is_written_where_it_is_set_only() -> None:
    plain, reordered = (recipes()[f"resnet14-cifar10-{name}seed0"] for name in ("", "reordered10-"))
    assert not {"order_seed", "shared_epochs"} & plain.model_dump().keys()
    assert {"order_seed": 1, "shared_epochs": 10}.items() <= reordered.model_dump().items()
    assert [reordered.training_seed(epoch) for epoch in (0, 9, 10, 99)] == [0, 0, 1, 1]
    assert {plain.training_seed(epoch) for epoch in range(100)} == {0}
    changes = {name: getattr(plain, name) for name in ("name", "family", "order_seed", "shared_epochs")}
    assert reordered.model_copy(update=changes) == plain


def test_a_rotated_network_is_kept_before_it_is_trained_too() -> None:
    rotated = [recipe for name, recipe in recipes().items() if "-rotated-" in name]
    assert [recipe.snapshots for recipe in rotated] == [(0,), (0,)]


def test_families_whose_seeds_are_compared_have_three() -> None:
    seeds: dict[tuple[str, int], set[int]] = {}
    for recipe in recipes().values():
        seeds.setdefault((recipe.family, recipe.architecture.depth), set()).add(recipe.seed)
    for family in ("resnet-cifar10", "resnet-cifar10-regularised", "resnet-cifar10-pretrained", "shakeshake-cifar10"):
        assert seeds[family, 110] == {0, 1, 2}
