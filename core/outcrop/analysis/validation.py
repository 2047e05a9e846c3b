"""Hold results against the kinds that outcrop and its plugins declare."""

from typing import TYPE_CHECKING, Any

from outcrop.errors import SchemaError, StudyVersionError, did_you_mean
from outcrop.plugins import plugin_registry

if TYPE_CHECKING:
    import xarray as xr

    from outcrop_schemas import Kind


def known_kinds() -> "dict[str, Kind]":
    """Return all kinds by name: outcrop's own, then those of plugins."""
    return plugin_registry().schemas()


def json_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of a kind, for ``dataset.to_dict(data=False)``.

    Raises:
        SchemaError: The kind is unknown.
    """
    return find_kind(kind).json_schema()


def find_kind(name: object) -> "Kind":
    """Return a declared kind by its name.

    Raises:
        SchemaError: Neither outcrop nor a plugin declares it.
        PluginError: Two plugins declare it, or the plugin of that name is broken.
    """
    kinds = known_kinds()
    if not isinstance(name, str) or name not in kinds:
        plugin_registry().raise_if_broken("outcrop_schemas", str(name))
        raise SchemaError(
            f"No result kind {name!r} is declared.{did_you_mean(str(name), kinds)} Known: {', '.join(sorted(kinds))}; "
            f"install the plugin that declares it.{plugin_registry().hint('outcrop_schemas')}"
        )
    return kinds[name]


def validate_result(dataset: "xr.Dataset") -> None:
    """Check a dataset against the kind that its attribute ``kind`` names.

    Raises:
        SchemaError: The kind is unknown, or the dataset does not satisfy it; lists every problem.
        StudyVersionError: A newer outcrop wrote it.
    """
    import outcrop_schemas

    try:
        find_kind(dataset.attrs.get("kind")).validate(dataset)
    except outcrop_schemas.NewerVersionError as error:
        raise StudyVersionError(str(error)) from None
    except outcrop_schemas.SchemaError as error:
        raise SchemaError(str(error)) from None


def annotate_result(dataset: "xr.Dataset", kind: str) -> "xr.Dataset":
    """Return a dataset with the kind's name, version and CF attributes.

    Raises:
        SchemaError: The kind is unknown.
    """
    return find_kind(kind).annotate(dataset)


def upgrade_result(dataset: "xr.Dataset") -> "xr.Dataset":
    """Return a dataset in the form of its kind's present version, validated.

    Raises:
        SchemaError: The kind is unknown, no upgrade leads to it, or the dataset does not satisfy it.
        StudyVersionError: A newer outcrop wrote it.
    """
    import outcrop_schemas

    try:
        upgraded = find_kind(dataset.attrs.get("kind")).upgrade(dataset)
    except outcrop_schemas.SchemaError as error:
        raise SchemaError(str(error)) from None
    validate_result(upgraded)
    return upgraded
