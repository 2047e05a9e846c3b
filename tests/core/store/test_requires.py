"""An analysis that builds on another's result."""

import json
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import ClassVar

import pytest
import xarray as xr

import outcrop
from outcrop.analysis.analysis import Analysis, Parameters
from outcrop.analysis.context import Context
from outcrop.errors import AnalysisError
from outcrop.store.study import Study
from outcrop.testing import ArrayModel, IndexData


class Building(Analysis):
    name = "building"
    summary = "Hands on what the analysis it requires found."
    version = "1"
    produces: ClassVar[Mapping[str, str]] = {"pairwise": "pairwise"}
    requires = ("blocks",)

    def run(self, context: Context, parameters: Parameters) -> xr.Dataset:
        return context.result("blocks", "pairwise").load()


class Asking(Building):
    name = "asking"
    requires = ()


class Circling(Building):
    name = "circling"
    requires = ("circling",)


@pytest.fixture(autouse=True)
def _plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    from outcrop.plugins import PluginRegistry

    module = ModuleType("building_plugin")
    analyses = [Building, Asking, Circling, Choosy, Above, Broken]
    module.outcrop_analyses = outcrop.hookimpl(specname="outcrop_analyses")(lambda: analyses)  # type: ignore[attr-defined] # made here
    monkeypatch.setitem(__import__("sys").modules, "building_plugin", module)
    entries = [
        EntryPoint("building", "building_plugin", "outcrop"),
        EntryPoint("blocks", "outcrop_blocks.plugin", "outcrop"),
    ]
    registry = PluginRegistry.load(entries)
    monkeypatch.setattr("outcrop.plugins.plugin_registry", lambda: registry)


def test_it_gets_the_result_of_its_own_models_and_not_the_newest(
    open_study: Callable[..., Study], make_model: Callable[..., ArrayModel], data: IndexData
) -> None:
    study = open_study()
    first, second = make_model("first", seed=0), make_model("second", seed=1)
    expected = study.run("blocks", models=[first], data=data)
    study.run("blocks", models=[second], data=data)
    built = study.run("building", models=[first], data=data)
    xr.testing.assert_equal(built["pairwise"].to_dataset(), expected["pairwise"].to_dataset())
    record = json.loads(built.attrs["provenance"])
    assert record["requires"] == {"blocks": json.loads(expected.attrs["provenance"])["run_id"]}


def test_what_it_requires_is_run_first(open_study: Callable[..., Study], model: ArrayModel, data: IndexData) -> None:
    study = open_study()
    study.run("building", models=[model], data=data)
    assert set(study.results.children) == {"blocks", "building"}


def test_asking_for_what_is_not_required_is_refused(
    open_study: Callable[..., Study], model: ArrayModel, data: IndexData
) -> None:
    with pytest.raises(AnalysisError, match="asks for a result of 'blocks' and does not require it; it requires none"):
        open_study().run("asking", models=[model], data=data)


def test_a_circle_is_refused(open_study: Callable[..., Study], model: ArrayModel, data: IndexData) -> None:
    with pytest.raises(AnalysisError, match="require each other in a circle: circling -> circling"):
        open_study().run("circling", models=[model], data=data)


class Choosy(Building):
    name = "choosy"
    checked: ClassVar[list[int]] = []

    def check(self, context: Context, parameters: Parameters) -> None:
        self.checked.append(context.sample_count)
        with pytest.raises(AnalysisError, match="asks for a result of 'blocks', which may not be computed yet"):
            context.result("blocks", "pairwise")
        if parameters.model_dump().get("broken"):
            raise ZeroDivisionError
        if context.sample_count < 1000:
            raise AnalysisError(f"Analysis 'choosy' needs 1000 samples; the data has {context.sample_count}.")


class Above(Building):
    name = "above"
    requires = ("blocks", "choosy")


class BrokenParameters(Parameters):
    broken: bool = True


class Broken(Choosy):
    name = "broken"
    parameters = BrokenParameters


@pytest.mark.parametrize("analysis", ["choosy", "above"])
def test_what_cannot_be_run_is_refused_before_what_it_requires_has_run(
    open_study: Callable[..., Study], model: ArrayModel, data: IndexData, analysis: str
) -> None:
    study = open_study()
    for ask in (study.check, study.run):
        with pytest.raises(AnalysisError, match=f"'choosy' needs 1000 samples; the data has {len(data)}"):
            ask(analysis, models=[model], data=data)
    assert not study.results.children


def test_a_check_computes_nothing_and_asks_each_analysis_once(
    open_study: Callable[..., Study], model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    Choosy.checked.clear()
    study.check("building", models=[model], data=data)
    with pytest.raises(AnalysisError, match="needs 1000 samples"):
        study.check("above", models=[model], data=data)
    assert Choosy.checked == [len(data)]
    assert not study.results.children
    assert not study.activations


def test_a_check_that_fails_says_whose_it_is(
    open_study: Callable[..., Study], model: ArrayModel, data: IndexData
) -> None:
    with pytest.raises(AnalysisError, match=r"Analysis 'broken' \(.*\) failed: ZeroDivisionError"):
        open_study().run("broken", models=[model], data=data)


def test_a_result_at_hand_is_not_checked_again_nor_what_it_requires(
    open_study: Callable[..., Study], model: ArrayModel, data: IndexData, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study()
    with monkeypatch.context() as patched:
        patched.setattr(Choosy, "check", Building.check)
        expected = study.run("choosy", models=[model], data=data)
    assert study.run("choosy", models=[model], data=data).identical(expected)
