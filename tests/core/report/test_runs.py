import json
import shlex

from outcrop.report.figure import Run
from outcrop.report.runs import assumptions, command, provenance_rows, read_runs


def test_runs_are_sorted_newest_first(make_run, make_results):
    leaves = {"blocks": make_run([("m", 8, None)])["blocks"]}
    tree = make_results(
        [
            ("old", "x", leaves, "2026-01-01T00:00:00"),
            ("blocks", "a", leaves, "2026-03-01T00:00:00"),
            ("blocks", "b", leaves, "2026-03-02T00:00:00"),
        ]
    )
    runs = read_runs(tree)
    assert list(runs) == ["blocks", "old"]
    assert [run.run_id for run in runs["blocks"]] == ["b", "a"]


def test_a_command_line_survives_the_shell():
    run = Run(
        "blocks",
        "r1",
        {},
        {
            "models": [{"source": "onnx:my net.onnx"}, {"name": "other", "source": "timm:resnet18"}],
            "data": {"source": "my photos/; rm -rf ~", "limit": 64},
            "selection": "kind:act,fc",
            "seed": 3,
            "parameters": {"batch_size": 64, "kind": "act", "unset": None, "list": [1, 2]},
        },
    )
    assert shlex.split(command(run)) == [
        "outcrop", "run", "blocks", "--model", "onnx:my net.onnx", "--model", "other=timm:resnet18",
        "--data", "my photos/; rm -rf ~", "--limit", "64",
        "--layers", "kind:act,fc", "--seed", "3",
        "-p", "batch_size=64", "-p", "kind=act", "-p", "list=[1, 2]", "--study", "study.zarr",
    ]  # fmt: skip


def test_provenance_that_is_not_json_is_said_to_be_missing(make_run, make_results):
    tree = make_results([("blocks", "a", make_run([("m", 8, None)]), "2026-03-01T00:00:00")])
    for broken in ("{", json.dumps([1])):
        tree["blocks"]["a"].attrs["provenance"] = broken
        (run,) = read_runs(tree)["blocks"]
        assert provenance_rows(run) == [("run", "a"), ("provenance", "none recorded")]


def test_provenance_lists_models_data_and_whatever_else_was_recorded():
    run = Run(
        "blocks",
        "r1",
        {},
        {
            "version": "2",
            "models": [{"name": "m", "source": "zoo:m", "fingerprint": "abc", "preprocessing": "resize to 32"}],
            "data": {"name": "d", "source": "zoo:d", "fingerprint": "def", "samples": 1200},
            "layers": {"m": [f"layer{i}" for i in range(387)]},
            "seed": 0,
        },
    )
    assert provenance_rows(run) == [
        ("analysis", "blocks 2"),
        ("model m", "zoo:m; fingerprint abc; preprocessing resize to 32"),
        ("data d", "1,200 samples; zoo:d; fingerprint def"),
        ("seed", "0"),
        ("layers", "m 387, layer0 to layer386"),
    ]


def test_only_an_assumed_preprocessing_is_an_assumption():
    models = [
        {"name": "stated", "preprocessing": "resize to 224"},
        {"name": "silent", "preprocessing": "resize to 32 (assumed: the network states none)"},
        {"name": "old"},
    ]
    assert assumptions(Run("blocks", "r1", {}, {"models": models})) == (
        "The images of silent went through an assumed preprocessing: resize to 32 (assumed: the network states none).",
    )
