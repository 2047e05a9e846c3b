"""The demo as a user runs it: without network, from weights to report, and again."""

import socket
from pathlib import Path

import pytest
import xarray as xr
from click.testing import CliRunner, Result

from outcrop_zoo.catalogue import bundled_cards
from outcrop_zoo.demo import FAMILY, command

NAMES = [card.name for card in bundled_cards() if card.family == FAMILY]


def run_demo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """Run the demo on few images, with every connection refused."""

    def refuse(*_: object) -> None:
        raise AssertionError("the demo reached for the network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("webbrowser.open", refuse)
    result = CliRunner().invoke(command, ["--samples", "64", "--no-open", "-o", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.slow
def test_the_demo_leaves_a_study_and_a_report_of_every_bundled_model_of_its_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out" / "demo"
    shown = run_demo(folder, monkeypatch)
    assert f"Study:  {folder / 'study.zarr'}\nReport: {folder / 'report.html'}" in shown.stdout
    assert f"{len(NAMES)} models, 64 images." in shown.stdout

    tree = xr.open_datatree(folder / "study.zarr", engine="zarr")
    (run,) = tree["results/blocks"].children.values()
    blocks = run["blocks"].to_dataset().load()
    assert blocks["model"].values.tolist() == NAMES
    captures = tree["activations"].children
    assert len(captures) == len(NAMES)
    for capture in captures.values():
        layers = {node.attrs["layer"]: node["values"] for node in capture.subtree if "values" in node.data_vars}
        assert {"pool", "classifier"} < set(layers)
        assert len(layers) == 3
        assert all(values.sizes["sample"] == 64 for values in layers.values())
        assert all(values.notnull().all().item() for values in layers.values())

    page = (folder / "report.html").read_text("utf-8")
    for name, verdict in zip(NAMES, blocks["verdict"].values.tolist(), strict=True):
        assert name in page
        assert verdict in shown.stdout
        assert verdict.lower() in page.lower()

    again = run_demo(folder, monkeypatch)
    assert again.stdout == shown.stdout
    assert list(xr.open_datatree(folder / "study.zarr", engine="zarr")["results/blocks"].children) == [run.name]
