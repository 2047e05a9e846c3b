import subprocess
import sys

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

import outcrop_zoo.interventions as package
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.interventions import (
    BatchNormRecalibration,
    BatchNormRecalibrationSpec,
    ColourJitter,
    ColourJitterSpec,
    FrozenPrefix,
    FrozenPrefixSpec,
    InitialiseFrom,
    InitialiseFromSpec,
    Intervention,
    InterventionSpec,
    PrincipalComponentPenalty,
    PrincipalComponentPenaltySpec,
    Rotation,
    RotationInsertion,
    RotationSpec,
    make_intervention,
)

ADAPTER: TypeAdapter[InterventionSpec] = TypeAdapter(InterventionSpec)
SPECS = [
    (PrincipalComponentPenaltySpec(), PrincipalComponentPenalty),
    (ColourJitterSpec(), ColourJitter),
    (InitialiseFromSpec(model="trained"), InitialiseFrom),
    (FrozenPrefixSpec(model="trained", layers=2), FrozenPrefix),
    (FrozenPrefixSpec(layers=1, seed=3), FrozenPrefix),
    (RotationSpec(site="stage2.0.relu1", seed=4, model="trained"), RotationInsertion),
    (RotationSpec(site="flatten", rotation="geodesic", fraction=0.5, train="all"), RotationInsertion),
    (BatchNormRecalibrationSpec(batches=1), BatchNormRecalibration),
]


def _trained(name: str) -> nn.Module:
    assert name == "trained"
    torch.manual_seed(7)
    return CifarResNet(8)


@pytest.mark.parametrize(("spec", "made"), SPECS)
def test_a_specification_survives_its_json_and_makes_its_intervention(
    spec: InterventionSpec, made: type[Intervention]
) -> None:
    assert ADAPTER.validate_json(ADAPTER.dump_json(spec)) == spec
    intervention = make_intervention(spec, load_network=_trained, seed=0)
    assert type(intervention) is made
    torch.manual_seed(0)
    network = CifarResNet(8)
    state = torch.random.get_rng_state()
    prepared = intervention.prepare(network)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    changed = intervention.augment(images, torch.Generator().manual_seed(0))
    assert torch.equal(changed, images) == (made is not ColourJitter)
    if spec.kind not in ("initialise_from", "frozen_prefix", "rotation"):
        assert torch.equal(torch.random.get_rng_state(), state)
    prepared.train()(images)
    assert (intervention.penalty() is not None) == (made is PrincipalComponentPenalty)
    intervention.load_state_dict(intervention.state_dict())
    intervention.calibrate(prepared, lambda: iter([images]))
    finished = intervention.finish(prepared)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in finished.modules())
    assert torch.isfinite(finished.eval()(images)).all()


def test_settings_reach_the_intervention() -> None:
    spec = PrincipalComponentPenaltySpec(alpha=1, delta=0.3, from_stage=3)
    penalty = make_intervention(spec, load_network=_trained, seed=5)
    assert isinstance(penalty, PrincipalComponentPenalty)
    assert (penalty.alpha, penalty.delta, penalty.from_stage, penalty.seed) == (1, 0.3, 3, 5)
    jitter = make_intervention(ColourJitterSpec(hue=0.1, greyscale=0.5), load_network=_trained, seed=0)
    assert isinstance(jitter, ColourJitter)
    assert (jitter.amounts["hue"], jitter.amounts["greyscale"], jitter.amounts["brightness"]) == (0.1, 0.5, 0.8)
    network = CifarResNet(8)
    spec = RotationSpec(site="stage2.0.relu1", rotation="block", dimensions=5, seed=4, train="downstream")
    make_intervention(spec, load_network=_trained, seed=0).prepare(network)
    rotation = network.get_submodule("stage2.0.relu1.rotation")
    assert isinstance(rotation, Rotation)
    expected = Rotation.draw("block", 32, seed=4, dimensions=5)
    assert torch.equal(rotation.matrix, expected.matrix)
    assert not network.conv.weight.requires_grad
    assert network.classifier.weight.requires_grad


def test_the_base_does_nothing() -> None:
    intervention, network = Intervention(), nn.Linear(2, 2)
    images = torch.rand(1, 3, 2, 2)
    assert intervention.prepare(network) is network
    assert intervention.augment(images, torch.Generator()) is images
    assert intervention.penalty() is None
    assert intervention.state_dict() == {}
    intervention.load_state_dict({})
    intervention.calibrate(network, lambda: iter(()))
    assert intervention.finish(network) is network


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "rotations"}, "does not match any of the expected tags"),
        ({"kind": "colour_jitter", "blur": 1}, "Extra inputs are not permitted"),
        ({"kind": "principal_component_penalty", "delta": 2}, "less than or equal to 1"),
        ({"kind": "rotation", "site": "a", "rotation": "block"}, "with dimensions=None: give dimensions with 'block'"),
        ({"kind": "rotation", "site": "a", "fraction": 0.5}, "with fraction=0.5: give fraction with 'geodesic', and"),
        ({"kind": "rotation", "site": "a", "from_scratch": True}, "from_scratch=True without a model: name the model"),
    ],
)
def test_specifications_that_make_no_sense_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ADAPTER.validate_python(values)


def test_every_public_name_is_there() -> None:
    assert sorted(package.__all__) == list(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="module 'outcrop_zoo.interventions' has no attribute 'nothing'"):
        package.nothing  # noqa: B018 - the point of the test


def test_specifications_need_no_torch() -> None:
    program = (
        "import sys; from outcrop_zoo.interventions.specs import InterventionSpec; "
        "from outcrop_zoo.interventions import RotationSpec, make_intervention; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == 0
