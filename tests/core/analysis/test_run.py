from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import xarray as xr

from outcrop.analysis.analysis import Analysis, Parameters
from outcrop.analysis.context import Context
from outcrop.analysis.run import make_parameters, run_analysis
from outcrop.errors import AnalysisError, ParameterError, SchemaError


class Numbers(Parameters):
    count: int = 1
    share: float = 0.5


def per_layer(share: float = 0.5) -> xr.Dataset:
    coords = {
        "model": ("layer", np.array(["net"], dtype=object)),
        "name": ("layer", np.array(["a"], dtype=object)),
        "depth": ("layer", np.array([0])),
        "layer_kind": ("layer", np.array(["block"], dtype=object)),
    }
    return xr.Dataset({"pc_share": ("layer", np.array([share]))}, coords=coords)


class Returning(Analysis):
    name = "returning"
    summary = "Returns what the test asks for."
    version = "1"
    produces: ClassVar[Mapping[str, str]] = {"per_layer": "per_layer"}
    parameters = Numbers
    answer: ClassVar[Any]

    def run(self, context: Context, parameters: Parameters) -> Mapping[str, xr.Dataset] | xr.Dataset:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def run(answer: Any) -> dict[str, xr.Dataset]:
    Returning.answer = answer
    return run_analysis(Returning, Context([], sample_count=0), Numbers())


def test_text_from_the_command_line_is_converted_as_the_parameter_asks() -> None:
    parameters = make_parameters(Returning, {"count": "3", "share": "0.25"})
    assert parameters == Numbers(count=3, share=0.25)


def test_every_wrong_parameter_is_named_at_once() -> None:
    with pytest.raises(ParameterError) as caught:
        make_parameters(Returning, {"counts": "3", "share": "half"})
    assert "has no parameter 'counts'. Did you mean 'count'? It has count, share." in str(caught.value)
    assert "Parameter 'share' of 'returning': input should be a valid number" in str(caught.value)


def test_a_single_dataset_is_taken_for_the_single_leaf_and_stamped_with_its_kind() -> None:
    leaves = run(per_layer())
    assert list(leaves) == ["per_layer"]
    assert leaves["per_layer"].attrs["kind"] == "per_layer"
    assert leaves["per_layer"].attrs["kind_version"].count(".") == 1


def test_other_leaves_than_declared_are_refused() -> None:
    with pytest.raises(
        AnalysisError, match=r"'returning' \(module .*test_run\) returned pairwise; it declares per_layer"
    ):
        run({"pairwise": per_layer()})
    with pytest.raises(AnalysisError, match=r"'returning' \(.*\) returned nothing; it declares per_layer"):
        run({})


def test_an_optional_leaf_may_be_there_and_has_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Returning, "optional", {"more": "per_layer"})
    assert sorted(run({"per_layer": per_layer()})) == ["per_layer"]
    leaves = run({"per_layer": per_layer(), "more": per_layer()})
    assert leaves["more"].attrs["kind"] == "per_layer"
    with pytest.raises(AnalysisError, match="declares leaf 'more' as kind 'per_layer' and returned kind 'blocks'"):
        run({"per_layer": per_layer(), "more": per_layer().assign_attrs(kind="blocks")})
    with pytest.raises(AnalysisError, match="returned more; it declares per_layer"):
        run({"more": per_layer()})


def test_a_leaf_of_another_kind_than_declared_is_refused() -> None:
    with pytest.raises(AnalysisError, match="declares leaf 'per_layer' as kind 'per_layer' and returned kind 'blocks'"):
        run(per_layer().assign_attrs(kind="blocks"))


def test_a_leaf_that_breaks_its_kind_is_refused() -> None:
    with pytest.raises(SchemaError, match="pc_share"):
        run(per_layer(share=1.5))


def test_an_analysis_that_fails_is_named_and_its_error_is_the_cause() -> None:
    with pytest.raises(
        AnalysisError,
        match=r"Analysis 'returning' \(module .*test_run\) failed: ZeroDivisionError: division by zero "
        r"\(in .*test_run\.py, line \d+\)",
    ) as caught:
        run(ZeroDivisionError("division by zero"))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_analysis_of_a_plugin_is_named_with_its_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    from outcrop.plugins import plugin_registry

    blocks = plugin_registry().analysis("blocks")
    monkeypatch.setattr(blocks, "run", lambda *_: None)
    with pytest.raises(AnalysisError, match=r"Analysis 'blocks' \(plugin 'blocks' of outcrop\) returned None"):
        run_analysis(blocks, Context([], sample_count=0), blocks.parameters())


@pytest.mark.parametrize("error", [ParameterError("too few samples"), KeyboardInterrupt()])
def test_expected_errors_and_interruptions_of_an_analysis_pass_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        run(error)
    assert caught.value is error


def test_what_is_no_dataset_is_refused() -> None:
    with pytest.raises(AnalysisError, match=r"returned None; expected a dataset for each of per_layer"):
        run(None)
    with pytest.raises(AnalysisError, match=r"returned a list; expected a dataset for each of per_layer"):
        run([per_layer()])
    with pytest.raises(AnalysisError, match=r"returned a DataArray as leaf 'per_layer'; expected an xarray.Dataset"):
        run({"per_layer": per_layer()["pc_share"]})
