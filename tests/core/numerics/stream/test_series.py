"""CKA along a series of checkpoints, against slow arithmetic of its own and against all pairs at once."""

import gc

import numpy as np
import pytest
import torch

from outcrop.errors import AnalysisError, ParameterError
from outcrop.models.model import Layer
from outcrop.numerics import GramAccumulator, SeriesAccumulator, unbiased_hsic
from outcrop.testing import AccumulatorTests, noise_layers

STEPS = ("start", "middle", "end")


def layer(index: int) -> Layer:
    return Layer(f"layer{index}", "block", index, (5,), "float32", "Linear", ("feature",))


LAYERS = tuple(layer(index) for index in range(4))


def drifting(samples: int = 90, *, seed: int = 0, dtype=np.float64) -> dict[str, list[np.ndarray]]:
    """Return (step, layer) values: layers that share a part, which each step moves on from."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((samples, 6))
    values = {}
    for step in STEPS:
        shared = shared + 0.7 * rng.standard_normal((samples, 6))
        values[step] = [
            (shared @ rng.standard_normal((6, 5 + index)) + rng.standard_normal((samples, 5 + index)) + 3).astype(dtype)
            for index in range(len(LAYERS))
        ]
    return values


def feed(accumulator, values, *, group=30, order=("end", "start", "middle"), samples=None):
    count = len(values["end"][0])
    chosen = np.arange(count) if samples is None else samples
    for start in range(0, len(chosen), group):
        index = chosen[start : start + group]
        for step in order:
            for one, full in zip(LAYERS, values[step], strict=True):
                accumulator.update(step, one, index, torch.from_numpy(full[index]))
        accumulator.end_batch()
    return accumulator


def slow_cka(a: np.ndarray, b: np.ndarray, group: int) -> float:
    """Return the ratio of means of HSIC1 in float64, batch by batch."""

    def hsic(x, y):
        total = 0.0
        for start in range(0, len(x), group):
            one, other = (part[start : start + group] - part[start : start + group].mean(0) for part in (x, y))
            n = len(one)
            total += n * (n - 3) * unbiased_hsic(one @ one.T, other @ other.T)
        return total

    return hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b))


class TestSeries(AccumulatorTests):
    def make(self):
        layers = [Layer(f"layer{index}", "other", index, (), "float32", "array", ("feature",)) for index in range(5)]
        return SeriesAccumulator(["first", "second"], layers, group_size=self.batch_size)

    def activations(self):
        # The engine feeds in this order: the last one first.
        return {"second": noise_layers(samples=120, seed=1), "first": noise_layers(samples=120)}


def test_maps_equal_slow_arithmetic_batch_by_batch():
    values = drifting(80)
    found = feed(SeriesAccumulator(STEPS, LAYERS, group_size=30), values).finish()  # the last batch has 20
    for step, name in enumerate(STEPS):
        for a in range(len(LAYERS)):
            for b in range(len(LAYERS)):
                within = slow_cka(values[name][a], values[name][b], 30)
                to_last = slow_cka(values[name][a], values["end"][b], 30)
                assert found.similarity[step, a, b] == pytest.approx(within, abs=1e-10)
                assert found.similarity_to_last[step, a, b] == pytest.approx(to_last, abs=1e-10)
            centred = [values[name][a][start : start + 30] for start in range(0, 80, 30)]
            eigen = [np.linalg.eigvalsh(np.cov(part.T)) for part in centred]
            shares = [one[-1] / one.sum() for one in eigen]
            assert found.pc_share[step, a] == pytest.approx(np.average(shares, weights=[30, 30, 20]), abs=1e-10)


def test_maps_and_errors_equal_those_of_all_pairs_at_once():
    values = drifting(200, dtype=np.float32)
    everything = GramAccumulator(group_size=20, principal_component=False)
    found = feed(SeriesAccumulator(STEPS, LAYERS, group_size=20), values, group=20).finish()
    wanted = feed(everything, values, group=20, order=STEPS).finish()
    count = len(LAYERS)
    for step in range(len(STEPS)):
        rows, last = slice(step * count, (step + 1) * count), slice(2 * count, 3 * count)
        for mine, full in ((found.similarity, wanted.similarity), (found.standard_error, wanted.standard_error)):
            np.testing.assert_allclose(mine[step], full[rows, rows], rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.similarity_to_last[step], wanted.similarity[rows, last], rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            found.standard_error_to_last[step], wanted.standard_error[rows, last], rtol=0, atol=1e-12
        )
    assert (found.sample_count, found.skipped_samples, found.batch_count) == (200, 0, 10)


def test_a_layer_that_turns_is_still_itself_and_one_that_is_redrawn_is_not():
    rng = np.random.default_rng(3)
    values = drifting(120)
    rotation, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    values["middle"] = [values["end"][0] @ rotation * 7, *(rng.standard_normal((120, 6 + i)) for i in range(3))]
    found = feed(SeriesAccumulator(STEPS, LAYERS, group_size=30), values).finish()
    assert found.similarity_to_last[1, 0, 0] == pytest.approx(1, abs=1e-10)
    assert np.abs(np.diag(found.similarity_to_last[1])[1:]).max() < 0.1
    np.testing.assert_array_equal(found.similarity_to_last[-1], found.similarity[-1])


def test_a_layer_without_variance_or_with_nan_leaves_its_step_alone():
    values = drifting(60)
    plain = feed(SeriesAccumulator(STEPS, LAYERS, group_size=30), values).finish()
    values["start"][1] = np.full_like(values["start"][1], 0.1)
    values["middle"][2] = values["middle"][2].copy()
    values["middle"][2][7, 0] = np.nan
    found = feed(SeriesAccumulator(STEPS, LAYERS, group_size=30), values).finish()
    assert [tuple(at) for at in np.argwhere(found.degenerate)] == [(0, 1), (1, 2)]
    assert found.non_finite_count.sum() == found.non_finite_count[1, 2] == 1
    for name in ("similarity", "similarity_to_last", "standard_error", "standard_error_to_last"):
        mine, wanted = getattr(found, name), getattr(plain, name)
        assert np.isnan(mine[0, 1]).all()
        assert np.isnan(mine[1, 2]).all()
        known = np.isfinite(mine)
        np.testing.assert_allclose(mine[known], wanted[known], rtol=0, atol=1e-12)
        assert known[2].all()
        assert known[0, :, 1].any() == (name.endswith("last"))  # columns are layers of the last checkpoint


def test_sizes_far_from_one_lose_no_digits():
    values = drifting(60)
    wanted = feed(SeriesAccumulator(STEPS, LAYERS, group_size=30), values).finish()
    values["start"][0] = values["start"][0] * 2.0**400
    values["end"][3] = values["end"][3] * 2.0**-300
    found = feed(SeriesAccumulator(STEPS, LAYERS, group_size=30), values).finish()
    np.testing.assert_allclose(found.similarity_to_last, wanted.similarity_to_last, rtol=0, atol=1e-12)


def test_further_passes_add_to_the_maps_and_not_to_the_groups():
    values = drifting(60)
    twice = SeriesAccumulator(STEPS, LAYERS, group_size=30, passes=2)
    feed(twice, values)
    assert twice.needs_pass()
    twice.begin_pass(1)
    assert not twice.needs_pass()
    feed(twice, values, samples=np.random.default_rng(0).permutation(60))
    once = feed(SeriesAccumulator(STEPS, LAYERS, group_size=30), values).finish()
    found = twice.finish()
    np.testing.assert_allclose(found.standard_error_to_last, once.standard_error_to_last, atol=1e-14)
    assert np.abs(found.similarity_to_last - once.similarity_to_last).max() > 1e-6
    assert found.sample_count == 120


def test_a_single_group_has_no_error_and_a_last_group_of_three_is_skipped():
    found = feed(SeriesAccumulator(STEPS, LAYERS, group_size=30), drifting(33)).finish()
    assert np.isnan(found.standard_error).all()
    assert (found.sample_count, found.skipped_samples, found.batch_count) == (30, 3, 1)


def test_matrices_of_two_checkpoints_are_held_however_many_there_are():
    samples, names = 40, [f"step{index}" for index in range(9)]
    size = len(LAYERS) * samples * (samples - 1) // 2
    accumulator = SeriesAccumulator(names, LAYERS, group_size=samples)
    for name in (names[-1], *names[:-1]):
        for one in LAYERS:
            accumulator.update(name, one, np.arange(samples), torch.randn(samples, 7))
    gc.collect()
    held = [one for one in gc.get_objects() if type(one) is torch.Tensor and one.numel() == size]
    assert len(held) == 2


def test_options_out_of_range_are_refused():
    for options, words in (
        ({"group_size": 3}, "group_size must be at least 4, which HSIC1 needs; got 3"),
        ({"passes": 0}, "passes must be at least 1; got 0"),
    ):
        with pytest.raises(ParameterError, match=words):
            SeriesAccumulator(STEPS, LAYERS, **options)
    with pytest.raises(ParameterError, match="takes checkpoints of different names; got a, a"):
        SeriesAccumulator(["a", "a"], LAYERS)
    with pytest.raises(ParameterError, match="takes checkpoints of different names; got none"):
        SeriesAccumulator([], LAYERS)
    with pytest.raises(ParameterError, match="compares layers; got none"):
        SeriesAccumulator(STEPS, [])


def test_another_order_of_checkpoints_or_layers_is_refused():
    index = np.arange(4)
    values = torch.randn(4, 5)
    accumulator = SeriesAccumulator(STEPS, LAYERS)
    with pytest.raises(
        AnalysisError, match="'start' comes where 'end' is expected: in every group the last checkpoint"
    ):
        accumulator.update("start", LAYERS[0], index, values)
    with pytest.raises(AnalysisError, match="Layer 'layer1' of model 'end' comes where layer 'layer0' of 'end' is exp"):
        accumulator.update("end", LAYERS[1], index, values)
    accumulator = SeriesAccumulator(STEPS, LAYERS[:1])
    accumulator.update("end", LAYERS[0], index, values)
    with pytest.raises(AnalysisError, match="'end' comes where a checkpoint that has not come yet is expected"):
        accumulator.update("end", LAYERS[0], index, values)
    with pytest.raises(
        AnalysisError, match="'layer0' of model 'start' comes with other samples than the layers before"
    ):
        accumulator.update("start", LAYERS[0], index + 1, values)
    with pytest.raises(AnalysisError, match="gives 3 rows for 4 samples; its first dimension must be the sample"):
        accumulator.update("start", LAYERS[0], index, values[:3])
    with pytest.raises(AnalysisError, match="gives a single number for 4 samples"):
        accumulator.update("start", LAYERS[0], index, values[0, 0])
    with pytest.raises(AnalysisError, match="Checkpoint 'start' did not give all of its layers for the last group"):
        accumulator.end_batch()


def test_nothing_to_merge_or_to_finish_is_said():
    with pytest.raises(AnalysisError, match="needs at least 4 samples in a batch; got 0 in all"):
        SeriesAccumulator(STEPS, LAYERS).finish()
    with pytest.raises(AnalysisError, match="Only accumulators of the same series can be merged; got"):
        SeriesAccumulator(STEPS, LAYERS).merge(SeriesAccumulator(STEPS[1:], LAYERS))
