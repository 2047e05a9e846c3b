"""The generated JSON Schema: committed, valid itself, and true of ``dataset.to_dict(data=False)``."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import xarray as xr

from outcrop_schemas import KINDS, Kind, Variable
from outcrop_schemas.__main__ import main
from outcrop_schemas.json_schema import FOLDER, schema_path, schema_text


def described(dataset: xr.Dataset) -> Any:
    # Tuples become the lists that JSON has.
    return json.loads(json.dumps(dataset.to_dict(data=False)))


def per_layer(dtype: object = object) -> xr.Dataset:
    dataset = xr.Dataset(
        {"pc_share": ("layer", [0.1, np.nan])},
        {
            "model": ("layer", np.array(["net", "net"], dtype)),
            "name": ("layer", np.array(["a", "b"], dtype)),
            "depth": ("layer", [0, 1]),
            "layer_kind": ("layer", np.array(["conv", "act"], dtype)),
        },
    )
    return KINDS["per_layer"].annotate(dataset)


def validator(kind: Kind) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(kind.json_schema())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_committed_schema_is_the_generated_one(kind: str) -> None:
    committed = schema_path(KINDS[kind]).read_text("utf-8")
    assert committed == schema_text(KINDS[kind]), "Run 'python -m outcrop_schemas'."


def test_no_schema_is_committed_that_no_kind_declares() -> None:
    assert set(FOLDER.glob("*.json")) == {schema_path(kind) for kind in KINDS.values()}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_schema_satisfies_the_meta_schema(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(KINDS[kind].json_schema())


@pytest.mark.parametrize("dtype", [object, np.str_, np.dtypes.StringDType()])
def test_a_valid_result_satisfies_its_schema(dtype: object) -> None:
    validator(KINDS["per_layer"]).validate(described(per_layer(dtype)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.drop_vars("depth"), "'depth' is a required property"),
        (lambda found: found.drop_vars("pc_share"), "is not valid under any of the given schemas"),
        (lambda found: found.assign(extra=1), "'extra' was unexpected"),
        (lambda found: found.assign(pc_share=("layer", [True, False])), "'bool' does not match"),
        (lambda found: found.isel(layer=slice(0, 0)), "0 is less than the minimum of 1"),
        (lambda found: found.assign_attrs(kind="other"), "'per_layer' was expected"),
        (lambda found: found.assign_attrs(kind_version="2.0"), "'2.0' is not one of"),
        (lambda found: found.assign_attrs(nested={"a": 1}), "is not of type 'string', 'number', 'boolean', 'array'"),
        (lambda found: found.expand_dims(step=2), r"\['layer'\] was expected"),
    ],
)
def test_an_invalid_result_does_not_satisfy_its_schema(change: Any, message: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=message):
        validator(KINDS["per_layer"]).validate(described(change(per_layer())))


def test_a_plugins_extension_has_a_schema_of_its_own() -> None:
    norm = Variable("mean_norm", ("layer",), "float", "mean Euclidean norm", "1", 0)
    schema = KINDS["per_layer"].extend("norms.per_layer", [norm]).json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["attrs"]["properties"]["kind"] == {"const": "norms.per_layer"}
    assert "mean_norm" in schema["properties"]["data_vars"]["properties"]


def test_the_command_writes_what_its_check_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--folder", str(tmp_path / "new")]
    assert main(["--check", *folder]) == 1
    assert main(folder) == 0
    assert main(["--check", *folder]) == 0
    (tmp_path / "new" / "blocks.1.json").write_text("{}")
    (tmp_path / "new" / "gone.1.json").write_text("{}")
    capsys.readouterr()
    assert main(["--check", *folder]) == 1
    message = capsys.readouterr().err
    assert "blocks.1.json" in message
    assert "gone.1.json (of no kind)" in message
    assert "pairwise" not in message
