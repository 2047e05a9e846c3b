"""Every accumulator passes the suite of accumulators."""

import importlib
import importlib.util
import inspect
from collections.abc import Iterable
from pathlib import Path

from outcrop import Accumulator
from outcrop.testing import AccumulatorTests

ROOT = Path(__file__).parents[1]
FOLDERS = [path for folder in ("core", "plugins", "zoo") for path in sorted((ROOT / folder).glob("outcrop*"))]


def subclasses(kind: type) -> set[type]:
    return {found for child in kind.__subclasses__() for found in {child, *subclasses(child)}}


def shipped() -> set[type]:
    """Return the accumulators of all packages."""
    for folder in FOLDERS:
        for path in folder.rglob("*.py"):
            # An accumulator's module says so; the others need not be imported.
            if "Accumulator" in path.read_text("utf-8"):
                importlib.import_module(".".join(path.relative_to(folder.parent).with_suffix("").parts))
    packages = {folder.name for folder in FOLDERS}
    return {
        found
        for found in subclasses(Accumulator)
        if found.__module__.partition(".")[0] in packages and not inspect.isabstract(found)
    }


def accumulators_of_suites(tests: Iterable[Path]) -> set[type]:
    """Return what the suites in these files are of."""
    found = set()
    for path in tests:
        spec = importlib.util.spec_from_file_location(f"suites_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for suite in vars(module).values():
            if isinstance(suite, type) and issubclass(suite, AccumulatorTests) and suite is not AccumulatorTests:
                found.add(type(suite().make()))
    return found


def suites() -> list[Path]:
    folders = [ROOT / "tests" / name for name in ("core", "plugins", "zoo")]
    files = [path for folder in folders for path in sorted(folder.rglob("test_*.py"))]
    # The tests of the kit itself hold suites that fail on purpose.
    return [
        file for file in files if "(AccumulatorTests)" in file.read_text("utf-8") and file.name != "test_testing.py"
    ]


def test_every_accumulator_has_a_suite() -> None:
    accumulators = shipped()
    assert accumulators
    without = accumulators - accumulators_of_suites(suites())
    assert sorted(f"{found.__module__}.{found.__qualname__}" for found in without) == []


def test_a_suite_counts_for_the_accumulator_that_it_makes_and_for_no_other(tmp_path: Path) -> None:
    file = tmp_path / "test_of_one.py"
    file.write_text(
        "from outcrop.testing import AccumulatorTests\n"
        "class Made: ...\n"
        "class Other: ...\n"
        "class TestMade(AccumulatorTests):\n"
        "    def make(self):\n"
        "        return Made()\n"
    )
    assert [found.__name__ for found in accumulators_of_suites([file])] == ["Made"]
