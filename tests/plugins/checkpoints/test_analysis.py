"""The ``checkpoints`` analysis on checkpoints of a small network in training."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

import outcrop
from outcrop.analysis.run import make_parameters
from outcrop.errors import AnalysisError, ParameterError
from outcrop.models import load_model
from outcrop.testing import noise_layers, run_planted
from outcrop_checkpoints.analysis import CheckpointsAnalysis

STEPS = (0, 5, 40)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 12, 3, stride=2)
        self.norm2 = nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 4)

    def forward(self, images):
        hidden = torch.relu(self.norm1(self.stem(images)))
        hidden = torch.relu(self.norm2(self.conv(hidden)))
        return self.head(hidden.mean((2, 3)))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    classes = np.arange(96) % 4
    pictures = rng.standard_normal((96, 3, 8, 8)).astype(np.float32)
    pictures[:, 0] += classes[:, None, None]
    return pictures, torch.from_numpy(classes)


@pytest.fixture(scope="module")
def networks(images):
    """Return the network at several steps of a training."""
    torch.manual_seed(0)
    network = Network()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.2, momentum=0.9)
    kept = {}
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            kept[step] = copy.deepcopy(network).eval()
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(torch.from_numpy(images[0])), images[1]).backward()
        optimiser.step()
    return kept


def loaded(networks, mode="evaluation"):
    return [
        load_model(network, name=f"net@{step}", input_shape=(3, 8, 8), batch_norm=mode)
        for step, network in networks.items()
    ]


@pytest.fixture(scope="module", params=["evaluation", "batch"])
def results(request, networks, images, tmp_path_factory):
    """Return the results of both analyses on the same batches, in a mode of batch norm."""
    study = outcrop.open(tmp_path_factory.mktemp("study") / "study.zarr", mode="a")
    data = outcrop.load_data(images[0])
    models = loaded(networks, request.param)
    # Given in another order: the names tell.
    series = study.run("checkpoints", models=models[::-1], data=data, parameters={"batch_size": 32}, seed=3)
    pairs = study.run("blocks", models=models, data=data, parameters={"batch_size": 32}, seed=3)
    return request.param, series, pairs


def test_maps_equal_those_of_blocks_on_all_checkpoints(results):
    mode, series, pairs = results
    found = series["trajectory"]
    assert found["step"].values.tolist() == list(STEPS)
    assert found["checkpoint"].values.tolist() == [f"net@{step}" for step in STEPS]
    assert set(found["model"].values.tolist()) == {"net"}
    assert (found.attrs["mode"], found.attrs["sample_count"], found.attrs["batch_size"]) == (mode, 96, 32)
    assert np.isfinite(found["similarity_to_last"].values).all()
    wanted, models = pairs["pairwise"], pairs["pairwise"]["model_a"].values
    last = models == "net@40"
    for position, step in enumerate(STEPS):
        rows = models == f"net@{step}"
        assert found["name_a"].values.tolist() == wanted["name_a"].values[rows].tolist()
        for name in ("similarity", "standard_error"):
            whole = wanted[name].values
            np.testing.assert_allclose(found[name].values[position], whole[np.ix_(rows, rows)], rtol=0, atol=1e-10)
            suffix = "_to_last"
            np.testing.assert_allclose(
                found[name + suffix].values[position], whole[np.ix_(rows, last)], rtol=0, atol=1e-10
            )
        for name in ("pc_share", "degenerate"):
            np.testing.assert_allclose(
                found[name].values[position].astype(float),
                pairs["per_layer"][name].values[rows].astype(float),
                rtol=0,
                atol=1e-10,
            )


def test_the_input_stays_as_it_is_and_layers_move_towards_the_last_step(results):
    found = results[1]["trajectory"].to_dataset()
    to_itself = np.stack([np.diag(one) for one in found["similarity_to_last"].values])
    names = found["name"].values.tolist()
    np.testing.assert_allclose(to_itself[:, names.index("input")], 1, atol=1e-10)
    head = to_itself[:, names.index("head")]
    assert head[0] < 0.8 < head[2] + 1e-9
    assert head[0] < head[1] < head[2] == pytest.approx(1)


def test_the_provenance_tells_the_mode_and_the_modes_are_other_runs(networks, images, tmp_path):
    study = outcrop.open(tmp_path / "study.zarr", mode="a")
    data = outcrop.load_data(images[0])
    records, maps = [], []
    for mode in ("evaluation", "batch"):
        result = study.run("checkpoints", models=loaded(networks, mode), data=data, layers=["norm*", "head"])
        records.append(json.loads(result.attrs["provenance"]))
        maps.append(result["trajectory"]["similarity_to_last"].values)
    assert [[model["mode"] for model in record["models"]] for record in records] == [["evaluation"] * 3, ["batch"] * 3]
    assert records[0]["run_id"] != records[1]["run_id"]
    assert np.abs(maps[0] - maps[1]).max() > 1e-4
    mixed = [*loaded(networks)[:2], loaded(networks, "batch")[2]]
    with pytest.raises(
        AnalysisError, match="must run in one mode: 'net@5' runs in 'evaluation' and 'net@40' in 'batch'"
    ):
        study.run("checkpoints", models=mixed, data=data)


def test_a_planted_drift_shows_in_the_maps_to_the_last_step_only():
    rng = np.random.default_rng(5)
    start, end = (rng.standard_normal((256, 20)) for _ in range(2))
    shares = (0.0, 0.5, 1.0)
    models = {}
    for step, share in enumerate(shares):
        moved = np.sqrt(1 - share) * start + np.sqrt(share) * end
        turned = [moved @ np.linalg.qr(rng.standard_normal((20, 20)))[0] for _ in range(3)]
        models[f"net@{step}"] = {f"layer{index}": one.astype(np.float32) for index, one in enumerate(turned)}
    found = run_planted(CheckpointsAnalysis, models, parameters={"batch_size": 64})["trajectory"]
    np.testing.assert_allclose(found["similarity"].values, 1, atol=1e-5)  # the layers of a step are rotations
    # Of independent A and B, the HSIC of (sqrt(1 - s) A + sqrt(s) B) with B is s times that of B with itself.
    np.testing.assert_allclose(found["similarity_to_last"].values.mean((1, 2)), shares, atol=0.05)


def test_checkpoints_of_other_networks_are_refused():
    base = noise_layers(layers=3, samples=16)
    wider = {**base, "layer1": np.repeat(base["layer1"], 2, axis=1)}
    longer = noise_layers(layers=4, samples=16)
    with pytest.raises(AnalysisError, match=r"'a' has layer 'layer1' of shape \(26,\) where 'b' has 'layer1' of shape"):
        run_planted(CheckpointsAnalysis, {"a": wider, "b": base})
    for models in ({"a": base, "b": longer}, {"b": longer, "a": base}):
        with pytest.raises(AnalysisError, match="'b' has layer 'layer3', which 'a' lacks"):
            run_planted(CheckpointsAnalysis, models)


def test_what_cannot_be_compared_is_said():
    with pytest.raises(
        AnalysisError, match="'checkpoints' needs at least 4 samples, which unbiased CKA divides by; the"
    ):
        run_planted(CheckpointsAnalysis, {"a": noise_layers(samples=3), "b": noise_layers(samples=3)})
    with pytest.raises(AnalysisError, match="Give two or more models"):
        run_planted(CheckpointsAnalysis, {"a": noise_layers(samples=16)})


def test_steps_are_read_from_the_command_line_and_checked():
    for text in ("0, 10,200", "[0, 10, 200]"):  # as people write it, and as the report repeats it
        assert make_parameters(CheckpointsAnalysis, {"steps": text}).steps == (0, 10, 200)
    models = {"a": noise_layers(samples=16), "b": noise_layers(samples=16, seed=1)}
    found = run_planted(CheckpointsAnalysis, models, parameters={"steps": [3, 70]})["trajectory"]
    assert found["step"].values.tolist() == [3, 70]
    for wrong in ("0,ten", "-1,3"):
        with pytest.raises(ParameterError, match="Parameter 'steps"):
            make_parameters(CheckpointsAnalysis, {"steps": wrong})
