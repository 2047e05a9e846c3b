import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import outcrop

Command = Callable[..., "object"]

TIMM = "timm:test_resnet?pretrained=false"


def test_a_users_folder_and_onnx_file_are_analysed_together(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path
) -> None:
    study = tmp_path / "s.zarr"
    answer = outcrop_command(
        "run", "blocks", "--model", TIMM, "--model", f"onnx:{onnx_file}", "--data", photos, "--study", study
    )
    assert answer.code == 0, answer.err
    assert answer.err.count("Warning: Model 'net' does not say how its images are to be preprocessed; assumed: ") == 1
    assert "'test_resnet' does not say" not in answer.err
    assert "blocks of test_resnet, net on 12 samples of photos" in answer.out
    assert f"Study: {study}" in answer.out
    assert "kept in the study" in answer.out
    tree = xr.open_datatree(study, engine="zarr")
    captures = tree["activations"].children
    assert len(captures) == 2
    values = [node["values"] for node in tree["activations"].subtree if "values" in node.data_vars]
    assert all(layer.load().notnull().all() for layer in values)
    (run,) = tree["results/blocks"].children.values()
    assert set(run.children) == {"blocks", "pairwise", "per_layer"}
    assert set(run["pairwise"]["model_a"].load().values.tolist()) == {"test_resnet", "net"}

    again = outcrop_command(
        "run", "blocks", "--model", TIMM, "--model", f"onnx:{onnx_file}", "--data", photos, "--study", study, "--json"
    )
    record = json.loads(again.out)
    matrix = np.array(record["leaves"]["pairwise"]["similarity"], dtype=float)
    np.testing.assert_array_equal(matrix, run["pairwise"]["similarity"].load().values)
    assert matrix.shape == (len(values), len(values))
    assert [model["name"] for model in record["provenance"]["models"]] == ["test_resnet", "net"]

    listed = json.loads(outcrop_command("results", study, "--json").out)
    assert [run["analysis"] for run in listed["results"]] == ["blocks"]
    assert sorted(capture["model"] for capture in listed["captures"]) == ["net", "test_resnet"]
    shown = outcrop_command("results", study, "blocks")
    assert "test_resnet" in shown.out
    report = tmp_path / "s.html"
    assert outcrop_command("report", study, "-o", report).out == f"Report: {report}\n"
    assert "test_resnet" in report.read_text()


def test_activations_are_not_kept_when_not_wanted(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path
) -> None:
    study = tmp_path / "s.zarr"
    arguments = ("run", "blocks", "--model", f"onnx:{onnx_file}", "--data", photos, "--study", study)
    answer = outcrop_command(*arguments, "--keep-activations", "never")
    assert answer.code == 0, answer.err
    assert "streamed and not kept" in answer.out
    assert "activations" not in xr.open_datatree(study, engine="zarr").children


def test_capture_stores_what_was_selected_and_says_where(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path
) -> None:
    study = tmp_path / "s.zarr"
    answer = outcrop_command("capture", "--model", f"mine={onnx_file}", "--data", photos, "--study", study, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["captures"][0] | {"size": ""} == {
        "model": "mine",
        "layers": 5,
        "samples": 12,
        "size": "",
    }
    assert (
        f"Study: {study}"
        in outcrop_command("capture", "--model", f"mine={onnx_file}", "--data", photos, "--study", study).out
    )


def test_layers_are_listed_with_kinds_shapes_and_bytes(outcrop_command: Command, onnx_file: Path) -> None:
    listed = json.loads(outcrop_command("layers", f"onnx:{onnx_file}", "--json").out)
    rows = {row["name"]: row for row in listed["layers"]}
    assert rows["block0_conv"]["kind"] == "conv"
    assert rows["block0_relu"]["kind"] == "block"
    assert rows["block0_relu"]["bytes_per_sample"] == 4 * 16 * 16 * 4
    table = outcrop_command("layers", f"onnx:{onnx_file}", "--layers", "block").out
    assert "5 of 18 layers of net, 20.5 kB per sample" in table


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("layers", "timm:resnet81"), "Did you mean 'resnet18'"),
        (("layers", "tim:resnet18"), "Did you mean 'timm'"),
        (("layers", "zoo:resnet14-patches-sed0"), "Did you mean 'resnet14-patches-seed0'"),
        (("layers", "{onnx}", "--layers", "block0_rel"), "Did you mean 'block0_relu'"),
        (("run", "block", "--model", "{onnx}", "--data", "{photos}", "--study", "{new}"), "Did you mean 'blocks'"),
        (("run", "blocks", "--model", "{onnx}", "--data", "{empty}", "--study", "{new}"), "no image"),
        (("run", "blocks", "--model", "{onnx}", "--data", "{photos}x", "--study", "{new}"), "Did you mean"),
        (("run", "blocks", "--model", "{text}", "--data", "{photos}", "--study", "{new}"), "is not an ONNX model"),
        (
            ("run", "blocks", "--model", "{onnx}", "--data", "{wide}", "--study", "{new}"),
            "of shape (3, 16, 16) per sample",
        ),
        (
            ("run", "blocks", "-p", "passes", "--model", "{onnx}", "--data", "{photos}", "--study", "{new}"),
            "name=value",
        ),
        (
            ("run", "blocks", "-p", "pases=2", "--model", "{onnx}", "--data", "{photos}", "--study", "{new}"),
            "Did you mean 'passes'",
        ),
        (
            ("capture", "--model", "{onnx}", "--data", "{photos}", "--study", "{new}", "--layers", "stem_ou"),
            "Did you mean 'stem_out'",
        ),
        (
            (
                *("run", "blocks", "--model", "{onnx}", "--model", "b={onnx}", "--model", "a=timm:test_resnet?seed=1"),
                *("--layers", "stem_out", "--data", "{photos}", "--study", "{new}"),
            ),
            "Model 'a' has no layer 'stem_out'",
        ),
        (
            ("run", "blocks", "--model", "{onnx}", "--model", "net={onnx}", "--data", "{photos}", "--study", "{new}"),
            "Two models are called 'net'; give one another name",
        ),
        (("capture", "--model", "={onnx}", "--data", "{photos}", "--study", "{new}"), "has an empty name before '='"),
        (
            ("capture", "--model", "a/b={onnx}", "--data", "{photos}", "--study", "{new}"),
            "and if 'a/b' in --model 'a/b=",
        ),
        (
            ("capture", "--model", "a/b=c/net.onnx", "--data", "{photos}", "--study", "{new}"),
            "There is no file 'a/b=c/net.onnx'; and if 'a/b' in",
        ),
        (("results", "{new}"), "No study at"),
        (("report", "{new}"), "No study at"),
        (("schemas", "pairwize"), "Did you mean 'pairwise'"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_one(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    places = {"onnx": onnx_file, "photos": photos, "new": tmp_path / "new.zarr"}
    places |= {"empty": tmp_path / "empty", "text": tmp_path / "text.onnx", "wide": tmp_path / "wide.npy"}
    places["empty"].mkdir()
    places["text"].write_text("not a graph")
    np.save(places["wide"], np.zeros((6, 3, 20, 20), dtype=np.float32))
    answer = outcrop_command(*(argument.format(**places) for argument in arguments))
    assert answer.code == 1
    assert answer.out == ""
    lines = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert answer.err.splitlines()[-1] == lines[0]
    assert words in lines[0]
    assert not places["new"].exists()


def test_an_unreadable_image_is_named_counted_and_skipped_or_refused(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path
) -> None:
    (photos / "cats" / "broken.png").write_bytes(b"\x89PNG nothing else")
    study = tmp_path / "s.zarr"
    arguments = ("run", "blocks", "--model", onnx_file, "--data", photos, "--study", study)
    skipped = outcrop_command(*arguments)
    assert skipped.code == 0
    assert "Warning: " in skipped.err
    assert "broken.png" in skipped.err
    assert "on 12 samples" in skipped.out
    refused = outcrop_command(*arguments, "--strict")
    assert refused.code == 1
    assert "broken.png" in refused.err
    assert len(xr.open_datatree(study, engine="zarr")["results/blocks"].children) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "needs at least 20 samples"),
        (
            ("-p", "reference=nosuch", "-p", "top_fraction=0.5", "-p", "fractions=0.1"),
            "matches 'nosuch', the reference",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_activations_are_stored(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    study = tmp_path / "s.zarr"
    answer = outcrop_command("run", "dominant", "--model", onnx_file, "--data", photos, "--study", study, *arguments)
    assert (answer.code, answer.out) == (1, "")
    assert words in answer.err.splitlines()[-1]
    assert not outcrop.open(study, mode="r").activations


def test_a_failing_run_leaves_what_was_stored(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path
) -> None:
    study = tmp_path / "s.zarr"
    assert outcrop_command("capture", "--model", onnx_file, "--data", photos, "--study", study).code == 0
    before = xr.open_datatree(study, engine="zarr").load()
    answer = outcrop_command(
        "capture", "--model", onnx_file, "--data", photos, "--study", study, "--layers", "nothing*"
    )
    assert answer.code == 1
    assert "No layer of model 'net' matches 'nothing*'" in answer.err
    xr.testing.assert_identical(xr.open_datatree(study, engine="zarr").load(), before)


def test_a_study_of_a_newer_version_is_refused_in_one_line(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path
) -> None:
    import zarr

    study = tmp_path / "s.zarr"
    arguments = ("run", "blocks", "--model", onnx_file, "--data", photos, "--study", study)
    assert outcrop_command(*arguments).code == 0
    root = zarr.open_group(study, mode="r+", use_consolidated=False)
    run = next(iter(root["results/blocks"].group_keys()))
    root[f"results/blocks/{run}/blocks"].attrs["kind_version"] = "7.0"
    for command in ("results", "report"):
        answer = outcrop_command(command, study)
        assert (answer.code, answer.out) == (1, "")
        assert answer.err.startswith("Error: ")
        assert "newer outcrop" in answer.err
        assert len(answer.err.splitlines()) == 1
    root.attrs["outcrop_format"] = "2.0"
    answer = outcrop_command(*arguments)
    assert (answer.code, answer.out) == (1, "")
    assert "has format 2.0, written by a newer outcrop" in answer.err
    assert xr.open_datatree(study, engine="zarr", consolidated=False)["activations"].children


@pytest.mark.parametrize("place", ["{text}/s.zarr", "/proc/s.zarr"])
def test_a_study_that_the_system_refuses_is_one_line(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file.txt").touch()
    study = place.format(text=tmp_path / "file.txt")
    for command in (("run", "blocks"), ("capture",)):
        answer = outcrop_command(*command, "--model", onnx_file, "--data", photos, "--study", study)
        assert (answer.code, answer.out) == (1, "")
        [line] = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
        assert study in line or Path(study).parent.as_posix() in line


def test_errors_of_the_system_at_a_users_path_are_one_line(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path
) -> None:
    study = tmp_path / "s.zarr"
    assert outcrop_command("run", "blocks", "--model", onnx_file, "--data", photos, "--study", study).code == 0
    (tmp_path / "file.txt").touch()
    answer = outcrop_command("report", study, "-o", tmp_path / "file.txt" / "s.html")
    assert answer.code == 1
    assert len(answer.err.splitlines()) == 1
    assert answer.err.startswith("Error: ")
    assert "file.txt" in answer.err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "No space left on device."),
        (PermissionError(13, "Permission denied", "/a/s.zarr"), "Permission denied: /a/s.zarr"),
        (OSError(18, "Invalid cross-device link", "a", None, "b"), "Invalid cross-device link: a -> b"),
        (OSError("the bucket is gone"), "OSError: the bucket is gone"),
    ],
)
def test_every_error_of_the_system_says_what_and_where(
    outcrop_command: Command, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("outcrop.open", fail)
    answer = outcrop_command("results", "s.zarr")
    assert (answer.code, answer.out, answer.err) == (1, "", f"Error: {words}\n")


def test_a_failing_analysis_is_one_line_that_names_it_and_its_error(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outcrop.plugins import plugin_registry

    def fail(*_: object) -> None:
        raise ZeroDivisionError("no samples\nat all")

    monkeypatch.setattr(plugin_registry().analysis("blocks"), "run", fail)
    answer = outcrop_command("run", "blocks", "--model", onnx_file, "--data", photos, "--study", tmp_path / "s.zarr")
    assert answer.code == 1
    assert answer.err.splitlines()[-1].startswith(
        "Error: Analysis 'blocks' (plugin 'blocks' of outcrop) failed: ZeroDivisionError: no samples at all (in "
    )


def test_activations_are_kept_when_asked_for_however_large(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outcrop.store.planning.space.AUTOMATIC_BYTES", 10)
    arguments = ("run", "blocks", "--model", onnx_file, "--data", photos, "--study")
    answer = outcrop_command(*arguments, tmp_path / "auto.zarr")
    assert "streamed and not kept (--keep-activations always keeps them)" in answer.out
    assert "activations" not in xr.open_datatree(tmp_path / "auto.zarr", engine="zarr").children
    answer = outcrop_command(*arguments, tmp_path / "always.zarr", "--keep-activations", "always")
    assert "kept in the study" in answer.out
    (capture,) = xr.open_datatree(tmp_path / "always.zarr", engine="zarr")["activations"].children.values()
    assert len([node for node in capture.subtree if "values" in node.data_vars]) == 18


def test_a_report_goes_to_the_current_folder_and_never_into_the_study(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "deep" / "g.zarr"
    arguments = ("run", "blocks", "--model", onnx_file, "--data", photos, "--study", study)
    assert outcrop_command(*arguments).code == 0
    monkeypatch.chdir(tmp_path)
    assert outcrop_command("report", "deep/g.zarr/").out == "Report: g.html\n"
    assert (tmp_path / "g.html").exists()
    assert "STUDY.html in the current folder" in " ".join(outcrop_command("report", "--help").out.split())
    monkeypatch.chdir(study)
    refused = outcrop_command("report", ".")
    assert refused.code == 2
    assert "The current folder lies in the study; say where the report goes: -o FILE." in refused.err
    assert outcrop_command("report", ".", "-o", "../beside.html").code == 0
    assert not list(study.glob("*.html"))
    assert "<title>g" in (study.parent / "beside.html").read_text("utf-8")


def test_a_negative_seed_is_wrong_usage(outcrop_command: Command, photos: Path, onnx_file: Path) -> None:
    arguments = ("run", "blocks", "--model", onnx_file, "--data", photos, "--study", "s.zarr", "--seed", "-1")
    answer = outcrop_command(*arguments)
    assert answer.code == 2
    assert "Invalid value for '--seed': -1 is not in the range x>=0." in answer.err


def test_wrong_usage_exits_with_two_and_suggests(outcrop_command: Command) -> None:
    answer = outcrop_command("reslts")
    assert answer.code == 2
    assert "Did you mean 'results'" in answer.err


def test_schemas_lists_kinds_and_prints_one(outcrop_command: Command) -> None:
    assert "pairwise" in outcrop_command("schemas").out
    assert {row["kind"] for row in json.loads(outcrop_command("schemas", "--json").out)} >= {"pairwise", "blocks"}
    assert json.loads(outcrop_command("schemas", "blocks").out)["type"] == "object"


def test_plugins_lists_what_they_offer(outcrop_command: Command) -> None:
    listed = json.loads(outcrop_command("plugins", "--json").out)
    assert {"blocks", "zoo"} <= {row["name"] for row in listed["plugins"]}
    assert "blocks" in {row["name"] for row in listed["analyses"]}
    printed = outcrop_command("plugins").out
    lines = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    offered = "model sources: zoo; data sources: zoo; figures: training; schemas: training; commands: zoo, demo"
    assert offered in lines["zoo"]
    assert re.search(r"stimuli: solid, named, (\w+, ){5}\w+ and \d+ more\n", printed)
    assert "Broken" not in lines


def test_plugins_says_which_are_broken_and_why_and_their_names_take_nothing_from_outcrop(
    outcrop_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import EntryPoint

    from outcrop.plugins import PluginRegistry

    source = "import click\nfrom outcrop import hookimpl\n@hookimpl\ndef outcrop_commands():\n"
    source += "    return [click.Command(name, help='Of a plugin.') for name in ('run', {!r})]\n"
    (tmp_path / "greedy_one.py").write_text(source.format("mine"))
    (tmp_path / "greedy_two.py").write_text(source.format("mine"))
    monkeypatch.syspath_prepend(tmp_path)
    names = ("greedy_one", "greedy_two", "not_there")
    registry = PluginRegistry.load([EntryPoint(name, name, "outcrop") for name in names])
    monkeypatch.setattr("outcrop.plugins.plugin_registry", lambda: registry)
    shown = outcrop_command("plugins")
    assert shown.code == 0, shown.err
    broken = [line for line in shown.out.split("\nBroken")[1].splitlines() if line.startswith(names)]
    assert [line.split()[0] for line in broken] == ["greedy_one", "greedy_one", "greedy_two", "greedy_two", "not_there"]
    assert any("the command 'run', which outcrop has itself" in line for line in broken)
    assert "ModuleNotFoundError: No module named 'not_there'" in broken[-1]
    help_text = outcrop_command("--help").out
    assert "Run an analysis on models and data" in help_text
    assert "Of a plugin." not in help_text
    assert "Run ANALYSIS on models and data" in outcrop_command("run", "--help").out
    refused = outcrop_command("mine")
    assert refused.code == 1
    assert refused.err.startswith("Error: The command 'mine' is offered by both ")
    assert "might offer it: plugin 'not_there'" in outcrop_command("theirs").err


@pytest.mark.parametrize(
    "line", ["import outcrop", "from outcrop.cli.main import cli; cli(['--help'], standalone_mode=False)"]
)
def test_neither_import_nor_help_loads_what_computes(line: str) -> None:
    heavy = [
        *("torch", "timm", "torchvision", "onnx", "onnxruntime", "sklearn", "scipy", "bokeh"),
        *("xarray", "zarr", "pandas", "dask"),
    ]
    script = f"import sys\n{line}\nprint('loaded:', [name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"
