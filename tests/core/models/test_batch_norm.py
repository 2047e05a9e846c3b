"""Batch norm with the statistics of the batch at hand: torch's training mode, and no trace of it."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

import outcrop
from outcrop.capture.source import LiveSource
from outcrop.errors import InputError, ModelLoadError
from outcrop.models import TorchModel, load_model
from outcrop.store.ledger import identify


class Small(nn.Module):
    """Batch norm in one and two dimensions, one without running statistics, dropout, and a residual addition."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.plain = nn.BatchNorm2d(6, affine=False, momentum=None)
        self.untracked = nn.BatchNorm2d(6, track_running_stats=False)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(6, 5)
        self.last = nn.BatchNorm1d(5)

    def forward(self, images):
        hidden = torch.relu(self.norm(self.conv(images)))
        hidden = hidden + self.untracked(self.plain(hidden))
        return self.last(self.linear(self.dropout(hidden.mean((2, 3)))))


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = Small()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and module.track_running_stats:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return made


def trained_values(network, images, layers):
    """Return what torch's own training mode computes with momentum 0, by forward hooks on a copy."""
    trained = copy.deepcopy(network).eval()
    for module in trained.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
            module.momentum = 0.0
    seen = {}
    for name, module in trained.named_modules():
        if name in layers:

            def keep(_module, _inputs, output, name=name):
                seen[name] = output.detach().clone()

            module.register_forward_hook(keep)
    with torch.no_grad():
        seen["returned"] = trained(images)
    return seen


def visited(model, images, layers):
    seen = {}
    model.visit({"input": images}, layers, lambda layer, values: seen.setdefault(layer.name, values.clone()))
    return seen


def test_values_are_those_of_torchs_training_mode_and_the_network_is_left_as_it_was(network):
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    layers = ["conv", "norm", "plain", "untracked", "linear", "last"]
    wanted = trained_values(network, images, layers)
    network.train()
    network.conv.eval()  # a network in training, one part of which is frozen
    before = {name: one.clone() for name, one in network.state_dict().items()}
    modes = [(module.training, getattr(module, "track_running_stats", None)) for module in network.modules()]
    model = load_model(network, input_shape=(3, 8, 8), batch_norm="batch")
    names = {model.layer(name).name: name for name in layers}
    found = visited(model, images, layers)
    assert len(found) == len(layers)
    for name, values in found.items():
        torch.testing.assert_close(values, wanted[names[name]], rtol=0, atol=0)
    torch.testing.assert_close(model.forward({"input": images}), wanted["returned"], rtol=0, atol=0)
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    assert modes == [(module.training, getattr(module, "track_running_stats", None)) for module in network.modules()]
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_residual_network_of_timm_runs_so_by_its_reference():
    model = load_model("timm:test_resnet?pretrained=false&batch_norm=batch")
    assert model.mode == "batch"
    reference = load_model("timm:test_resnet?pretrained=false")
    images = torch.randn(6, *model.inputs[0].shape, generator=torch.Generator().manual_seed(1))
    wanted = trained_values(reference.network, images, ["bn1", "layer2.0.bn2"])
    torch.testing.assert_close(model.forward({"input": images}), wanted["returned"], rtol=0, atol=0)
    found = visited(model, images, ["bn1", "layer2.0.bn2"])
    for name, values in zip(["bn1", "layer2.0.bn2"], found.values(), strict=True):
        torch.testing.assert_close(values, wanted[name], rtol=0, atol=0)
    other = reference.forward({"input": images})
    assert not torch.allclose(other, wanted["returned"], atol=1e-3)
    assert [layer.name for layer in model.layers] == [layer.name for layer in reference.layers]


def test_a_sample_depends_on_its_batch_in_this_mode_and_not_in_evaluation(network):
    network.untracked = nn.Identity()  # which takes the batch's statistics in every mode
    images = torch.randn(9, 3, 8, 8)
    for mode, alike in (("batch", False), ("evaluation", True)):
        model = TorchModel(network, input_shape=(3, 8, 8), batch_norm=mode)
        whole, part = (model.forward({"input": some})[:4] for some in (images, images[:4]))
        assert torch.allclose(whole, part, atol=1e-5) is alike


def test_the_modes_have_other_identities_and_captures_in_other_batches_too(network, tmp_path):
    images = np.random.default_rng(0).standard_normal((12, 3, 8, 8)).astype(np.float32)
    data = outcrop.load_data(images)
    models = {
        mode: TorchModel(network, name="net", input_shape=(3, 8, 8), batch_norm=mode)
        for mode in ("evaluation", "batch")
    }
    assert models["batch"].fingerprint == models["evaluation"].fingerprint
    identities = [
        identify(models["evaluation"], data, batch_size=4),
        identify(models["batch"], data),
        identify(models["batch"], data, batch_size=4),
        identify(models["batch"], data, batch_size=6),
    ]
    assert len({identity.node for identity in identities}) == 4
    assert identities[0].node == identify(models["evaluation"], data).node
    assert [identity.mode for identity in identities] == [
        "evaluation",
        "batch",
        "batch of 4 in order",
        "batch of 6 in order",
    ]
    study = outcrop.open(tmp_path / "study.zarr", mode="a")
    for mode, size in (("evaluation", 4), ("batch", 4), ("batch", 6)):
        captured = study.capture(models[mode], data, layers=["norm"], batch_size=size)
        [values] = [captured[name].values for name in captured]
        parts = [images[start : start + size] for start in range(0, 12, size)]
        wanted = [next(iter(visited(models[mode], torch.from_numpy(part), ["norm"]).values())) for part in parts]
        np.testing.assert_array_equal(values, torch.cat(wanted).numpy())
    assert len(study.activations.captures()) == 3


def test_a_run_never_takes_the_activations_of_another_mode(network, tmp_path):
    data = outcrop.load_data(np.random.default_rng(0).standard_normal((12, 3, 8, 8)).astype(np.float32))
    study = outcrop.open(tmp_path / "study.zarr", mode="a")
    runs, maps = [], []
    for mode in ("evaluation", "batch"):
        model = TorchModel(network, name="net", input_shape=(3, 8, 8), batch_norm=mode)
        study.capture(model, data, layers=["norm", "last"], batch_size=6)
        result = study.run("blocks", models=[model], data=data, layers=["norm", "last"])
        record = json.loads(result.attrs["provenance"])
        runs.append(record["run_id"])
        assert record["models"][0]["mode"] == mode
        assert record["models"][0]["source"].endswith("?batch_norm=batch") is (mode == "batch")
        maps.append(result["pairwise"]["similarity"].values[0, 1])
    assert runs[0] != runs[1]
    assert abs(maps[0] - maps[1]) > 1e-6


def test_one_value_a_channel_has_no_variance_and_is_refused(network):
    model = TorchModel(network, input_shape=(3, 8, 8), batch_norm="batch")
    with pytest.raises(
        InputError, match=r"'last' of model 'Small' takes its statistics.*batch of 1 has one value per channel"
    ):
        model.forward({"input": torch.randn(1, 3, 8, 8)})
    with pytest.raises(InputError, match="Give batches of two or more samples"):
        visited(model, torch.randn(1, 3, 8, 8), ["last"])
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert len(visited(model, torch.randn(1, 3, 8, 8), ["norm"])) == 1  # one sample of many positions has a variance


def test_a_group_that_is_no_forward_batch_is_refused(network, monkeypatch):
    model = TorchModel(network, name="net", input_shape=(3, 8, 8), batch_norm="batch")
    data = outcrop.load_data(np.random.default_rng(0).standard_normal((12, 3, 8, 8)).astype(np.float32))
    monkeypatch.setattr("outcrop.capture.source.FORWARD_BYTES", 4 * 6 * 6 * 6 * 4)
    source = LiveSource(model, (model.layer("norm"),), data)
    with pytest.raises(
        InputError, match=r"group of 12 samples does not fit into one forward pass: 4 do\. Ask for batches of 4"
    ):
        next(iter(source.groups(np.arange(12), 12)))
    assert [len(chosen) for chosen, _ in source.groups(np.arange(12), 4)] == [4, 4, 4]


def test_a_tracker_says_the_mode_of_the_model_that_it_was_given(network):
    images = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    seen = {}
    for mode in ("evaluation", "batch"):
        model = TorchModel(network, input_shape=(3, 8, 8), batch_norm=mode)
        tracker = outcrop.Tracker(model, images, layers=["norm", "last"])
        tracker(0)
        assert tracker.dataset.attrs["mode"] == mode
        seen[mode] = tracker.dataset["similarity"].values
    assert np.abs(seen["evaluation"] - seen["batch"]).max() > 1e-6


@pytest.fixture
def onnx_file(tmp_path):
    import onnx

    values = [onnx.helper.make_tensor_value_info(name, 1, ["n", 3, 4, 4]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_batch_norm_of_an_onnx_file_is_fixed(onnx_file):
    with pytest.raises(ModelLoadError, match=r"'net.onnx' is an ONNX file, whose batch norm is fixed in its graph"):
        load_model(f"onnx:{onnx_file}?batch_norm=batch")
    with pytest.raises(ModelLoadError, match="An ONNX graph has its batch norm fixed"):
        load_model(onnx_file, batch_norm="batch")


def test_what_has_no_batch_norm_to_change_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made_networks.py").write_text(
        "from torch import nn\nfrom outcrop.models import TorchModel\n"
        "def made():\n    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))\n"
        "def finished():\n    return TorchModel(made(), input_shape=(2,))\n"
    )
    assert load_model("python:made_networks:made?batch_norm=batch").mode == "batch"
    with pytest.raises(
        ModelLoadError, match=r"finished\(\) returns a finished model; state its batch_norm where it is"
    ):
        load_model("python:made_networks:finished?batch_norm=batch")
    with pytest.raises(ModelLoadError, match="'Linear' has no batch norm to change; leave batch_norm=batch out"):
        load_model(nn.Linear(2, 2), batch_norm="batch")
    with pytest.raises(
        ModelLoadError, match="batch_norm=training of 'Linear' is unknown; expected evaluation or batch"
    ):
        load_model(nn.Linear(2, 2), batch_norm="training")
    with pytest.raises(ModelLoadError, match="batch_norm=train of 'test_resnet' is unknown"):
        load_model("timm:test_resnet?pretrained=false&batch_norm=train")
    with pytest.raises(ModelLoadError, match=r"write '\?batch_norm=batch' behind the reference"):
        load_model("timm:test_resnet?pretrained=false", batch_norm="batch")


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("traced", [True, False])
def test_batch_norm_that_is_compiled_beside_some_that_is_not_is_refused(traced):
    part = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    part = torch.jit.trace(part, torch.zeros(3, 2)) if traced else torch.jit.script(part)
    with pytest.raises(
        ModelLoadError, match=r"Batch norm '1\.1' of model 'Sequential' is TorchScript, whose mode is f"
    ):
        TorchModel(nn.Sequential(nn.BatchNorm1d(2), part), input_shape=(2,), batch_norm="batch")
