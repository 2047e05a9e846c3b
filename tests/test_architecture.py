"""The shape of the house: who may import whom, what stays light, and how long a module may be."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "core": ["outcrop"],
    "schemas": ["outcrop_schemas"],
    "plugins": sorted(path.name for path in (ROOT / "plugins").glob("outcrop_*")),
    "zoo": ["outcrop_zoo"],
}
MODULES = sorted(
    path
    for folder, packages in FOLDERS.items()
    for package in packages
    for path in (ROOT / folder / package).rglob("*.py")
)
PACKAGES = {package for packages in FOLDERS.values() for package in packages}
MAY_IMPORT = {
    "outcrop_schemas": {"outcrop_schemas"},
    "outcrop": {"outcrop", "outcrop_schemas"},
    **{package: {package, "outcrop", "outcrop_schemas"} for package in [*FOLDERS["plugins"], "outcrop_zoo"]},
}
LINES = 300

HEAVY = [
    "bokeh",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "scipy",
    "skimage",
    "sklearn",
    "timm",
    "torch",
    "torchvision",
    "transformers",
]
LIGHT_COMMANDS = {
    "import outcrop": ("import outcrop", [*HEAVY, "dask", "xarray", "zarr"]),
    "outcrop --help": ("import outcrop.cli.main; outcrop.cli.main.main()", [*HEAVY, "dask", "xarray", "zarr"]),
    "outcrop plugins": ("import outcrop.cli.main; outcrop.cli.main.main()", HEAVY),
    "outcrop schemas": ("import outcrop.cli.main; outcrop.cli.main.main()", HEAVY),
}


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[1]


def imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield (module, name or None) for every import of a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from ((str(node.module), alias.name) for alias in node.names)


def test_every_package_is_known() -> None:
    found = {path.parent.name for path in ROOT.glob("*/outcrop*/__init__.py")}
    assert found == PACKAGES
    assert len(MODULES) > 50


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_imports_follow_the_arrow_from_schemas_to_core_to_plugins(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in MODULES
        if package_of(path) == package
        for module, _ in imports(path)
        if module.partition(".")[0] in PACKAGES - MAY_IMPORT[package]
    ]
    assert wrong == []


def test_nothing_private_is_imported_from_another_module() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}.{name or ''}"
        for path in MODULES
        for module, name in imports(path)
        if module.partition(".")[0] in PACKAGES
        and any(part.startswith("_") and not part.startswith("__") for part in (*module.split("."), name or ""))
    ]
    assert wrong == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT)) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert silent == []


def test_no_module_is_longer_than_a_person_can_hold_in_mind() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {path: lines for path, lines in lengths.items() if lines > LINES} == {}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_every_package_says_that_it_is_typed(package: str) -> None:
    [folder] = [name for name, packages in FOLDERS.items() if package in packages]
    assert (ROOT / folder / package / "py.typed").is_file()


@pytest.mark.parametrize("command", sorted(LIGHT_COMMANDS))
def test_what_only_lists_imports_nothing_heavy(command: str) -> None:
    source, unwanted = LIGHT_COMMANDS[command]
    program = (
        "import json, sys\n"
        f"sys.argv = {command.split()!r}\n"
        f"try:\n    {source}\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('\\n' + json.dumps([name for name in {unwanted!r} if name in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
