"""Results against declared kinds, as outcrop's own errors."""

import pytest
import xarray as xr

from outcrop.analysis.validation import (
    annotate_result,
    find_kind,
    json_schema,
    known_kinds,
    upgrade_result,
    validate_result,
)
from outcrop.errors import SchemaError, StudyVersionError


def counts() -> xr.Dataset:
    coords = {"model": ["net"], "name": ["conv"], "depth": [0], "layer_kind": ["conv"]}
    plain = xr.Dataset({"feature_count": ("layer", [8])}, {name: ("layer", found) for name, found in coords.items()})
    return annotate_result(plain, "per_layer")


def test_a_valid_result_passes() -> None:
    validate_result(counts())
    assert counts().attrs == {"kind": "per_layer", "kind_version": "1.2"}


def test_an_invalid_result_is_refused_in_one_line() -> None:
    with pytest.raises(
        SchemaError, match=r"^1 problem in a result of kind 'per_layer' 1\.2: coords/depth: .*found nothing\.$"
    ):
        validate_result(counts().drop_vars("depth"))


def test_a_result_of_a_newer_outcrop_is_refused() -> None:
    newer = counts().assign_attrs(kind_version="2.0")
    for read in (validate_result, upgrade_result):
        with pytest.raises(
            StudyVersionError, match=r"version 2\.0 here, written by a newer outcrop; this one knows 1\.2"
        ):
            read(newer)


def test_an_older_result_without_an_upgrade_is_refused() -> None:
    with pytest.raises(SchemaError, match="no upgrade leads from 0 to 1"):
        upgrade_result(counts().assign_attrs(kind_version="0.9"))


def test_a_present_result_comes_back_as_it_is() -> None:
    xr.testing.assert_identical(upgrade_result(counts()), counts())
    with pytest.raises(SchemaError, match="coords/depth"):
        upgrade_result(counts().drop_vars("depth"))


@pytest.mark.parametrize("name", ["per_layers", None])
def test_an_unknown_kind_is_refused_with_the_known_ones(name: str | None) -> None:
    with pytest.raises(
        SchemaError, match=rf"No result kind {name!r} is declared\..* Known: .*blocks, .*pairwise, per_layer"
    ):
        validate_result(counts().assign_attrs(kind=name))


def test_every_known_kind_has_a_schema() -> None:
    assert set(known_kinds()) >= {"blocks", "pairwise", "per_layer"}
    assert json_schema("blocks")["title"] == f"blocks {find_kind('blocks').version}"
