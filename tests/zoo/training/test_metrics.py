"""How a training went, as a dataset and in a study."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import outcrop
from outcrop.plugins import plugin_registry
from outcrop_schemas import Kind, SchemaError
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training import TrainingRun, store_metrics, train
from outcrop_zoo.training.data import RecipeData, load_recipe_data
from outcrop_zoo.training_kind import TRAINING


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Recipe) -> Recipe:
    return tiny_recipe.model_copy(update={"held_out_per_class": 2})


@pytest.fixture(scope="module")
def data(recipe: Recipe) -> RecipeData:
    return load_recipe_data(recipe)


@pytest.fixture(scope="module")
def run(recipe: Recipe, data: RecipeData) -> TrainingRun:
    return train(recipe, data.train, held_out=data.held_out, device="cpu")


@pytest.fixture
def _declared(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = plugin_registry()
    kinds: dict[str, Kind] = registry.schemas()
    monkeypatch.setattr(registry, "schemas", lambda: {**kinds, "training": TRAINING})


def test_metrics_hold_the_history(run: TrainingRun, recipe: Recipe) -> None:
    metrics = run.metrics()
    assert dict(metrics.sizes) == {"epoch": 2}
    assert set(metrics.data_vars) == {"loss", "train_accuracy", "held_out_accuracy", "learning_rate", "seconds"}
    assert metrics["step"].values.tolist() == [3, 6]
    assert metrics["seconds"].attrs["units"] == "s"
    for name in metrics.data_vars:
        np.testing.assert_array_equal(metrics[name].values, [row[str(name)] for row in run.history])
    assert Recipe.model_validate_json(metrics.attrs["recipe"]) == recipe
    TRAINING.validate(metrics)


def test_metrics_that_go_back_are_refused(run: TrainingRun) -> None:
    with pytest.raises(SchemaError, match="epochs that increase, found 1 that do not"):
        TRAINING.validate(run.metrics().isel(epoch=[1, 0]))


@pytest.mark.usefixtures("_declared")
def test_metrics_are_a_result_of_a_study(run: TrainingRun, data: RecipeData, tmp_path: Path) -> None:
    name = store_metrics(run, tmp_path / "study.zarr", data.training_samples)
    study = outcrop.open(tmp_path / "study.zarr")
    found = study.result("training", name)["training"].to_dataset()
    expected = run.metrics()
    xr.testing.assert_equal(found, expected[sorted(map(str, expected.data_vars))])
    assert found.attrs == expected.attrs
    assert [node.attrs["name"] for node in study.data.children.values()] == ["patches-fit"]


@pytest.mark.usefixtures("_declared")
def test_a_training_is_stored_once_and_another_one_beside_it(
    run: TrainingRun, data: RecipeData, recipe: Recipe, tmp_path: Path
) -> None:
    study = outcrop.open(tmp_path / "study.zarr", mode="a")
    first = store_metrics(run, study, data.training_samples)
    assert store_metrics(run, study, data.training_samples) == first
    other = train(recipe.model_copy(update={"seed": 1, "epochs": 1}), data.train, device="cpu")
    assert store_metrics(other, study, data.training_samples) != first
    assert len(study.results["training"].children) == 2


def test_metrics_are_read_without_outcrop(run: TrainingRun, data: RecipeData, tmp_path: Path) -> None:
    name = store_metrics(run, tmp_path / "study.zarr", data.training_samples)
    with xr.open_datatree(tmp_path / "study.zarr", engine="zarr") as tree:
        np.testing.assert_array_equal(tree[f"results/training/{name}/training"]["loss"], run.metrics()["loss"])
