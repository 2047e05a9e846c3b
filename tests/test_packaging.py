"""What is in the wheel: all that outcrop reads when it is installed, and nothing that only its makers need."""

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PLUGINS = ("blocks", "checkpoints", "components", "dominant", "probes")
SOURCES = {
    "outcrop": "core",
    **{f"outcrop_{plugin}": "plugins" for plugin in PLUGINS},
    "outcrop_zoo": "zoo",
    "outcrop_schemas": "schemas",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """The wheel, built by the project's own backend."""
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys; from hatchling import build; print(build.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return ZipFile(folder / done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def packed(wheel: ZipFile) -> set[str]:
    return set(wheel.namelist())


def read(wheel: ZipFile, name: str) -> str:
    [path] = [path for path in wheel.namelist() if PurePosixPath(path).match(f"*.dist-info/{name}")]
    return wheel.read(path).decode()


def test_every_module_and_every_file_that_a_module_reads_is_packed(packed: set[str]) -> None:
    wanted = {
        path.relative_to(ROOT / folder).as_posix()
        for package, folder in SOURCES.items()
        for path in (ROOT / folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path for path in packed if ".dist-info/" not in path} == wanted


@pytest.mark.parametrize("package", SOURCES)
def test_every_package_says_that_it_is_typed(packed: set[str], package: str) -> None:
    assert f"{package}/py.typed" in packed


@pytest.mark.parametrize(
    ("pattern", "least"),
    [
        ("outcrop/report/templates/*.html", 1),
        ("outcrop/report/templates/*.css", 1),
        ("outcrop_zoo/models/*.onnx", 4),
        ("outcrop_zoo/models/*.json", 4),
        ("outcrop_zoo/package_models/*.json", 2),
        ("outcrop_schemas/json/*.json", 3),
    ],
)
def test_what_is_read_at_run_time_is_packed(packed: set[str], pattern: str, least: int) -> None:
    found = {path for path in packed if PurePosixPath(path).match(pattern)}
    assert len(found) >= least


def test_every_bundled_model_has_its_card(packed: set[str]) -> None:
    models = {path.removesuffix(".onnx") for path in packed if path.endswith(".onnx")}
    assert models == {path.removesuffix(".json") for path in packed if path.startswith("outcrop_zoo/models/")} - {
        f"{model}.onnx" for model in models
    }


def test_no_test_and_no_folder_of_the_repository_is_packed(packed: set[str]) -> None:
    tops = {path.split("/")[0] for path in packed if ".dist-info/" not in path}
    assert tops == set(SOURCES)
    assert not [path for path in packed if "tests" in path.split("/") or "test_" in PurePosixPath(path).name]


def test_the_command_and_the_plugins_are_registered(wheel: ZipFile) -> None:
    entries = ConfigParser()
    entries.read_string(read(wheel, "entry_points.txt"))
    assert dict(entries["console_scripts"]) == {"outcrop": "outcrop.cli.main:main"}
    assert dict(entries["outcrop"]) == {name: f"outcrop_{name}.plugin" for name in (*PLUGINS, "zoo")}


def test_the_licence_goes_with_the_wheel(wheel: ZipFile) -> None:
    assert "License-Expression: Apache-2.0" in read(wheel, "METADATA")
    assert read(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text("utf-8")
