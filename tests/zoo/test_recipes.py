import pytest
from pydantic import ValidationError

from outcrop_zoo.recipes import Recipe, recipes


def test_recipes_are_found_by_the_name_of_the_model_they_make() -> None:
    assert all(name == recipe.name for name, recipe in recipes().items())
    assert {"resnet14-patches-seed0", "resnet110-patches-seed1", "resnet8-patches-quick"} <= recipes().keys()


def test_members_of_a_family_differ_by_seed_depth_or_width_only() -> None:
    def shared(recipe: Recipe) -> dict[str, object]:
        values = recipe.model_dump(exclude={"name", "seed"})
        values["architecture"] = {key: values["architecture"][key] for key in ("name", "classes")}
        return values

    members = [shared(recipe) for recipe in recipes().values() if recipe.family == "resnet-patches"]
    assert len(members) == 4
    assert all(member == members[0] for member in members)


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
