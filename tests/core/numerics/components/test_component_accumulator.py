"""Streamed components against full decompositions in double precision, and against what was planted."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.capture.engine import stream
from outcrop.capture.source import LiveSource
from outcrop.errors import AnalysisError, ParameterError
from outcrop.models.model import Layer
from outcrop.numerics import ComponentsAccumulator, GramAccumulator, cka
from outcrop.testing import AccumulatorTests, ArrayModel, IndexData, noise_layers, planted_block

SAMPLES = 300


class TestEverySource(AccumulatorTests):
    # No more features than vectors: each part is exact after one pass, so parts may go through it on their own.
    tolerance = 1e-10

    def make(self):
        return ComponentsAccumulator(count=4)

    def activations(self):
        first = noise_layers(layers=4, samples=120, features=5)
        first["image"] = np.random.default_rng(3).standard_normal((120, 2, 2, 2)).astype(np.float32)
        return {"first": first, "second": noise_layers(layers=3, samples=120, features=6, seed=1)}


class TestWorkersOfEveryPass(AccumulatorTests):
    """More features than vectors: several passes, which workers share."""

    tolerance = 1e-6

    def make(self):
        return ComponentsAccumulator(count=3, vectors=4, tolerance=1e-8)

    def activations(self):
        first = noise_layers(samples=120, features=12)
        first["image"] = np.random.default_rng(3).standard_normal((120, 3, 3, 2)).astype(np.float32)
        return {"first": first, "second": noise_layers(layers=2, samples=120, features=20, seed=1)}

    def _parts(self, count):
        """Return one accumulator for each part of the last pass; the passes before it were merged."""
        models = self.models()
        sources = [LiveSource(model, model.layers, IndexData(model.sample_count)) for model in models]
        windows = np.array_split(np.arange(120), count)
        leader, index = self.make(), 0
        while True:
            leader.begin_pass(index)
            workers = [pickle.loads(pickle.dumps(leader.worker())) for _ in windows]
            for worker, window in zip(workers, windows, strict=True):
                stream(sources, [worker], order=lambda _, window=window: window, batch_size=self.batch_size)
            merged = pickle.loads(pickle.dumps(leader))
            for worker in workers:
                merged.merge(worker)
            if not merged.needs_pass():
                break
            leader, index = merged, index + 1
        first = pickle.loads(pickle.dumps(leader))
        first.merge(workers[0])
        assert index >= 2
        return [first, *workers[1:]]

    def _agree(self, first, second):
        # What is left of an exhausted basis is rounding, of no size that could be compared.
        rounded = [dataclasses.replace(one, residual=one.residual.round(10)) for one in (first, second)]
        super()._agree(*rounded)

    def test_parts_may_be_merged_in_any_order(self):
        # Workers are merged into the accumulator that made them, which begins the next pass.
        leader, *workers = self._parts(3)
        for worker in reversed(workers):
            leader.merge(worker)
        models = self.models()
        self._agree(self._whole([LiveSource(m, m.layers, IndexData(m.sample_count)) for m in models]), leader.finish())


def run(layers, *, batch_size=64, shuffled=True, **options):
    """Return the components of arrays (sample, ...) by layer name, every pass in another order."""
    model = ArrayModel("model", layers)
    accumulator = ComponentsAccumulator(**options)
    rng = np.random.default_rng(0)
    count = model.sample_count
    stream(
        [LiveSource(model, model.layers, IndexData(count))],
        [accumulator],
        order=lambda _: rng.permutation(count) if shuffled else np.arange(count),
        batch_size=batch_size,
    )
    return accumulator.finish()


def decompose(values):
    """Return shares, projections on the first component and norms, by a full decomposition."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    flat = flat - flat.mean(axis=0)
    u, s, _ = np.linalg.svd(flat, full_matrices=False)
    return s**2 / (s**2).sum(), u[:, 0] * s[0], np.linalg.norm(flat, axis=1)


def assert_right(found, row, values, *, share=1e-6, projection=1e-6):
    shares, projections, norms = decompose(values)
    sign = np.sign(projections @ found.projections[row])
    known = ~np.isnan(found.share[row])
    assert abs(found.share[row, 0] - shares[0]) <= share
    np.testing.assert_allclose(found.share[row][known], shares[: known.sum()], atol=2e-3)
    size = np.abs(projections).max()
    np.testing.assert_allclose(found.projections[row], sign * projections, atol=projection * size)
    np.testing.assert_allclose(found.norms[row], norms, atol=1e-6 * norms.max())
    unit = projections / np.linalg.norm(projections)
    np.testing.assert_allclose(found.effective_samples[row], 1 / (unit**4).sum(), rtol=1e-5)


def decaying(features, decay, *, seed=0, dtype=np.float32, shape=None):
    values = np.random.default_rng(seed).standard_normal((SAMPLES, features)) * np.arange(1, features + 1.0) ** -decay
    return values.reshape(SAMPLES, *(shape or (features,))).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize(("features", "decay"), [(600, 1.0), (200, 0.5), (40, 2.0), (9, 0.3), (5, 0.1), (1, 0)])
def test_shares_projections_and_norms_are_those_of_a_full_decomposition(features, decay, dtype):
    values = decaying(features, decay, dtype=dtype)
    found = run({"layer": values}, tolerance=1e-6)
    assert found.converged.all()
    assert_right(found, 0, values)


def test_projections_are_placed_by_sample():
    accumulator = ComponentsAccumulator(count=2)
    model = ArrayModel("model", {"a": decaying(5, 1.0)[:20]})
    source = LiveSource(model, model.layers, IndexData(20))
    stream([source], [accumulator], order=lambda _: np.array([7, 2, 11, 3]), batch_size=3)
    found = accumulator.finish()
    assert found.projections_by_layer()["model", "a"].shape == (12,)
    placed = found.projections_by_layer(20)["model", "a"]
    assert np.flatnonzero(~np.isnan(placed)).tolist() == [2, 3, 7, 11]
    np.testing.assert_array_equal(placed[[2, 3, 7, 11]], found.projections[0])


def test_all_shares_converge_with_a_smaller_tolerance():
    values = decaying(400, 1.0)
    found = run({"layer": values}, tolerance=1e-9, count=3)
    np.testing.assert_allclose(found.share[0], decompose(values)[0][:3], rtol=1e-9)
    assert (found.residual[0] < 1e-3).all()


def test_alignment_is_the_squared_cosine_of_the_first_components():
    layers = planted_block(samples=SAMPLES)
    layers["image"] = decaying(48, 1.0, shape=(3, 4, 4))
    found = run(layers, tolerance=1e-7)
    units = [decompose(values)[1] / np.linalg.norm(decompose(values)[1]) for values in layers.values()]
    np.testing.assert_allclose(found.alignment, np.square(np.stack(units) @ np.stack(units).T), atol=1e-6)
    assert found.alignment[4:10, 4:10].min() > 0.98
    assert [layer.name for _, layer in found.layers] == list(layers)


def test_a_component_that_five_per_cent_of_the_samples_carry_is_counted_so():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((1000, 64))
    carriers = rng.choice(1000, 50, replace=False)
    values[carriers] += 80 * np.eye(64)[3]
    found = run({"layer": values.astype(np.float32), "noise": rng.standard_normal((1000, 64)).astype(np.float32)})
    # An indicator of a share q, mean-free, has 1 / sum u^4 = n q (1 - q) / (1 - 3 q (1 - q)).
    q = 0.05
    assert found.effective_samples[0] == pytest.approx(1000 * q * (1 - q) / (1 - 3 * q * (1 - q)), rel=0.01)
    assert 45 < found.effective_samples[0] < 60
    assert found.effective_samples[1] > 250
    assert set(np.argsort(-np.abs(found.projections[0]))[:50]) == set(carriers)


@pytest.mark.parametrize("offset", [100, 1e4])
def test_an_offset_costs_no_digits(offset):
    values = (decaying(200, 0.7) + np.float32(offset)).astype(np.float32)
    assert_right(run({"layer": values}, tolerance=1e-6), 0, values)


def test_data_sorted_so_that_the_first_group_is_far_from_the_mean_costs_no_digits():
    values = decaying(100, 0.5)
    values[150:] += 30
    found = run({"layer": values}, shuffled=False, batch_size=32)
    assert_right(found, 0, values)


@pytest.mark.parametrize("factor", [1e-30, 1e-15, 1e15, 1e30])
def test_tiny_and_huge_features_are_decomposed_alike(factor):
    values = decaying(50, 1.0)
    plain = run({"layer": values})
    scaled = run({"layer": (values * factor).astype(np.float32)})
    np.testing.assert_allclose(scaled.share, plain.share, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(scaled.projections, plain.projections * factor, atol=1e-4 * plain.norms.max() * factor)


def test_features_that_grow_out_of_single_precision_after_the_first_group_are_decomposed():
    values = decaying(50, 1.0)
    values[200:] *= np.float32(1e25)
    assert_right(run({"layer": values}, shuffled=False), 0, values)


@pytest.mark.parametrize("strength", [10, 1e3, 1e5])
def test_what_lies_beside_a_dominant_component_is_not_lost(strength):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((SAMPLES, 80)) + strength * np.outer(np.arange(SAMPLES) % 20 == 0, np.ones(80))
    values = values.astype(np.float32)
    found = run({"layer": values})
    assert_right(found, 0, values, projection=1e-7 if strength > 100 else 1e-6)
    shares = decompose(values)[0]
    np.testing.assert_allclose(1 - found.share[0, 0], 1 - shares[0], rtol=1e-4)


def test_a_single_component_is_all_there_is():
    rng = np.random.default_rng(0)
    values = np.outer(rng.standard_normal(SAMPLES), rng.standard_normal(50)).astype(np.float32)
    found = run({"layer": values})
    assert found.share[0, 0] == pytest.approx(1, abs=1e-12)
    assert_right(found, 0, values)


def test_a_flat_spectrum_is_told_by_its_residual():
    values = np.random.default_rng(0).standard_normal((SAMPLES, 1500)).astype(np.float32)
    found = run({"layer": values}, maximum_passes=4)
    shares, _, _ = decompose(values)
    assert not found.converged[0]
    assert found.passes[0] == 4
    assert found.residual[0, 0] > 0.01
    # A Ritz value is never too large, and there is a true one within the residual.
    assert found.share[0, 0] <= shares[0]
    assert np.abs(found.share[0, 0] - shares).min() <= found.residual[0, 0] * found.share[0, 0]


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 60), st.integers(2, 80), st.floats(0, 2), st.integers(2, 5), st.integers(0, 10))
def test_the_residual_bounds_the_error_whatever_the_spectrum(samples, features, decay, passes, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((samples, features)) * np.arange(1, features + 1.0) ** -decay
    found = run({"layer": values}, maximum_passes=passes, batch_size=16, vectors=4, count=2, seed=seed)
    shares = decompose(values)[0]
    assert found.share[0, 0] <= shares[0] * (1 + 1e-9)
    bound = found.residual[0, 0] * found.share[0, 0] + 1e-9
    assert np.abs(found.share[0, 0] - shares).min() <= bound


def test_layers_rest_once_their_component_is_known():
    layers = {"small": decaying(5, 1), "steep": decaying(200, 3), "gentle": decaying(400, 0.5)}
    found = run(layers)
    assert found.passes[0] == 1
    assert found.passes[0] < found.passes[1] < found.passes[2]
    for row, values in enumerate(layers.values()):
        assert_right(found, row, values, projection=1e-4)


def test_the_seed_decides_the_result_to_the_last_digit_and_no_more_than_that():
    layers = {"layer": decaying(300, 0.7)}
    first, again, other = run(layers, seed=1), run(layers, seed=1), run(layers, seed=2)
    np.testing.assert_array_equal(first.projections, again.projections)
    assert (first.projections != other.projections).any()
    np.testing.assert_allclose(first.projections, other.projections, atol=1e-4 * np.abs(first.projections).max())


def test_neither_batches_nor_order_change_the_result_beyond_rounding():
    layers = {"layer": decaying(300, 0.7), "image": decaying(48, 1.0, shape=(3, 4, 4))}
    whole = run(layers, batch_size=SAMPLES, shuffled=False)
    for batch_size in (1, 7, 64):
        parts = run(layers, batch_size=batch_size)
        np.testing.assert_allclose(parts.projections, whole.projections, atol=1e-4 * np.abs(whole.projections).max())
        np.testing.assert_allclose(parts.share, whole.share, atol=1e-5)
        np.testing.assert_array_equal(parts.sample_index, np.arange(SAMPLES))


def test_memory_order_may_change_from_group_to_group():
    values = torch.from_numpy(decaying(96, 1.0, shape=(6, 4, 4)))
    accumulator = ComponentsAccumulator(tolerance=1e-7)
    plain = run({"layer": values.numpy()}, tolerance=1e-7)
    index = 0
    while True:
        accumulator.begin_pass(index)
        for number, start in enumerate(range(0, SAMPLES, 100)):
            part = values[start : start + 100]
            if number % 2 == index % 2:
                part = part.to(memory_format=torch.channels_last)
            accumulator.update("model", LAYER, np.arange(start, start + 100), part)
            accumulator.end_batch()
        index += 1
        if not accumulator.needs_pass():
            break
    found = accumulator.finish()
    np.testing.assert_allclose(found.share, plain.share, atol=1e-6)
    np.testing.assert_allclose(found.projections, plain.projections, atol=1e-6 * np.abs(plain.projections).max())


def test_parts_of_other_memory_orders_are_merged():
    values = torch.from_numpy(decaying(8, 1.0, shape=(2, 2, 2)))
    parts = []
    for start in (0, 100, 200):
        part = values[start : start + 100] + start
        parts.append(ComponentsAccumulator())
        if start:
            part = part.to(memory_format=torch.channels_last)
        parts[-1].update("model", LAYER, np.arange(start, start + 100), part)
        parts[-1].end_batch()
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    whole = values.numpy() + np.repeat([0, 100, 200], 100)[:, None, None, None]
    assert_right(parts[0].finish(), 0, whole)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 250])
def test_layers_with_values_that_are_not_finite_are_counted_and_left_out(bad, place):
    values = decaying(40, 1.0)
    spoilt = values.copy()
    spoilt[place, :3] = bad
    found = run({"spoilt": spoilt, "sound": values}, shuffled=False)
    assert found.non_finite_count.tolist() == [3, 0]
    assert found.degenerate.tolist() == [True, False]
    assert np.isnan(found.projections[0]).all()
    assert np.isnan(found.share[0]).all()
    assert np.isnan(found.alignment[0]).all()
    assert np.isnan(found.effective_samples[0])
    assert_right(found, 1, values, projection=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e30])
@pytest.mark.parametrize("features", [3, 40])
def test_constant_layers_are_reported(value, features):
    found = run({"constant": np.full((SAMPLES, features), value, np.float32), "other": decaying(40, 1.0)})
    assert found.degenerate.tolist() == [True, False]
    assert np.isnan(found.share[0]).all()
    assert np.isnan(found.norms[0]).all()
    assert found.projections_by_layer()["model", "constant"].tolist() == [0.0] * SAMPLES


def test_fewer_samples_than_vectors_have_fewer_components():
    values = decaying(40, 1.0)[:5]
    found = run({"layer": values})
    assert np.isnan(found.share[0]).tolist() == [False] * 4 + [True] * 4
    assert_right(found, 0, values)


def test_the_map_without_the_components_is_that_of_features_without_them():
    layers = planted_block(samples=SAMPLES, layers=6, start=1, stop=5)
    found = run(layers, tolerance=1e-7)
    model = ArrayModel("model", layers)
    grams = GramAccumulator(group_size=SAMPLES, projections=found.projections_by_layer())
    source = LiveSource(model, model.layers, IndexData(SAMPLES))
    stream([source], [grams], order=lambda _: np.arange(SAMPLES), batch_size=SAMPLES)
    removed = []
    for values in layers.values():
        flat = values.astype(np.float64) - values.astype(np.float64).mean(axis=0)
        u, s, v = np.linalg.svd(flat, full_matrices=False)
        removed.append(flat - s[0] * np.outer(u[:, 0], v[0]))
    expected = [[cka(a, b) for b in removed] for a in removed]
    statistics = grams.finish()
    np.testing.assert_allclose(statistics.similarity_without_pc1, expected, atol=1e-6)
    assert statistics.similarity[2, 3] > 0.9 > 0.2 > statistics.similarity_without_pc1[2, 3]


def test_projections_of_a_part_of_the_data_stand_at_the_positions_of_their_samples():
    rng = np.random.default_rng(0)
    values, chosen = rng.standard_normal((30, 5)), np.array([28, 4, 9, 11, 3, 17, 20, 8])
    accumulator = ComponentsAccumulator()
    accumulator.update("model", LAYER, chosen, torch.from_numpy(values[chosen]))
    accumulator.end_batch()
    placed = accumulator.finish().projections_by_layer()["model", "layer"]
    centred = values - values[chosen].mean(axis=0)
    expected = centred @ np.linalg.svd(centred[chosen], full_matrices=False)[2][0]
    assert len(placed) == 29
    assert np.flatnonzero(np.isfinite(placed)).tolist() == sorted(chosen)
    np.testing.assert_allclose(np.abs(placed[chosen]), np.abs(expected[chosen]), atol=1e-10)


LAYER = Layer("layer", "block", 0, (1,), "float32", "array", ("feature",))


def given_one(samples=10, *, index=None, layers=(LAYER,), **options):
    accumulator = ComponentsAccumulator(**options)
    rng = np.random.default_rng(0)
    accumulator.begin_pass(0)
    for layer in layers:
        accumulator.update("model", layer, np.arange(samples), torch.from_numpy(rng.standard_normal((samples, 20))))
    accumulator.end_batch()
    return accumulator


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "count must be at least 1; got 0"),
        ({"count": 9}, "vectors must be at least count, 9; got 8"),
        ({"tolerance": 1e-13}, "tolerance must be from 1e-12 to below 1; got 1e-13"),
        ({"maximum_passes": 1}, "maximum_passes must be at least 2, of which the first takes the means; got 1"),
    ],
)
def test_options_out_of_their_range_are_refused(options, words):
    with pytest.raises(ParameterError, match=words):
        ComponentsAccumulator(**options)


def test_values_that_do_not_fit_their_samples_are_refused():
    accumulator = ComponentsAccumulator()
    with pytest.raises(AnalysisError, match="gives 3 rows for 4 samples; its first dimension must be the sample"):
        accumulator.update("model", LAYER, np.arange(4), torch.zeros(3, 2))
    with pytest.raises(AnalysisError, match="gives a single number for 4 samples"):
        accumulator.update("model", LAYER, np.arange(4), torch.zeros(()))


def test_layers_of_other_samples_and_layers_that_come_twice_are_refused():
    accumulator = ComponentsAccumulator()
    accumulator.update("model", LAYER, np.arange(4), torch.zeros(4, 2))
    with pytest.raises(AnalysisError, match="comes with other samples than the layers before it"):
        accumulator.update("model", OTHER, np.arange(1, 5), torch.zeros(4, 2))
    with pytest.raises(AnalysisError, match="'layer' of model 'model' came twice for the same samples"):
        accumulator.update("model", LAYER, np.arange(4), torch.zeros(4, 2))


OTHER = Layer("other", "block", 1, (1,), "float32", "array", ("feature",))


def test_layers_that_come_and_go_are_refused():
    accumulator = given_one()
    with pytest.raises(AnalysisError, match="'other' of model 'model' gave no values for earlier samples and does now"):
        accumulator.update("model", OTHER, np.arange(4), torch.zeros(4, 2))
    accumulator = given_one(layers=(LAYER, OTHER))
    accumulator.update("model", LAYER, np.arange(10, 14), torch.zeros(4, 20))
    with pytest.raises(AnalysisError, match="gave values for earlier samples and none for the last group"):
        accumulator.end_batch()


def test_samples_that_come_twice_or_not_in_all_passes_are_refused():
    accumulator = given_one()
    accumulator.update("model", LAYER, np.arange(3), torch.zeros(3, 20))
    accumulator.end_batch()
    with pytest.raises(AnalysisError, match="Sample 0 came twice in one pass"):
        accumulator.finish()
    accumulator = given_one()
    assert accumulator.needs_pass()
    accumulator.begin_pass(1)
    accumulator.update("model", LAYER, np.arange(9), torch.zeros(9, 20))
    accumulator.end_batch()
    with pytest.raises(AnalysisError, match="Pass 2 had 9 samples and the first 10, or not the same ones"):
        accumulator.finish()


def test_without_samples_there_is_nothing_to_tell():
    with pytest.raises(AnalysisError, match="Components need samples; none came"):
        ComponentsAccumulator().finish()
    assert not ComponentsAccumulator().needs_pass()


def test_accumulators_of_other_settings_layers_or_passes_are_not_merged():
    with pytest.raises(AnalysisError, match="same settings can be merged"):
        given_one().merge(given_one(count=2))
    with pytest.raises(AnalysisError, match="one of them lacks layer 'other' of model 'model'"):
        given_one().merge(given_one(layers=(LAYER, OTHER)))
    parts = [given_one(), given_one()]
    for part in parts:
        assert part.needs_pass()
        part.begin_pass(1)
        part.update("model", LAYER, np.arange(10), torch.zeros(10, 20))
        part.end_batch()
    with pytest.raises(AnalysisError, match=r"only be merged within one pass.*give every part its worker\(\)"):
        parts[0].merge(parts[1])


def test_merging_leaves_the_other_as_it_was():
    part = ComponentsAccumulator()
    part.update("model", LAYER, np.arange(10, 20), torch.from_numpy(decaying(5, 1)[:10]))
    part.end_batch()
    before = part.finish()
    merged = ComponentsAccumulator()
    merged.merge(part)
    other = ComponentsAccumulator()
    other.update("model", LAYER, np.arange(10), torch.from_numpy(decaying(5, 1)[10:20]))
    other.end_batch()
    merged.merge(other)
    assert len(merged.finish().sample_index) == 20
    np.testing.assert_array_equal(part.finish().projections, before.projections)
