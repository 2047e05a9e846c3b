"""A kind of result: its declaration, and what can be done with it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from outcrop_schemas.declaration import Attribute, DeclarationError, Variable
from outcrop_schemas.json_schema import json_schema
from outcrop_schemas.problems import NewerVersionError, Problem, SchemaError
from outcrop_schemas.validation import find_problems
from outcrop_schemas.versions import parse_version

if TYPE_CHECKING:
    import xarray as xr

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")

Check = Callable[["xr.Dataset"], Iterable[Problem]]
"""What no single variable can say; runs only on datasets whose variables are as declared. Its docstring is its rule."""


@dataclass(frozen=True)
class Kind:
    """A kind of result, one :class:`xarray.Dataset` of a declared form.

    Attributes:
        name: Such as ``pairwise``; with a prefix for what a plugin extends: ``my_plugin.per_layer``.
        version: ``MAJOR.MINOR``.
        summary: One line.
        dims: Least size of every dimension.
        coords: Coordinates.
        variables: Data variables.
        attributes: Attributes of the dataset, beside ``kind`` and ``kind_version``. Others are free, if JSON can
            hold them.
        any_of: Names of optional variables of which at least one must be there; empty for no such demand.
        checks: Rules between variables.
        open: Whether undeclared variables and coordinates are allowed.
        upgrades: For every earlier major version, what makes the next one of it.
        references: Papers.
        base: Name of the kind that this one extends, or None.
    """

    name: str
    version: str
    summary: str
    dims: Mapping[str, int]
    coords: tuple[Variable, ...] = ()
    variables: tuple[Variable, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    any_of: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    open: bool = False
    upgrades: "Mapping[int, Callable[[xr.Dataset], xr.Dataset]]" = field(default_factory=dict)
    references: tuple[str, ...] = ()
    base: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise DeclarationError(f"A kind cannot be named {self.name!r}: use lower case, digits, '_' and '.'.")
        if parse_version(self.version) is None:
            raise DeclarationError(f"Kind {self.name!r} has version {self.version!r}; expected MAJOR.MINOR.")
        names = [variable.name for variable in (*self.coords, *self.variables)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DeclarationError(f"Kind {self.name!r} declares {', '.join(twice)} twice.")
        for variable in (*self.coords, *self.variables):
            foreign = [dim for dim in variable.dims if dim not in self.dims]
            if foreign:
                raise DeclarationError(
                    f"Kind {self.name!r} declares {variable.name!r} over {', '.join(foreign)}; "
                    f"its dims are {', '.join(self.dims)}."
                )
        unknown = sorted(set(self.any_of) - set(names))
        if unknown:
            raise DeclarationError(
                f"Kind {self.name!r} demands one of {', '.join(unknown)}, which it does not declare."
            )

    @property
    def major(self) -> int:
        """The major version."""
        return int(self.version.partition(".")[0])

    @property
    def minor(self) -> int:
        """The minor version."""
        return int(self.version.partition(".")[2])

    def validate(self, dataset: "xr.Dataset") -> None:
        """Check a dataset.

        Raises:
            NewerVersionError: A newer outcrop wrote it, with a major version unknown here.
            SchemaError: It does not satisfy the kind; lists every problem.
        """
        found = parse_version(dataset.attrs.get("kind_version"))
        if dataset.attrs.get("kind") == self.name and found is not None and found[0] > self.major:
            raise NewerVersionError(
                f"Kind {self.name!r} has version {dataset.attrs['kind_version']} here, written by a newer outcrop; "
                f"this one knows {self.version}. Update outcrop to read it."
            )
        problems = find_problems(dataset, self)
        if problems:
            count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            raise SchemaError(
                f"{count} in a result of kind {self.name!r} {self.version}: {'; '.join(map(str, problems))}.", problems
            )

    def annotate(self, dataset: "xr.Dataset") -> "xr.Dataset":
        """Return the dataset with kind, version and CF attributes; attributes already there stay."""
        annotated = dataset.copy(deep=False)
        annotated.attrs = {**self._described(), **dataset.attrs, "kind": self.name, "kind_version": self.version}
        for variable in (*self.coords, *self.variables):
            if variable.name in annotated.variables:
                array = annotated[variable.name]
                array.attrs = {**variable.described(), **array.attrs}
        return annotated

    def _described(self) -> dict[str, Any]:
        return {"references": " ".join(self.references)} if self.references else {}

    def upgrade(self, dataset: "xr.Dataset") -> "xr.Dataset":
        """Return a dataset of an earlier major version in the form of this one; others come back as they are.

        Raises:
            SchemaError: No upgrade is known for its version.
        """
        found = parse_version(dataset.attrs.get("kind_version"))
        if found is None or found[0] >= self.major:
            return dataset
        for major in range(found[0], self.major):
            if major not in self.upgrades:
                raise SchemaError(
                    f"Kind {self.name!r} has version {dataset.attrs['kind_version']} here; no upgrade leads from "
                    f"{major} to {major + 1}. Read it with an older outcrop."
                )
            dataset = self.upgrades[major](dataset)
        return dataset.assign_attrs(kind_version=self.version)

    def extend(
        self, name: str, variables: Sequence[Variable], *, version: str = "1.0", summary: str | None = None
    ) -> "Kind":
        """Return a kind that takes further optional variables.

        Args:
            name: A prefix, a dot and the name of this kind, ``my_plugin.per_layer``: figures find the base by it.
            variables: Declared as ``required=False`` unless every result has them.
            version: Of the extension.
            summary: One line; by default this kind's.

        Raises:
            DeclarationError: The name does not end in this kind's, or a variable is declared already.
        """
        if not name.endswith(f".{self.name}"):
            raise DeclarationError(f"An extension of {self.name!r} must be named '<plugin>.{self.name}'; got {name!r}.")
        return replace(
            self,
            name=name,
            version=version,
            summary=summary or self.summary,
            variables=(*self.variables, *variables),
            any_of=(*self.any_of, *(one.name for one in variables)) if self.any_of else (),
            upgrades={},
            base=self.base or self.name,
        )

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of ``dataset.to_dict(data=False)``."""
        return json_schema(self)
