"""A checkpoint series from the command line."""

import json

import xarray as xr


def test_checkpoints_run_with_the_batchs_statistics_and_are_not_kept(outcrop_command, photos, tmp_path):
    study = tmp_path / "s.zarr"
    models = [
        part
        for seed in (0, 40)
        for part in ("--model", f"net@{seed}=timm:test_resnet?pretrained=false&seed={seed}&batch_norm=batch")
    ]
    answer = outcrop_command(
        "run", "checkpoints", *models, "--data", photos, "--layers", "block", "--study", study, "-p", "batch_size=6"
    )
    assert answer.code == 0, answer.err
    assert "streamed and not kept (batch norm of net@0 takes its statistics from each batch)" in answer.out
    tree = xr.open_datatree(study, engine="zarr")
    assert "activations" not in tree.children
    [run] = tree["results/checkpoints"].children.values()
    assert run["trajectory"]["step"].values.tolist() == [0, 40]
    assert run["trajectory"].attrs["mode"] == "batch"
    assert [model["mode"] for model in json.loads(run.attrs["provenance"])["models"]] == ["batch", "batch"]
    answer = outcrop_command("report", study, "-o", tmp_path / "r.html")
    assert answer.code == 0, answer.err
    assert "batch_norm=batch" in (tmp_path / "r.html").read_text("utf-8")
