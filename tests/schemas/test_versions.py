"""Versions and extensions of kinds."""

import numpy as np
import pytest
import xarray as xr

from outcrop_schemas import KINDS, Attribute, DeclarationError, Kind, NewerVersionError, SchemaError, Variable

FIRST = Kind("loss", "1.0", "Loss.", {"step": 1}, variables=(Variable("error", ("step",), "float", "loss"),))
THIRD = Kind(
    "loss",
    "3.1",
    "Loss.",
    {"step": 1},
    variables=(Variable("loss", ("step",), "float", "loss"),),
    attributes=(Attribute("reduction", "str", "how samples are pooled"),),
    upgrades={
        1: lambda found: found.rename(error="loss"),
        2: lambda found: found.assign_attrs(reduction="mean"),
    },
)


def losses() -> xr.Dataset:
    return FIRST.annotate(xr.Dataset({"error": ("step", np.array([2.0, 1.0]))}))


def test_an_older_major_version_goes_through_the_chain_of_upgrades() -> None:
    with pytest.raises(SchemaError, match=r"attrs/kind_version: expected '3\.\*', found '1\.0' \(upgrade it first\)"):
        THIRD.validate(losses())
    upgraded = THIRD.upgrade(losses())
    THIRD.validate(upgraded)
    assert upgraded.attrs == {"kind": "loss", "kind_version": "3.1", "reduction": "mean"}
    assert upgraded["loss"].values.tolist() == [2.0, 1.0]


def test_a_present_version_needs_no_upgrade() -> None:
    dataset = losses()
    assert FIRST.upgrade(dataset) is dataset


def test_a_missing_upgrade_is_named() -> None:
    kind = Kind("loss", "3.0", "Loss.", {"step": 1}, upgrades={1: THIRD.upgrades[1]})
    with pytest.raises(SchemaError, match=r"version 1\.0 here; no upgrade leads from 2 to 3\. Read it with an older"):
        kind.upgrade(losses().assign_attrs(kind_version="1.0"))


def test_a_newer_major_version_is_refused_as_written_by_a_newer_outcrop() -> None:
    with pytest.raises(NewerVersionError, match=r"version 2\.0 here, written by a newer outcrop; this one knows 1\.0"):
        FIRST.validate(losses().assign_attrs(kind_version="2.0"))


def test_a_newer_minor_version_may_hold_more() -> None:
    newer = losses().assign_attrs(kind_version="1.3").assign(accuracy=("step", [0.1, 0.9]))
    FIRST.validate(newer)
    with pytest.raises(SchemaError, match="data_vars/accuracy"):
        FIRST.validate(newer.assign_attrs(kind_version="1.0"))


@pytest.mark.parametrize("version", [None, "1", "one", "1.0.0", 1.0])
def test_something_that_is_not_a_version_is_refused(version: object) -> None:
    with pytest.raises(SchemaError, match=r"attrs/kind_version: expected 'MAJOR\.MINOR', found"):
        FIRST.validate(losses().assign_attrs(kind_version=version))


def test_an_open_kind_takes_more() -> None:
    kind = Kind("loss", "1.0", "Loss.", {"step": 1}, variables=FIRST.variables, open=True)
    kind.validate(losses().assign(accuracy=("step", [0.1, 0.9])))


def test_an_extension_takes_its_own_variables_and_those_of_its_base() -> None:
    norm = Variable("mean_norm", ("layer",), "float", "mean Euclidean norm", "1", 0)
    extended = KINDS["per_layer"].extend("norms.per_layer", [norm])
    coords = {"model": ["net"], "name": ["conv"], "depth": [0], "layer_kind": ["conv"]}
    dataset = xr.Dataset({"mean_norm": ("layer", [2.0])}, {name: ("layer", values) for name, values in coords.items()})
    extended.validate(extended.annotate(dataset))
    extended.validate(extended.annotate(dataset.assign(pc_share=("layer", [0.5]))))
    assert extended.base == "per_layer"
    with pytest.raises(SchemaError, match="data_vars/mean_norm: expected values of at least 0, found -2"):
        extended.validate(extended.annotate(-dataset))
    with pytest.raises(SchemaError, match="data_vars/mean_norm: expected only what kind 'per_layer' declares"):
        KINDS["per_layer"].validate(KINDS["per_layer"].annotate(dataset))


def test_an_extension_is_named_after_its_base() -> None:
    with pytest.raises(DeclarationError, match=r"must be named '<plugin>\.per_layer'; got 'norms'"):
        KINDS["per_layer"].extend("norms", [])


def test_an_extension_cannot_redeclare_a_variable() -> None:
    with pytest.raises(DeclarationError, match=r"Kind 'x\.per_layer' declares pc_share twice"):
        KINDS["per_layer"].extend("x.per_layer", [Variable("pc_share", ("layer",), "float", "share")])


def test_contradictory_kinds_are_refused_when_they_are_declared() -> None:
    with pytest.raises(DeclarationError, match="cannot be named 'Per Layer': use lower case"):
        Kind("Per Layer", "1.0", "", {})
    with pytest.raises(DeclarationError, match=r"has version '1'; expected MAJOR\.MINOR"):
        Kind("loss", "1", "", {})
    with pytest.raises(DeclarationError, match="declares 'error' over step; its dims are layer"):
        Kind("loss", "1.0", "", {"layer": 1}, variables=FIRST.variables)
    with pytest.raises(DeclarationError, match="demands one of accuracy, which it does not declare"):
        Kind("loss", "1.0", "", {"step": 1}, variables=FIRST.variables, any_of=("accuracy",))


def test_contradictory_variables_are_refused_when_they_are_declared() -> None:
    with pytest.raises(DeclarationError, match="is int, which cannot be nullable: only floats hold NaN"):
        Variable("count", (), "int", "count", nullable=True)
    with pytest.raises(DeclarationError, match="is str, which has no minimum or maximum"):
        Variable("name", (), "str", "name", minimum=0)
    with pytest.raises(DeclarationError, match="is int; only str lists its values"):
        Variable("count", (), "int", "count", values=("1",))
