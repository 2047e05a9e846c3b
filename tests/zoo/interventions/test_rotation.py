import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from outcrop.errors import InputError, LayerNotFoundError, ParameterError, ZooError
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.exporting import export_network
from outcrop_zoo.exporting.parity import run_graph
from outcrop_zoo.interventions import (
    Rotation,
    RotationInsertion,
    compensate_rotation,
    insert_rotation,
    remove_rotation,
    rotation_matrix,
)

SITE = "stage2.0.relu1"


def _network(seed: int = 0) -> CifarResNet:
    torch.manual_seed(seed)
    network = CifarResNet(8)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture
def network() -> CifarResNet:
    return _network()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize(
    ("shape", "dimension", "channels"),
    [((5, 4), None, 1), ((5, 4, 3, 2), None, 1), ((5, 7, 4), None, 2), ((5, 3, 2, 4), -1, 3), ((5, 4, 6), 1, 1)],
)
def test_the_channel_vector_at_every_position_is_rotated(
    shape: tuple[int, ...], dimension: int | None, channels: int, mean: bool
) -> None:
    matrix = rotation_matrix("haar", 4, seed=0)
    centre = torch.tensor([1.0, -2, 3, 4]) if mean else None
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = Rotation(matrix, mean=centre, dimension=dimension)(values)
    about = np.zeros(4) if centre is None else centre.double().numpy()
    expected = np.apply_along_axis(lambda h: matrix.numpy() @ (h - about) + about, channels, values.double().numpy())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_matrix_and_seed_are_buffers_that_are_saved_and_not_trained() -> None:
    rotation = Rotation.draw("haar", 4, seed=7)
    assert not list(rotation.parameters())
    assert rotation.matrix.dtype == torch.float32
    assert repr(rotation) == "Rotation(features=4, seed=7)"
    file = io.BytesIO()
    torch.save(rotation.state_dict(), file)
    file.seek(0)
    other = Rotation.draw("haar", 4, seed=8)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.matrix, rotation.matrix)
    assert repr(other) == "Rotation(features=4, seed=7)"


def test_an_inserted_rotation_rotates_what_the_module_returned_and_can_be_taken_out(
    network: CifarResNet, images: Tensor
) -> None:
    expected = network(images)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    inserted = insert_rotation(network, SITE, Rotation.draw("haar", 32, seed=0))
    assert _error(network(images), expected) > 0.01
    kept: dict[str, Tensor] = {}
    for name in ("module", "rotation"):
        getattr(inserted, name).register_forward_hook(lambda *call, name=name: kept.update({name: call[-1]}))
    network(images)
    torch.testing.assert_close(
        kept["rotation"], torch.einsum("ij,njyx->niyx", inserted.rotation.matrix, kept["module"]), rtol=0, atol=1e-4
    )
    assert set(network.state_dict()) - set(state) == {f"{SITE}.rotation.matrix", f"{SITE}.rotation.seed"}
    assert remove_rotation(network, SITE) is inserted.rotation
    assert torch.equal(network(images), expected)
    assert set(network.state_dict()) == set(state)


@pytest.mark.parametrize("kind", ["haar", "permutation", "scaled_permutation", "householder"])
@pytest.mark.parametrize(("site", "consumer"), [(SITE, "stage2.0.conv2"), ("flatten", "classifier")])
def test_folding_the_inverse_into_what_reads_it_reproduces_the_original(
    network: CifarResNet, images: Tensor, kind: str, site: str, consumer: str
) -> None:
    network, images = network.double(), images.double()
    expected = network(images)
    features = 32 if site == SITE else 64
    insert_rotation(network, site, Rotation.draw(kind, features, seed=0))  # type: ignore[arg-type] # of the list above
    assert _error(network(images), expected) > 0.01
    compensate_rotation(network, site, [consumer])
    assert _error(network(images), expected) < 1e-6


def test_folding_works_in_float32_too(network: CifarResNet, images: Tensor) -> None:
    expected = network(images)
    insert_rotation(network, SITE, Rotation.draw("haar", 32, seed=0))
    compensate_rotation(network, SITE, ["stage2.0.conv2"])
    assert _error(network(images), expected) < 1e-5


def test_a_rotation_about_the_mean_is_folded_into_weights_and_bias() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.Flatten(), nn.Linear(45, 2)).double()
    values = torch.randn(4, 3, 5, 5).double()
    expected = network(values)
    insert_rotation(network, "1", Rotation.draw("haar", 6, seed=0, mean=torch.rand(6)))
    insert_rotation(network, "2", Rotation.draw("haar", 5, seed=0, mean=torch.rand(5)))
    assert _error(network(values), expected) > 0.1
    compensate_rotation(network, "2", ["4"])  # a dense layer that reads channels times positions
    network[2] = _unwrapped(network, "2", lambda: compensate_rotation(network, "1", ["2.module"]))
    assert _error(network(values), expected) < 1e-6


def _unwrapped(network: nn.Sequential, site: str, action: Callable[[], None]) -> nn.Module:
    action()
    return network.get_submodule(site)


def test_a_permutation_is_undone_exactly_by_the_layers_before_it(network: CifarResNet, images: Tensor) -> None:
    expected = network(images)
    insert_rotation(network, SITE, Rotation.draw("permutation", 32, seed=0))
    order = network.get_submodule(SITE).rotation.matrix.argmax(1)  # row i picks channel order[i]
    inverse = torch.argsort(order)
    block = network.stage2[0]
    with torch.no_grad():
        for entry in (block.conv1.weight, block.conv1.bias, *block.norm1.state_dict().values()):
            if entry.ndim:
                entry.copy_(entry[inverse].clone())
    assert torch.equal(network(images), expected) or _error(network(images), expected) < 1e-6


def test_a_linear_network_undoes_a_rotation_from_upstream_and_one_with_relu_does_not() -> None:
    residuals = {}
    for name, activation in (("linear", nn.Identity), ("relu", nn.ReLU)):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(8, 8), activation())
        inputs = torch.randn(256, 8)
        wanted = network(inputs).detach()
        intervention = RotationInsertion("1", features=8, train="upstream")
        intervention.prepare(network)
        trained = list(network.parameters())
        for _ in range(150):
            loss = F.mse_loss(network(inputs), wanted)
            gradients = torch.autograd.grad(loss, trained)
            with torch.no_grad():
                for parameter, gradient in zip(trained, gradients, strict=True):
                    parameter -= 2 * gradient
        residuals[name] = float((network(inputs) - wanted).detach().square().sum() / wanted.square().sum())
    assert residuals["linear"] < 1e-3
    assert residuals["relu"] > 0.2


def test_the_rotation_is_a_named_module_of_the_exported_graph(network: CifarResNet, images: Tensor) -> None:
    insert_rotation(network, SITE, Rotation.draw("haar", 32, seed=0, mean=torch.rand(32)))
    exported = export_network(network, images, name="rotated", half=False)
    assert exported.parity.largest_relative_error < 1e-4
    initializers = {entry.name: numpy_helper.to_array(entry) for entry in exported.model.graph.initializer}
    np.testing.assert_array_equal(
        initializers[f"{SITE}.rotation.matrix"], network.get_submodule(SITE).rotation.matrix.numpy()
    )
    scopes = "".join(entry.value for node in exported.model.graph.node for entry in node.metadata_props)
    assert f"'{SITE}.rotation'" in scopes
    assert "Rotation" in scopes
    (logits,) = run_graph(exported.model, images.numpy(), ["logits"])
    np.testing.assert_allclose(logits, network(images).detach().numpy(), rtol=1e-3, atol=1e-3)


def _trained(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("site", ["relu", "stage1.0.relu1", "stage2.0.norm2", "stage2.0.relu2", "stage3.0.add", "pool"])
def test_upstream_is_what_the_rotated_values_depend_on(site: str, images: Tensor) -> None:
    network = _network()
    kept: list[Tensor] = []
    network.get_submodule(site).register_forward_hook(lambda *call: kept.append(call[-1]))
    network(images[:2])
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(kept[0].sum(), parameters, allow_unused=True)
    expected = {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
    for train, trained in (("upstream", expected), ("downstream", set(names) - expected), ("all", set(names))):
        network = _network()
        RotationInsertion(site, train=train).prepare(network)  # type: ignore[arg-type] # of the list above
        assert {name.replace(f"{site}.module", site) for name in _trained(network)} == trained


def test_the_last_layer_upstream_is_one_kernel_with_its_batch_norm(network: CifarResNet) -> None:
    RotationInsertion(SITE, train="last_upstream").prepare(network)
    block = "stage2.0"
    assert _trained(network) == {
        f"{block}.{name}" for name in ("conv1.weight", "conv1.bias", "norm1.weight", "norm1.bias")
    }


def test_training_leaves_no_trace_in_the_frozen_part(network: CifarResNet, images: Tensor) -> None:
    intervention = RotationInsertion(SITE, train="upstream")
    assert intervention.prepare(network) is network
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1, momentum=0.9)
    for _ in range(2):
        network.train()
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    upstream = ("conv.", "norm.", "stage1.", "stage2.0.conv1.", "stage2.0.norm1.")
    assert changed == {key for key in before if key.startswith(upstream)}
    assert intervention.finish(network) is network
    assert len(_trained(network)) == len(list(network.parameters()))
    assert not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("from_scratch", [False, True])
def test_it_starts_from_a_trained_network(images: Tensor, from_scratch: bool) -> None:
    source, network = _network(1), _network(2)
    own = {key: value.clone() for key, value in network.state_dict().items()}
    RotationInsertion(SITE, rotation="permutation", source=lambda: source, from_scratch=from_scratch).prepare(network)
    remove_rotation(network, SITE)
    upstream = ("conv.", "norm.", "stage1.", "stage2.0.conv1.", "stage2.0.norm1.")
    for key, value in network.state_dict().items():
        expected = own if from_scratch and key.startswith(upstream) else source.state_dict()
        assert torch.equal(value, expected[key]), key


def test_rotations_of_one_seed_are_the_same_in_several_networks() -> None:
    matrices = []
    for seed in (0, 0, 1):
        network = _network(len(matrices))
        RotationInsertion(SITE, seed=seed).prepare(network)
        matrices.append(network.get_submodule(SITE).rotation.matrix)
    assert torch.equal(matrices[0], matrices[1])
    assert not torch.equal(matrices[0], matrices[2])


def test_values_of_another_number_of_channels_are_refused(network: CifarResNet, images: Tensor) -> None:
    insert_rotation(network, SITE, Rotation.draw("haar", 8, seed=0))
    with pytest.raises(
        InputError, match=r"has 8 features, and got values of shape \(4, 32, 16, 16\) with the channels"
    ):
        network(images)


def test_what_cannot_be_inserted_is_refused(network: CifarResNet) -> None:
    with pytest.raises(ParameterError, match=r"A rotation is a square matrix; got shape \(2, 3\)"):
        Rotation(torch.ones(2, 3))
    with pytest.raises(ParameterError, match=r"A rotation of 2 features needs a mean of as many; got shape \(3,\)"):
        Rotation(torch.eye(2), mean=torch.ones(3))
    with pytest.raises(
        LayerNotFoundError, match=r"CifarResNet has no module 'stage2.0.relu3'; .*Did you mean 'stage2.0"
    ):
        insert_rotation(network, "stage2.0.relu3", Rotation.draw("haar", 32, seed=0))
    insert_rotation(network, SITE, Rotation.draw("haar", 32, seed=0))
    with pytest.raises(ParameterError, match=f"'{SITE}' is rotated already; remove that rotation first"):
        insert_rotation(network, SITE, Rotation.draw("haar", 32, seed=0))
    with pytest.raises(ParameterError, match="Module 'relu', a ReLU, is not rotated; insert a rotation there first"):
        remove_rotation(network, "relu")


def test_what_cannot_be_compensated_is_refused_and_left_alone(network: CifarResNet) -> None:
    insert_rotation(network, SITE, Rotation.draw("haar", 32, seed=0, mean=torch.ones(32)))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ParameterError, match="'stage2.0.norm2' is a BatchNorm2d; only dense layers and ungrouped conv"):
        compensate_rotation(network, SITE, ["stage2.0.norm2"])
    with pytest.raises(ParameterError, match="'stage3.0.conv2' reads 64 channels, and the rotation has 32; give the"):
        compensate_rotation(network, SITE, ["stage3.0.conv2"])
    with pytest.raises(ParameterError, match="'stage2.0.conv2' pads with zeros, so a rotation about a mean cannot"):
        compensate_rotation(network, SITE, ["stage2.0.conv2"])
    network.stage2[0].conv2 = nn.Conv2d(32, 32, 1, bias=False)
    with pytest.raises(
        ParameterError, match="'stage2.0.conv2' has no bias, so a rotation about a mean cannot be folded"
    ):
        compensate_rotation(network, SITE, ["stage2.0.conv2"])
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items() if "conv2" not in key)


def test_parts_that_cannot_be_trained_are_refused(network: CifarResNet) -> None:
    with pytest.raises(ParameterError, match="Unknown part 'upstreams': choose upstream, .*Did you mean 'upstream'"):
        RotationInsertion(SITE, train="upstreams")  # type: ignore[arg-type] # the point of the test
    with pytest.raises(
        ParameterError, match="Nothing with weights lies downstream of 'classifier'; choose another site"
    ):
        RotationInsertion("classifier", train="downstream").prepare(network)
    silent = nn.Sequential(nn.ReLU(), nn.Linear(3, 3))
    with pytest.raises(ParameterError, match="No layer up to '0' says how many channels it has; give features="):
        RotationInsertion("0", train="downstream").prepare(silent)
    with pytest.raises(ParameterError, match="Nothing with weights lies last_upstream of '0'"):
        RotationInsertion("0", train="last_upstream", features=3).prepare(silent)
    wide = CifarResNet(8, width=2)
    with pytest.raises(
        ZooError, match=r"The weights cannot be taken from the CifarResNet: conv.weight is \(32, 3, 3, 3\)"
    ):
        RotationInsertion(SITE, source=wide).prepare(network)
