import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn
from zarr.storage import MemoryStore, WrapperStore

import outcrop
from outcrop.errors import AnalysisError, LayerNotFoundError, ParameterError
from outcrop.numerics import cka
from outcrop.testing import IndexData
from outcrop.tracking.tracker import TrackingWarning

IMAGES = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 12), nn.ReLU(), nn.Dropout(0.4), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    )


def step_on(net: nn.Module) -> None:
    """Change the weights as a training would."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))


def outputs(net: nn.Sequential, images: Tensor) -> dict[str, Tensor]:
    """Return the value of every module, found without outcrop."""
    found, value = {}, images
    net.eval()
    with torch.no_grad():
        for name, module in net.named_children():
            value = found[name] = module(value)
    net.train()
    return found


def share(features: Tensor) -> float:
    """Return the first principal component's share of variance, by singular values."""
    values = torch.linalg.svdvals((features - features.mean(0)).double())
    return float(values[0] ** 2 / (values**2).sum())


def test_the_numbers_are_those_of_the_outputs_at_each_step() -> None:
    net = network()
    tracker = outcrop.Tracker(net, IMAGES, layers="all", compare=["first", "previous"])
    seen = []
    for step in (0, 10, 30):
        tracker.update(step)
        seen.append(outputs(net, IMAGES))
        step_on(net)
    found = tracker.dataset
    names = [name for name in found["name"].values.tolist() if name in seen[0]]
    assert len(names) >= 6
    rows = {name: found["name"].values.tolist().index(name) for name in names}
    for position, values in enumerate(seen):
        for one in names:
            assert found["pc_share"].values[position, rows[one]] == pytest.approx(share(values[one]), abs=1e-5)
            for variable, earlier in (("similarity_to_first", 0), ("similarity_to_previous", position - 1)):
                got = found[variable].values[position, rows[one]]
                if earlier < 0:
                    assert np.isnan(got)
                else:
                    assert got == pytest.approx(cka(values[one], seen[earlier][one]), abs=1e-5)
            for other in names:
                got = found["similarity"].values[position, rows[one], rows[other]]
                assert got == pytest.approx(cka(values[one], values[other]), abs=1e-5)
    assert tracker.steps == (0, 10, 30)
    assert found["step"].values.tolist() == [0, 10, 30]
    assert found.attrs["sample_count"] == 24


def test_several_batches_give_the_ratio_of_sums_over_them() -> None:
    net = network()
    tracker = outcrop.Tracker(net, IMAGES, layers="3", batch_size=8, compare=["first"])
    tracker.update(0)
    before = outputs(net, IMAGES)["3"]
    step_on(net)
    tracker.update(1)
    after = outputs(net, IMAGES)["3"]
    from outcrop.numerics import unbiased_hsic

    def hsic(x: Tensor, y: Tensor) -> float:
        pairs = [(x[i : i + 8].double(), y[i : i + 8].double()) for i in (0, 8, 16)]
        return sum(unbiased_hsic((a @ a.T).numpy(), (b @ b.T).numpy()) for a, b in pairs)

    expected = hsic(before, after) / (hsic(before, before) * hsic(after, after)) ** 0.5
    assert tracker.dataset["similarity_to_first"].values[1, 0] == pytest.approx(expected, abs=1e-6)


def test_only_steps_that_are_due_are_tracked() -> None:
    tracker = outcrop.Tracker(network(), IMAGES, layers="3", every=10)
    assert [step for step in range(35) if tracker(step)] == [0, 10, 20, 30]
    assert tracker.steps == (0, 10, 20, 30)


def test_in_training_mode_dropout_and_the_statistics_of_the_batch_are_seen() -> None:
    net = network()
    evaluated = outcrop.Tracker(net, IMAGES, layers="all")
    trained = outcrop.Tracker(net, IMAGES, layers="all", mode="training")
    evaluated.update(0)
    trained.update(0)
    trained.update(1)
    assert trained.dataset.attrs["mode"] == "training"
    # Dropout is the same at every step, so that it does not look like a change of the network.
    np.testing.assert_array_equal(trained.dataset["similarity"].values[0], trained.dataset["similarity"].values[1])
    different = np.abs(trained.dataset["pc_share"].values[0] - evaluated.dataset["pc_share"].values[0]) > 1e-3
    names = np.array(trained.dataset["name"].values.tolist())
    assert set(names[different]) >= {"3", "4"}
    assert not different[names == "0"].any()


def test_a_layer_that_tells_no_samples_apart_has_no_value_and_is_said_so() -> None:
    net = network()
    nn.init.zeros_(net[3].weight)
    tracker = outcrop.Tracker(net, IMAGES, layers="all", compare=["first", "previous"])
    tracker.update(0)
    found = tracker.dataset
    row = found["name"].values.tolist().index("3")
    assert found["degenerate"].values[0, row]
    for variable in ("pc_share", "similarity_to_first"):
        assert np.isnan(found[variable].values[0, row])
    with torch.no_grad():
        net[0].weight[0, 0] = float("nan")
    tracker.update(1)
    assert tracker.dataset["non_finite_count"].values[1].max() > 0
    assert np.isnan(tracker.dataset["similarity_to_first"].values[1]).any()


def test_what_is_stored_is_one_validated_result_that_plain_xarray_reads(tmp_path: Path) -> None:
    net = network()
    tracker = outcrop.Tracker(net, IMAGES, layers="all", study=tmp_path / "s.zarr", name="small", compare=["first"])
    for step in (0, 5, 9):
        tracker.update(step)
        step_on(net)
        study = outcrop.open(tmp_path / "s.zarr")
        [run] = study.results["tracking"].children
        stored = study.result("tracking")["trajectory"].to_dataset()
        xr.testing.assert_allclose(stored, tracker.dataset)
        tree = xr.open_datatree(tmp_path / "s.zarr", engine="zarr")
        assert list(tree["results/tracking"].children) == [run]
        assert tree[f"results/tracking/{run}/trajectory"]["step"].values.tolist() == list(tracker.steps)
    record = json.loads(study.result("tracking").attrs["provenance"])
    assert record["models"][0]["name"] == "small"
    assert record["models"][0]["fingerprint"].startswith("structure:")
    assert record["models"][0]["preprocessing"] == "none"
    assert record["parameters"]["steps"] == [0, 5, 9]
    assert record["data"]["samples"] == 24
    assert study.data[record["data"]["node"]].sizes["sample"] == 24
    assert outcrop.open(tmp_path / "s.zarr", mode="a").prune() == ()


def test_two_trainings_of_one_network_are_two_results(tmp_path: Path) -> None:
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    for _ in range(2):
        tracker = outcrop.Tracker(network(), IMAGES, layers="3", study=study)
        tracker.update(0)
        tracker.update(1)
    assert len(study.results["tracking"].children) == 2


def test_a_training_that_starts_again_continues_its_trajectory(tmp_path: Path) -> None:
    net = network()
    first = outcrop.Tracker(net, IMAGES, layers="3", study=tmp_path / "s.zarr", compare=["first", "previous"])
    for step in (0, 10, 20):
        first.update(step)
    again = outcrop.Tracker(
        net, IMAGES, layers="3", study=tmp_path / "s.zarr", compare=["first", "previous"], resume=True
    )
    assert again.steps == (0, 10, 20)
    again.update(15)  # from the checkpoint of step 10 on
    again.update(30)
    assert again.steps == (0, 10, 15, 30)
    values = again.dataset
    np.testing.assert_array_equal(values["similarity"].values[:2], first.dataset["similarity"].values[:2])
    # The network of step 0 is gone, so similarity to it is not known; that to step 15 is.
    assert np.isnan(values["similarity_to_first"].values[2:]).all()
    assert np.isnan(values["similarity_to_previous"].values[2]).all()
    assert values["similarity_to_previous"].values[3] == pytest.approx(1)
    study = outcrop.open(tmp_path / "s.zarr")
    [run] = study.results["tracking"].children
    assert study.result("tracking", run)["trajectory"]["step"].values.tolist() == [0, 10, 15, 30]


def test_a_step_that_is_tracked_again_after_a_restart_is_renewed_like_any_other(tmp_path: Path) -> None:
    net, study = network(), outcrop.open(tmp_path / "s.zarr", mode="a")
    tracker = outcrop.Tracker(net, IMAGES, layers="all", study=study)
    tracker.update(0)
    tracker.save()
    [before] = study.results["tracking"].children
    step_on(net)
    again = outcrop.Tracker(net, IMAGES, layers="all", study=study, resume=True)
    again.update(0)
    [after] = study.results["tracking"].children
    assert after != before
    stored = study.result("tracking")["trajectory"].to_dataset()
    assert stored["step"].values.tolist() == [0]
    xr.testing.assert_allclose(stored, again.dataset)
    assert not np.allclose(stored["similarity"].values, tracker.dataset["similarity"].values, equal_nan=True)


def test_what_is_resumed_must_be_the_same_question(tmp_path: Path) -> None:
    outcrop.Tracker(network(), IMAGES, layers="3", study=tmp_path / "s.zarr").update(0)
    for options in ({"layers": "0"}, {"layers": "3", "name": "other"}, {"layers": "3", "batch_size": 12}):
        with pytest.raises(
            AnalysisError,
            match=r"holds nothing to resume: no tracking of '\w+' with these layers, samples and settings, of 1 in "
            r"all\. Leave out resume to begin\.",
        ):
            outcrop.Tracker(network(), IMAGES, study=tmp_path / "s.zarr", resume=True, **options)
    with pytest.raises(AnalysisError, match="holds nothing to resume"):
        outcrop.Tracker(network(), IMAGES + 1, layers="3", study=tmp_path / "s.zarr", resume=True)


def test_what_an_earlier_outcrop_tracked_is_continued(tmp_path: Path) -> None:
    outcrop.Tracker(network(), IMAGES, layers="3", study=tmp_path / "s.zarr", mode="training").update(0)
    [file] = (tmp_path / "s.zarr" / "results" / "tracking").glob("*/zarr.json")
    stored = json.loads(file.read_text("utf-8"))
    record = json.loads(stored["attributes"]["provenance"])
    assert record["models"][0]["mode"] == "training"
    for name in ("mode", "reduction", "arithmetic"):  # which were not recorded then
        del record["models"][0][name]
    stored["attributes"]["provenance"] = json.dumps(record)
    file.write_text(json.dumps(stored), "utf-8")
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    study.refresh()
    again = outcrop.Tracker(network(), IMAGES, layers="3", study=study, mode="training", resume=True)
    assert again.steps == (0,)
    with pytest.raises(AnalysisError, match="holds nothing to resume"):
        outcrop.Tracker(network(), IMAGES, layers="3", study=study, resume=True)


class Killed(BaseException):
    pass


class FailingStore(WrapperStore[Any]):
    """Is killed at a change, or refuses it."""

    left = 1 << 60
    error: type[BaseException] = Killed

    def _change(self, key: str) -> None:
        if key.endswith("lock"):
            return
        if self.left <= 0:
            raise self.error(28, "No space left on device") if self.error is OSError else self.error()
        type(self).left = self.left - 1

    async def set(self, key: str, value: Any, *arguments: Any, **keywords: Any) -> None:
        self._change(key)
        await super().set(key, value, *arguments, **keywords)

    async def delete(self, key: str) -> None:
        self._change(key)
        await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        self._change(prefix)
        await super().delete_dir(prefix)


def test_killed_at_any_moment_a_training_loses_nothing_that_was_tracked() -> None:
    net, kills, done = network(), 0, False
    while not done:

        class Failing(FailingStore):
            pass

        memory = MemoryStore()
        tracker = outcrop.Tracker(net, IMAGES, layers="3", study=outcrop.open(Failing(memory), mode="a"))
        tracker.update(0)
        tracker.update(1)
        Failing.left = kills
        try:
            tracker.update(2)
            done = True
        except Killed:
            pass
        Failing.left = 1 << 60
        for run in (found := outcrop.open(memory).results["tracking"].children):
            stored = found[run]["trajectory"]["step"].values.tolist()
            assert stored in ([0, 1], [0, 1, 2])
        assert len(found) >= 1
        again = outcrop.Tracker(net, IMAGES, layers="3", study=outcrop.open(Failing(memory), mode="a"), resume=True)
        assert again.steps[:2] == (0, 1)
        again.update(3)
        [run] = outcrop.open(memory).results["tracking"].children
        assert xr.open_datatree(memory, engine="zarr")[f"results/tracking/{run}/trajectory"].sizes["step"] >= 3
        kills += 9
    assert kills > 50


def test_a_study_that_cannot_be_written_does_not_end_the_training() -> None:
    class Full(FailingStore):
        error = OSError

    memory = MemoryStore()
    tracker = outcrop.Tracker(network(), IMAGES, layers="3", study=outcrop.open(Full(memory), mode="a"))
    tracker.update(0)
    Full.left = 0
    with pytest.warns(
        TrackingWarning, match=r"Step 1 of 'Sequential' was tracked and could not be stored: .*No space left"
    ):
        tracker.update(1)
    Full.left = 1 << 60
    tracker.save()
    assert outcrop.open(memory).result("tracking")["trajectory"]["step"].values.tolist() == [0, 1]


def test_pictures_and_data_are_taken_as_load_data_takes_them(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    pictures = np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3), dtype=np.uint8)
    model = outcrop.load_model(net, name="own", input_shape=(3, 8, 8))
    tracker = outcrop.Tracker(model, pictures, layers="all", study=tmp_path / "s.zarr")  # type: ignore[arg-type]
    tracker.update(0)
    record = json.loads(outcrop.open(tmp_path / "s.zarr").result("tracking").attrs["provenance"])
    assert record["models"][0]["preprocessing"].startswith("shorter side to 8")
    assert set(tracker.dataset["model"].values.tolist()) == {"own"}
    floats = np.random.default_rng(1).normal(size=(8, 3, 8, 8)).astype(np.float32)
    assert len(outcrop.Tracker(net, outcrop.load_data(floats), layers="all").layers) == len(tracker.layers)


def test_wrapped_networks_are_tracked_inside() -> None:
    net = network()
    for wrapped in (nn.DataParallel(net), torch.compile(net)):
        tracker = outcrop.Tracker(wrapped, IMAGES, layers="3")  # type: ignore[arg-type]
        tracker.update(0)
        assert tracker.dataset["name"].values.tolist() == ["3"]
        assert net.training


def test_what_makes_no_sense_is_told() -> None:
    net = network()
    with pytest.raises(ParameterError, match=r"every is 0; expected a whole number above 0\."):
        outcrop.Tracker(net, IMAGES, every=0)
    with pytest.raises(ParameterError, match=r"Unknown mode 'eval'; expected evaluation or training\."):
        outcrop.Tracker(net, IMAGES, mode="eval")  # type: ignore[arg-type]
    for wrong in ("first", ["last"]):
        with pytest.raises(ParameterError, match=r"compare is .*; expected a list of any of first, previous\."):
            outcrop.Tracker(net, IMAGES, compare=wrong)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"resume needs the study that holds what is to be continued; give study"):
        outcrop.Tracker(net, IMAGES, resume=True)
    with pytest.raises(LayerNotFoundError):
        outcrop.Tracker(net, IMAGES, layers="nothing")
    with pytest.raises(ParameterError, match="group_size must be at least 4"):
        outcrop.Tracker(net, IMAGES[:3], layers="3")
    tracker = outcrop.Tracker(net, IMAGES, layers="3")
    with pytest.raises(AnalysisError, match=r"Nothing was tracked yet; call the tracker with a step\."):
        _ = tracker.dataset
    with pytest.raises(AnalysisError, match=r"The tracker has no study to save to; give it study=PATH\."):
        tracker.save()
    with pytest.raises(ParameterError, match=r"The step is -1; expected a whole number, 0 or above\."):
        tracker.update(-1)
    tracker.update(5)
    with pytest.raises(ParameterError, match=r"Step 5 does not come after step 5, which was tracked last; steps must"):
        tracker.update(5)


def test_tokens_are_given_to_a_network_that_says_what_it_takes() -> None:
    net = nn.Sequential(nn.Embedding(40, 8), nn.Flatten(), nn.Linear(8, 4))
    tracker = outcrop.Tracker(net, IndexData(30), layers="all")
    tracker.update(0)
    assert tracker.dataset.sizes["layer"] >= 2
