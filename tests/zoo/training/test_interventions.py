"""What the loop does with interventions, seen through one that writes everything down."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from outcrop_zoo.architectures import build_architecture
from outcrop_zoo.interventions import BatchNormRecalibration, ColourJitter, FrozenPrefix, PrincipalComponentPenalty
from outcrop_zoo.interventions.intervention import Intervention
from outcrop_zoo.interventions.specs import (
    BatchNormRecalibrationSpec,
    ColourJitterSpec,
    FrozenPrefixSpec,
    InitialiseFromSpec,
    InterventionSpec,
    PrincipalComponentPenaltySpec,
    RotationSpec,
)
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training import ImageSet, TrainingRun, setup, snapshot_network, train
from outcrop_zoo.training.data import load_recipe_data


class KilledError(Exception):
    pass


class Diary(Intervention):
    """Darkens images at random, pulls the classifier's bias towards 1, and counts what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.state = 0
        self.calibration: list[Tensor] = []
        self.killed_at = 0

    def prepare(self, network: nn.Module) -> nn.Module:
        self.calls.append("prepare")
        self.network = network
        return network

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        self.calls.append("augment")
        return images * torch.rand((len(images), 1, 1, 1), generator=generator)

    def penalty(self) -> Tensor:
        self.calls.append("penalty")
        self.state += 1
        if self.state == self.killed_at:
            raise KilledError
        # The strength depends on the state, so that a state that is lost shows in the weights.
        return self.state * (self.network.get_parameter("classifier.bias") - 1).square().sum()

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.calls.append("load")
        self.state = state["state"]

    def calibrate(self, network: nn.Module, batches: Callable[[], Iterator[Tensor]]) -> None:
        self.calls.append("calibrate")
        self.calibration = list(batches())

    def finish(self, network: nn.Module) -> nn.Module:
        self.calls.append("finish")
        return network


@pytest.fixture
def diaries(monkeypatch: pytest.MonkeyPatch) -> list[Diary]:
    made: list[Diary] = []

    def make(spec: InterventionSpec, **_: Any) -> Diary:
        made.append(Diary())
        return made[-1]

    monkeypatch.setattr(setup, "make_intervention", make)
    return made


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Recipe) -> Recipe:
    return tiny_recipe.model_copy(update={"interventions": (BatchNormRecalibrationSpec(),)})


@pytest.fixture(scope="module")
def images(recipe: Recipe) -> ImageSet:
    return load_recipe_data(recipe).train


def _equal(one: TrainingRun, other: TrainingRun) -> bool:
    expected = other.network.state_dict()
    return all(torch.equal(value, expected[name]) for name, value in one.network.state_dict().items())


def test_an_intervention_is_asked_in_its_order(diaries: list[Diary], recipe: Recipe, images: ImageSet) -> None:
    run = train(recipe, images, device="cpu")
    [diary] = diaries
    assert diary.calls == ["prepare", *["augment", "penalty"] * 6, "calibrate", *["augment"] * 3, "finish"]
    assert [len(batch) for batch in diary.calibration] == [16, 16, 8]
    assert diary.calibration[0].is_contiguous(memory_format=torch.channels_last)
    assert all("penalty" in row and row["penalty"] > row["loss"] for row in run.history)


@pytest.mark.usefixtures("diaries")
def test_the_penalty_of_the_first_step_adds_its_gradient(
    recipe: Recipe, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = recipe.model_copy(update={"epochs": 1, "batch_size": len(images.labels)})
    with_penalty = train(one, images, device="cpu")
    assert with_penalty.history[0]["penalty"] == pytest.approx(10)  # ten biases of 0, each 1 away
    bias = with_penalty.network.get_parameter("classifier.bias")

    class Silent(Diary):
        def penalty(self) -> None:  # type: ignore[override] # the control
            return None

    monkeypatch.setattr(setup, "make_intervention", lambda *_, **__: Silent())
    without = train(one, images, device="cpu")
    assert without.history[0]["penalty"] == 0
    torch.testing.assert_close(bias - without.network.get_parameter("classifier.bias"), torch.full((10,), 0.01 * 2.0))


def test_the_state_of_an_intervention_survives_a_stop(
    diaries: list[Diary], recipe: Recipe, images: ImageSet, tmp_path: Path
) -> None:
    def kill(row: dict[str, float]) -> None:
        raise KilledError

    whole = train(recipe, images, device="cpu")
    with pytest.raises(KilledError):
        train(recipe, images, checkpoint=tmp_path / "a.pt", on_epoch=kill, device="cpu")
    resumed = train(recipe, images, checkpoint=tmp_path / "a.pt", device="cpu")
    assert diaries[-1].calls[:2] == ["prepare", "load"]
    assert _equal(whole, resumed)


def test_a_training_killed_within_an_epoch_continues_to_the_same_weights_and_snapshots(
    recipe: Recipe, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = recipe.model_copy(update={"snapshots": (0, 2, 4, 5)})

    def trained(folder: str, killed_at: int) -> TrainingRun:
        diary = Diary()
        diary.killed_at = killed_at
        monkeypatch.setattr(setup, "make_intervention", lambda *_, **__: diary)
        return train(kept, images, checkpoint=tmp_path / folder / "tiny.pt", device="cpu")

    whole = trained("whole", 0)
    # In the second of two epochs of three steps: behind the snapshot of step 4, before that of step 5.
    for killed_at in (2, 5):
        with pytest.raises(KilledError):
            trained("killed", killed_at)
    assert not (tmp_path / "killed" / "tiny@5.pt").exists()
    assert _equal(whole, trained("killed", 0))
    for step in kept.snapshots:
        one, other = (
            torch.load(tmp_path / folder / f"tiny@{step}.pt", weights_only=True) for folder in ("whole", "killed")
        )
        assert one["interventions"] == other["interventions"] == [{"state": step}]
        assert all(torch.equal(value, other["network"][name]) for name, value in one["network"].items())


@pytest.mark.parametrize("first", [True, False])
def test_a_frozen_prefix_keeps_its_statistics_when_batch_norm_is_recalibrated(
    first: bool, recipe: Recipe, images: ImageSet, tmp_path: Path
) -> None:
    specs: list[InterventionSpec] = [FrozenPrefixSpec(model="other", layers=2), BatchNormRecalibrationSpec()]
    shared = _other(recipe)
    changes = {"interventions": tuple(specs if first else reversed(specs)), "epochs": 1, "snapshots": (3,)}
    changed = recipe.model_copy(update=changes)
    run = train(changed, images, checkpoint=tmp_path / "tiny.pt", device="cpu", load_network=lambda _: _other(recipe))
    snapshot = snapshot_network(changed, tmp_path / "tiny@3.pt", images, load_network=lambda _: _other(recipe))
    plain = recipe.model_copy(update={"interventions": (FrozenPrefixSpec(model="other", layers=2),), "epochs": 1})
    without = train(plain, images, device="cpu", load_network=lambda _: _other(recipe)).network.state_dict()
    for network in (run.network, snapshot):
        for name, value in network.state_dict().items():
            if name.startswith(("conv.", "norm.", "stage1.0.")):
                assert torch.equal(value, shared.state_dict()[name]), name
            elif name.endswith("running_mean"):
                assert not torch.equal(value, without[name]), name
            elif "num_batches" not in name and "running" not in name:
                assert torch.equal(value, without[name]), name


def _other(recipe: Recipe) -> nn.Module:
    torch.manual_seed(5)
    network = build_architecture(recipe.architecture).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.uniform_(-1, 1)
    return network


def test_a_loop_of_ones_own_comes_to_the_same_weights_with_the_public_objects(recipe: Recipe, images: ImageSet) -> None:
    specs = (
        FrozenPrefixSpec(model="other", layers=2),
        ColourJitterSpec(),
        PrincipalComponentPenaltySpec(delta=0.01),
        BatchNormRecalibrationSpec(batches=2),
    )
    changed = recipe.model_copy(update={"interventions": specs})
    expected = train(changed, images, device="cpu", load_network=lambda _: _other(recipe)).network.state_dict()

    torch.manual_seed(changed.seed)
    network = build_architecture(changed.architecture)
    penalty = PrincipalComponentPenalty(delta=0.01)
    interventions = [FrozenPrefix(_other(recipe), layers=2), ColourJitter(), penalty, BatchNormRecalibration(batches=2)]
    for one in interventions:
        network = one.prepare(network)
    network = network.to(memory_format=torch.channels_last)
    optimizer = setup.make_optimizer(network, changed)
    for epoch in range(changed.epochs):
        for group in optimizer.param_groups:
            group["lr"] = setup.learning_rate(changed, epoch)
        network.train()
        for batch, labels in setup.training_batches(changed, images, list(interventions), epoch):
            loss = F.cross_entropy(network(batch), labels)
            if (extra := penalty.penalty()) is not None:
                loss = loss + extra
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def batches() -> Iterator[Tensor]:
        return (batch for batch, _ in setup.training_batches(changed, images, list(interventions), changed.epochs))

    for one in interventions:
        one.calibrate(network, batches)
    for one in interventions:
        network = one.finish(network)
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_snapshot_is_finished_like_the_network_itself(
    diaries: list[Diary], recipe: Recipe, images: ImageSet, tmp_path: Path
) -> None:
    kept = recipe.model_copy(update={"snapshots": (0, 4, 6)})
    run = train(kept, images, checkpoint=tmp_path / "tiny.pt", device="cpu")
    last = snapshot_network(kept, tmp_path / "tiny@6.pt", images)
    assert diaries[-1].calls == ["prepare", "load", "calibrate", *["augment"] * 3, "finish"]
    assert diaries[-1].state == 6
    expected = run.network.state_dict()
    assert not last.training
    assert all(torch.equal(value, expected[name]) for name, value in last.state_dict().items())
    start = snapshot_network(kept, tmp_path / "tiny@0.pt", images).state_dict()
    torch.manual_seed(kept.seed)
    fresh = build_architecture(kept.architecture).state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in start.items())


@pytest.mark.parametrize(
    "spec",
    [
        PrincipalComponentPenaltySpec(delta=0.01),
        ColourJitterSpec(),
        InitialiseFromSpec(model="other"),
        FrozenPrefixSpec(model="other", layers=2),
        FrozenPrefixSpec(layers=2),
        RotationSpec(site="stage2.0.relu2", model="other"),
        BatchNormRecalibrationSpec(),
    ],
    ids=lambda spec: f"{spec.kind}-{getattr(spec, 'model', None)}",
)
def test_every_intervention_of_the_zoo_trains_stops_and_continues_to_the_same_weights(
    spec: InterventionSpec, recipe: Recipe, images: ImageSet, tmp_path: Path
) -> None:
    def kill(row: dict[str, float]) -> None:
        raise KilledError

    def load_network(name: str) -> nn.Module:
        assert name == "other"
        torch.manual_seed(5)
        return build_architecture(recipe.architecture).eval()

    changed = recipe.model_copy(update={"interventions": (spec,), "batch_size": 20})
    whole = train(changed, images, device="cpu", load_network=load_network)
    with pytest.raises(KilledError):
        train(
            changed,
            images,
            checkpoint=tmp_path / "a.pt",
            on_epoch=kill,
            device="cpu",
            load_network=load_network,
        )
    resumed = train(changed, images, checkpoint=tmp_path / "a.pt", device="cpu", load_network=load_network)
    assert _equal(whole, resumed)
    plain = train(changed.model_copy(update={"interventions": ()}), images, device="cpu")
    assert [key for key in whole.network.state_dict() if "conv" in key] == [
        key for key in plain.network.state_dict() if "conv" in key
    ]
    expected = plain.network.state_dict()
    assert any(
        not torch.equal(value, expected.get(key, value[:0])) for key, value in whole.network.state_dict().items()
    )
