"""How a training went, as a dataset and in a study."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import outcrop
from outcrop.errors import StudyError, StudyLockedError
from outcrop.plugins import plugin_registry
from outcrop_schemas import Kind, SchemaError
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training import MetricsStore, TrainingRun, store_metrics, train
from outcrop_zoo.training.data import RecipeData, load_recipe_data
from outcrop_zoo.training.storing import training_digest
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


class KilledError(Exception):
    pass


def test_metrics_are_in_the_study_while_the_training_goes_on(recipe: Recipe, data: RecipeData, tmp_path: Path) -> None:
    place = tmp_path / "study.zarr"
    store = MetricsStore(place, data.training_samples)

    def stored() -> list[list[int]]:
        with xr.open_datatree(place, engine="zarr") as tree:
            runs = tree["results/training"].children.values() if "/results/training" in tree.groups else ()
            return [run["training"]["epoch"].values.tolist() for run in runs]

    def kill(row: dict[str, float]) -> None:
        assert stored() == ([[1]] if row["epoch"] == 2 else [])
        if row["epoch"] == 2:
            raise KilledError

    checkpoint = tmp_path / "tiny.pt"
    longer = recipe.model_copy(update={"epochs": 3})
    with pytest.raises(KilledError):
        train(longer, data.train, checkpoint=checkpoint, on_epoch=kill, watch=store.watch, device="cpu")
    again = MetricsStore(place, data.training_samples)
    run = train(longer, data.train, checkpoint=checkpoint, watch=again.watch, device="cpu")
    assert stored() == [[1, 2, 3]]
    name = again.write(run)
    assert stored() == [[1, 2, 3]]
    # The same training begun anew does not take away what is known of it.
    first = train(longer, data.train, watch=MetricsStore(place, data.training_samples).watch, device="cpu")
    assert stored() == [[1, 2, 3]]
    assert store_metrics(first, place, data.training_samples) == name


def test_a_study_in_use_does_not_stop_a_training(run: TrainingRun, data: RecipeData, tmp_path: Path) -> None:
    store = MetricsStore(tmp_path / "study.zarr", data.training_samples)
    other = (
        "import sys, outcrop; study = outcrop.open(sys.argv[1], mode='a')\n"
        "with study.writing(): print('held', flush=True); sys.stdin.readline()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", other, str(tmp_path / "study.zarr")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"held"
        store.watch(run)
        with pytest.raises(StudyLockedError):
            store.write(run, wait=0)
    finally:
        holder.communicate(b"\n", timeout=60)
    with xr.open_datatree(tmp_path / "study.zarr", engine="zarr") as tree:
        assert "/results/training" not in tree.groups
    store.write(run)
    with xr.open_datatree(tmp_path / "study.zarr", engine="zarr") as tree:
        assert len(tree["results/training"].children) == 1


def test_a_study_that_was_opened_to_read_is_refused_before_the_training(data: RecipeData, tmp_path: Path) -> None:
    outcrop.open(tmp_path / "study.zarr", mode="a")
    with pytest.raises(StudyError, match="was opened to read; open it with mode='a' to add to it"):
        MetricsStore(outcrop.open(tmp_path / "study.zarr", mode="r"), data.training_samples)


def test_what_a_training_is_known_by_is_all_that_determines_it(run: TrainingRun, recipe: Recipe) -> None:
    shorter = replace(run, history=run.history[:1])
    assert training_digest(shorter) == training_digest(run)
    others = [
        replace(run, recipe=recipe.model_copy(update={"seed": 1})),
        replace(run, compiler="inductor"),
        replace(run, device="cuda"),
        replace(run, history=[{**row, "threads": row["threads"] + 1} for row in run.history]),
    ]
    assert len({training_digest(one) for one in (run, *others)}) == 5
