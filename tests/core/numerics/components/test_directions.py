"""Directions, out-of-sample projections and sets of directions against whole matrices in double precision."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.capture.engine import stream
from outcrop.capture.parallel import all_reduce
from outcrop.capture.source import LiveSource
from outcrop.errors import AnalysisError, ParameterError
from outcrop.numerics import (
    ComponentsAccumulator,
    Directions,
    DirectionsAccumulator,
    ProjectionAccumulator,
    SetDirectionsAccumulator,
)
from outcrop.testing import AccumulatorTests, ArrayModel, IndexData, noise_layers, planted_block, rotated

KEYS = [("first", "layer1"), ("first", "image"), ("second", "layer0")]


def layers_of_suites():
    first = noise_layers(layers=3, samples=120)
    first["image"] = np.random.default_rng(3).standard_normal((120, 3, 2, 4)).astype(np.float32)
    return {"first": first, "second": noise_layers(layers=2, samples=120, seed=1)}


def directions_of_suites():
    """Return directions of some layers, of other samples than those of the suites."""
    arrays = layers_of_suites()
    rng = np.random.default_rng(8)
    means, vectors, layers = {}, {}, []
    for model, name in KEYS:
        layer = next(one for one in ArrayModel(model, arrays[model]).layers if one.name == name)
        layers.append((model, layer))
        means[model, name], vectors[model, name] = rng.standard_normal((2, int(np.prod(layer.shape))))
    return Directions(tuple(layers), means, vectors, np.full(3, 50), np.zeros(3, dtype=bool))


class TestOfDirections(AccumulatorTests):
    def make(self):
        scores = np.random.default_rng(5).standard_normal((3, 120))
        scores[0, ::3] = np.nan
        return DirectionsAccumulator(dict(zip(KEYS, scores, strict=True)))

    def activations(self):
        return layers_of_suites()


class TestOfProjections(AccumulatorTests):
    def make(self):
        other = {key: np.cos(np.arange(len(mean))) for key, mean in directions_of_suites().means.items()}
        return ProjectionAccumulator(directions_of_suites(), {"other": other})

    def activations(self):
        return layers_of_suites()


class TestOfSets(AccumulatorTests):
    def make(self):
        chosen = np.random.default_rng(6).random((3, 120)) < 0.2
        return SetDirectionsAccumulator(directions_of_suites(), dict(zip(KEYS, chosen, strict=True)))

    def activations(self):
        return layers_of_suites()


def feed(accumulator, layers, *, batch=16, seed=0):
    """Return the result on arrays or tensors (sample, ...) by layer name, shuffled, with a smaller last group."""
    arrays = {name: np.zeros((len(values), *values.shape[1:]), np.float32) for name, values in layers.items()}
    model = ArrayModel("net", arrays)
    order = np.random.default_rng(seed).permutation(model.sample_count)
    accumulator.begin_pass(0)
    for start in range(0, len(order), batch):
        group = order[start : start + batch]
        for layer in model.layers:
            values = torch.as_tensor(layers[layer.name])[group]
            accumulator.update("net", layer, group, values)
        accumulator.end_batch()
    return accumulator.finish()


def reference(values, scores):
    """Return mean and direction over the samples with a score, from the whole matrix."""
    used = ~np.isnan(scores)
    flat = np.asarray(values, np.float64).reshape(len(values), -1)[used]
    centred = flat - flat.mean(axis=0)
    slope = centred.T @ scores[used]
    return flat.mean(axis=0), slope / np.linalg.norm(slope)


def lengths(rows):
    return np.linalg.norm(rows, axis=1)


# --- directions -------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    samples=st.integers(3, 40),
    features=st.integers(1, 7),
    batch=st.integers(1, 17),
    offset=st.sampled_from([0.0, 1.0, 1e4]),
    seed=st.integers(0, 1 << 16),
)
def test_means_and_directions_are_those_of_the_whole_matrix(samples, features, batch, offset, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((samples, features, 2)) + offset
    scores = rng.standard_normal(samples)
    scores[rng.random(samples) < 0.3] = np.nan
    scores[:2] = (1.0, -0.5)
    found = feed(DirectionsAccumulator({("net", "a"): scores}), {"a": values}, batch=batch)
    mean, direction = reference(values, scores)
    np.testing.assert_allclose(found.means["net", "a"], mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.vectors["net", "a"], direction, atol=1e-9)
    assert found.sample_count.tolist() == [(~np.isnan(scores)).sum()]


def test_the_direction_of_a_component_is_the_right_singular_vector():
    arrays = planted_block(layers=4, start=1, stop=4, samples=90)
    model = ArrayModel("net", arrays)
    components = ComponentsAccumulator(tolerance=1e-8)
    sources = [LiveSource(model, model.layers, IndexData(90))]
    stream(sources, [components], order=lambda _: np.arange(90), batch_size=32)
    projections = components.finish().projections_by_layer()
    found = feed(DirectionsAccumulator(projections), arrays)
    for name, values in arrays.items():
        centred = values.astype(np.float64) - values.astype(np.float64).mean(axis=0)
        expected = np.linalg.svd(centred, full_matrices=False)[2][0]
        assert abs(expected @ found.vectors["net", name]) > 1 - (1e-6 if name == "layer0" else 1e-10)
        np.testing.assert_allclose(centred @ found.vectors["net", name], projections["net", name], rtol=1e-4, atol=1e-3)


def test_a_planted_direction_is_found_from_half_of_the_samples():
    rng = np.random.default_rng(0)
    planted = rng.standard_normal(300)
    planted /= np.linalg.norm(planted)
    carried = np.where(rng.random(400) < 0.1, 60.0, 0.0)
    values = rng.standard_normal((400, 300)) + np.outer(carried, planted)
    half = np.where(np.arange(400) % 2, carried, np.nan)
    found = feed(DirectionsAccumulator({("net", "a"): half - np.nanmean(half)}), {"a": values})
    assert found.vectors["net", "a"] @ planted > 0.98
    # Scores that have nothing to do with the values give no such direction.
    shuffled = half.copy()
    shuffled[1::2] = rng.permutation(half[1::2])
    noise = feed(DirectionsAccumulator({("net", "a"): shuffled - np.nanmean(shuffled)}), {"a": values})
    assert abs(noise.vectors["net", "a"] @ planted) < 0.9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int32])
def test_values_of_every_type_and_memory_order_give_the_same_direction(dtype):
    generator = torch.Generator().manual_seed(0)
    values = (torch.randn(50, 4, 3, 5, generator=generator) * 20 + 3).to(dtype)
    scores = torch.randn(50, generator=generator, dtype=torch.float64).numpy()
    mean, direction = reference(values.double().numpy(), scores)
    for given_values in (values, values.to(memory_format=torch.channels_last)):
        found = feed(DirectionsAccumulator({("net", "a"): scores}), {"a": given_values})
        np.testing.assert_allclose(found.means["net", "a"], mean, rtol=1e-12)
        np.testing.assert_allclose(found.vectors["net", "a"], direction, atol=1e-12)


def test_complex_features_count_as_two():
    values = torch.randn(30, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    scores = np.random.default_rng(0).standard_normal(30)
    found = feed(DirectionsAccumulator({("net", "a"): scores}), {"a": values})
    mean, direction = reference(torch.view_as_real(values).numpy(), scores)
    np.testing.assert_allclose(found.vectors["net", "a"], direction, atol=1e-12)
    assert mean.shape == (8,)


def test_memory_order_that_changes_from_group_to_group_and_part_to_part_changes_nothing():
    values = torch.randn(40, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    scores = np.random.default_rng(0).standard_normal(40)
    layer = ArrayModel("net", {"a": np.zeros((1, 3, 2, 4))}).layers[0]
    parts = []
    for orders in ((0, 1), (1, 0)):
        part = DirectionsAccumulator({("net", "a"): scores})
        for number, last in enumerate(orders):
            begin = 20 * len(parts) + 10 * number
            chosen = values[begin : begin + 10]
            chosen = chosen.to(memory_format=torch.channels_last) if last else chosen
            part.update("net", layer, np.arange(begin, begin + 10), chosen)
            part.end_batch()
        parts.append(part)
    parts[0].merge(parts[1])
    mean, direction = reference(values.numpy(), scores)
    np.testing.assert_allclose(parts[0].finish().vectors["net", "a"], direction, atol=1e-12)
    np.testing.assert_allclose(parts[0].finish().means["net", "a"], mean, atol=1e-12)


def test_a_layer_without_a_direction_is_told_and_touches_no_other():
    rng = np.random.default_rng(0)
    layers = {name: rng.standard_normal((30, 5)) for name in ("good", "nan", "constant", "zero", "unused")}
    layers["nan"][3, 2] = np.nan
    layers["constant"][:] = 0.1
    scores = {("net", name): rng.standard_normal(30) for name in layers}
    scores["net", "zero"][:] = 0.0
    scores["net", "unused"][:] = np.nan
    found = feed(DirectionsAccumulator(scores), layers)
    assert found.degenerate.tolist() == [False, True, True, True, True]
    assert found.sample_count.tolist() == [30, 30, 30, 30, 0]
    np.testing.assert_allclose(found.vectors["net", "good"], reference(layers["good"], scores["net", "good"])[1])
    np.testing.assert_allclose(found.means["net", "constant"], 0.1)
    np.testing.assert_allclose(found.means["net", "zero"], layers["zero"].mean(axis=0))
    assert np.isnan(found.vectors["net", "zero"]).all()
    assert np.isnan(found.means["net", "nan"]).all()


def test_nan_of_samples_that_are_not_used_does_no_harm():
    values = np.random.default_rng(0).standard_normal((30, 5))
    values[7] = np.nan
    scores = np.random.default_rng(1).standard_normal(30)
    scores[7] = np.nan
    found = feed(DirectionsAccumulator({("net", "a"): scores}), {"a": values})
    assert not found.degenerate.any()
    np.testing.assert_allclose(found.vectors["net", "a"], reference(values, scores)[1], atol=1e-12)


def test_what_is_behind_the_last_projection_is_not_used():
    values = np.random.default_rng(0).standard_normal((30, 5))
    scores = np.random.default_rng(1).standard_normal(30)
    short = feed(DirectionsAccumulator({("net", "a"): scores[:20]}), {"a": values})
    scores[20:] = np.nan
    np.testing.assert_array_equal(
        short.vectors["net", "a"],
        feed(DirectionsAccumulator({("net", "a"): scores}), {"a": values}).vectors["net", "a"],
    )


# --- projections ------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    samples=st.integers(1, 30),
    features=st.integers(1, 6),
    offset=st.sampled_from([0.0, 100.0]),
    seed=st.integers(0, 1 << 16),
)
def test_projections_are_those_of_the_whole_matrix(samples, features, offset, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((samples, features, 2, 3)) + offset
    mean, direction, other = rng.standard_normal((3, features * 6)) + np.array([[offset], [0], [0]])
    direction /= np.linalg.norm(direction)
    layer = ArrayModel("net", {"a": values}).layers[0]
    directions = Directions(
        (("net", layer),), {("net", "a"): mean}, {("net", "a"): direction}, np.array([9]), np.array([False])
    )
    for memory in (torch.contiguous_format, torch.channels_last):
        shown = torch.from_numpy(values).to(memory_format=memory)
        found = feed(ProjectionAccumulator(directions, {"other": {("net", "a"): other * 5}}), {"a": shown}, batch=7)
        flat = values.reshape(samples, -1)
        np.testing.assert_allclose(found.scores[0], (flat - mean) @ direction, atol=1e-10)
        np.testing.assert_allclose(found.norms[0], lengths(flat))
        np.testing.assert_allclose(found.centred_norms[0], lengths(flat - mean))
        expected = (flat - mean) @ other / lengths(flat - mean) / np.linalg.norm(other)
        np.testing.assert_allclose(found.cosines["other"][0], expected, atol=1e-10)
        assert found.sample_index.tolist() == list(range(samples))
        assert found.scores_by_layer(samples + 2)["net", "a"][:samples].tolist() == found.scores[0].tolist()
        assert np.isnan(found.scores_by_layer(samples + 2)["net", "a"][samples:]).all()


def test_projections_do_not_change_with_a_rotation_of_the_features():
    values = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    scores = np.random.default_rng(1).standard_normal(40)
    found = []
    for layers in ({"a": values}, {"a": rotated(values, 3)}):
        directions = feed(DirectionsAccumulator({("net", "a"): scores}), layers)
        found.append(feed(ProjectionAccumulator(directions), layers))
    np.testing.assert_allclose(found[0].scores, found[1].scores, atol=1e-5)
    np.testing.assert_allclose(found[0].centred_norms, found[1].centred_norms, atol=1e-5)


def test_a_sample_that_is_not_finite_touches_no_other_and_no_direction_leaves_the_norms():
    values = np.random.default_rng(0).standard_normal((20, 6))
    values[4, 1], values[5, 2] = np.nan, np.inf
    scores = np.random.default_rng(1).standard_normal(20)
    scores[[4, 5]] = np.nan
    layers = {"a": values, "b": np.ones((20, 3))}
    directions = feed(DirectionsAccumulator({("net", "a"): scores, ("net", "b"): np.zeros(20)}), layers)
    found = feed(ProjectionAccumulator(directions, {"none": {}}), layers)
    assert np.flatnonzero(~np.isfinite(found.scores[0])).tolist() == [4, 5]
    fine = ~np.isin(np.arange(20), (4, 5))
    np.testing.assert_allclose(
        found.scores[0][fine],
        (values[fine] - directions.means["net", "a"]) @ directions.vectors["net", "a"],
        atol=1e-12,
    )
    assert np.isnan(found.scores[1]).all()
    np.testing.assert_allclose(found.norms[1], np.sqrt(3))
    np.testing.assert_allclose(found.centred_norms[1], 0)
    assert np.isnan(found.cosines["none"]).all()


# --- sets -------------------------------------------------------------------------------------------------------------


def test_cosines_are_the_means_over_all_pairs():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((25, 4, 2)) + 2
    values[:7] += 3 * np.arange(8).reshape(4, 2)
    members = np.arange(25) < 7
    directions = feed(DirectionsAccumulator({("net", "a"): rng.standard_normal(25)}), {"a": values})
    found = feed(SetDirectionsAccumulator(directions, {("net", "a"): members}), {"a": values})
    flat = values.reshape(25, -1) - values.reshape(25, -1).mean(axis=0)
    unit = flat / lengths(flat)[:, None]
    mean = unit[:7].mean(axis=0)
    np.testing.assert_allclose(found.vectors["net", "a"], mean / np.linalg.norm(mean), atol=1e-12)
    for cosine, rows in ((found.cosine_inside, range(7)), (found.cosine_outside, range(7, 25))):
        expected = np.mean([unit[one] @ unit[other] for one, other in combinations(rows, 2)])
        np.testing.assert_allclose(cosine, [expected], atol=1e-12)
    np.testing.assert_allclose(found.cosine_across, [(unit[:7] @ unit[7:].T).mean()], atol=1e-12)
    assert (found.member_count.tolist(), found.other_count.tolist()) == ([7], [18])


def test_a_planted_set_points_one_way_and_a_random_one_does_not():
    arrays = {"a": planted_block(layers=1, start=0, stop=1, samples=200, strength=8)["layer0"]}
    dominant = lengths(arrays["a"]) > 20
    directions = feed(DirectionsAccumulator({("net", "a"): dominant - dominant.mean()}), arrays)
    found = feed(SetDirectionsAccumulator(directions, {("net", "a"): dominant}), arrays)
    assert found.member_count.tolist() == [10]
    assert found.cosine_inside > 0.95
    assert abs(found.cosine_outside) < 0.2
    random = np.random.default_rng(0).permutation(dominant)
    assert feed(SetDirectionsAccumulator(directions, {("net", "a"): random}), arrays).cosine_inside < 0.3


def test_sets_of_none_and_one_and_samples_at_the_mean_have_no_cosine():
    values = np.random.default_rng(0).standard_normal((10, 4))
    values[9] = values[:9].mean(axis=0)
    values = np.round(values * 1024) / 1024
    layers = {name: values.copy() for name in ("none", "one", "nan", "at_mean")}
    layers["nan"][2, 2] = np.nan
    model = ArrayModel("net", layers)
    means = {("net", name): np.zeros(4) for name in layers}
    means["net", "at_mean"] = values[9]
    directions = Directions(
        tuple(("net", one) for one in model.layers), means, means, np.full(4, 10), np.zeros(4, bool)
    )
    sets = {("net", name): np.arange(10) == 0 for name in layers}
    sets["net", "none"] = np.zeros(10, dtype=bool)
    sets["net", "at_mean"] = np.arange(10) >= 7
    found = feed(SetDirectionsAccumulator(directions, sets), layers)
    assert found.member_count.tolist()[:2] == [0, 1]
    assert found.member_count[3] == 2
    assert np.isnan(found.cosine_inside).tolist() == [True, True, True, False]
    assert np.isnan(found.cosine_outside).tolist() == [False, False, True, False]
    assert np.isnan(found.vectors["net", "none"]).all()
    assert np.isfinite(found.vectors["net", "one"]).all()


# --- all of them ------------------------------------------------------------------------------------------------------


def test_models_may_run_side_by_side():
    assert all_reduce([TestOfDirections().make(), TestOfProjections().make(), TestOfSets().make()])
    layer = ArrayModel("net", {"a": np.zeros((1, 5, 2, 2))}).layers[0]
    assert TestOfDirections().make().reduced_bytes(layer, 100) == 2 * 8 * 20
    assert TestOfSets().make().reduced_bytes(layer, 100) == 2 * 8 * 20
    assert TestOfProjections().make().reduced_bytes(layer, 100) == 8 * 100 * 4


def test_layers_that_are_not_asked_for_are_passed_over():
    layers = {name: np.random.default_rng(0).standard_normal((9, 3)) for name in ("a", "b")}
    found = feed(DirectionsAccumulator({("net", "b"): np.arange(9.0)}), layers)
    assert [layer.name for _, layer in found.layers] == ["b"]
    assert [layer.name for _, layer in feed(ProjectionAccumulator(found), layers).layers] == ["b"]
    members = {("net", name): np.arange(9) < 4 for name in ("a", "b")}
    assert [layer.name for _, layer in feed(SetDirectionsAccumulator(found, members), layers).layers] == ["b"]


def test_wrong_arguments_are_refused():
    with pytest.raises(ParameterError, match="Directions need projections of one layer at least; got none"):
        DirectionsAccumulator({})
    with pytest.raises(
        ParameterError, match=r"must be one finite number for each sample, or NaN; got an array of shape"
    ):
        DirectionsAccumulator({("net", "a"): np.zeros((3, 2))})
    with pytest.raises(ParameterError, match=r"layer 'a' of model 'net' .* of shape \(2,\), some infinite"):
        DirectionsAccumulator({("net", "a"): np.array([1.0, np.inf])})
    directions = directions_of_suites()
    with pytest.raises(ParameterError, match="Projections need directions of one layer at least; got none"):
        ProjectionAccumulator(Directions((), {}, {}, np.empty(0, int), np.empty(0, bool)))
    with pytest.raises(ParameterError, match="Directions of sets need the set of one layer at least; got none"):
        SetDirectionsAccumulator(directions, {})
    with pytest.raises(
        ParameterError, match=r"set of layer 'a' .* one truth value for each sample; got int64 of shape"
    ):
        SetDirectionsAccumulator(directions, {("net", "a"): np.zeros(3, dtype=np.int64)})


def test_nothing_streamed_is_refused():
    with pytest.raises(
        AnalysisError, match="No layer with projections came; stream the layers that the projections ar"
    ):
        TestOfDirections().make().finish()
    with pytest.raises(AnalysisError, match="No layer with directions came; stream the layers that the directions are"):
        TestOfProjections().make().finish()
    with pytest.raises(AnalysisError, match="No layer with a mean and a set came; stream the layers that the sets are"):
        TestOfSets().make().finish()


def test_samples_that_are_missing_or_come_twice_are_refused():
    values = np.random.default_rng(0).standard_normal((6, 3))
    layer = ArrayModel("net", {"a": values}).layers[0]

    def shown(accumulator, *groups):
        for group in groups:
            accumulator.update("net", layer, np.array(group), torch.from_numpy(values[group]))
            accumulator.end_batch()
        return accumulator

    scores = {("net", "a"): np.arange(6.0)}
    with pytest.raises(
        AnalysisError, match="Sample 5 has a projection on layer 'a' of model 'net' and did not come; giv"
    ):
        shown(DirectionsAccumulator(scores), [0, 1, 2, 3, 4]).finish()
    with pytest.raises(AnalysisError, match="Sample 2 came twice; directions take every sample once"):
        shown(DirectionsAccumulator(scores), [0, 1, 2], [2, 3, 4, 5]).finish()
    directions = shown(DirectionsAccumulator(scores), [0, 1, 2, 3, 4, 5]).finish()
    with pytest.raises(AnalysisError, match="Sample 2 came twice; projections take every sample once"):
        shown(ProjectionAccumulator(directions), [0, 1, 2], [2]).finish()
    with pytest.raises(
        AnalysisError, match="Sample 5 of layer 'a' .* is neither in the set nor outside it; .* of 5 samp"
    ):
        shown(SetDirectionsAccumulator(directions, {("net", "a"): np.ones(5, dtype=bool)}), [4, 5])


def test_features_that_do_not_fit_are_refused():
    values = np.random.default_rng(0).standard_normal((6, 3))
    directions = feed(DirectionsAccumulator({("net", "a"): np.arange(6.0)}), {"a": values})
    with pytest.raises(AnalysisError, match="'a' of model 'net' has 4 features, and a direction of 3 was given for it"):
        feed(ProjectionAccumulator(directions), {"a": np.zeros((6, 4))})
    with pytest.raises(
        AnalysisError, match=r"Another direction of layer 'a' .* is of shape \(2,\), and its mean of \(3,\)"
    ):
        feed(ProjectionAccumulator(directions, {"other": {("net", "a"): np.ones(2)}}), {"a": values})
    layer = ArrayModel("net", {"a": values}).layers[0]
    accumulator = DirectionsAccumulator({("net", "a"): np.arange(6.0)})
    accumulator.update("net", layer, np.arange(2), torch.zeros(2, 3))
    with pytest.raises(
        AnalysisError, match=r"has features of shape \(5,\) and had \(3,\) before; every sample must have"
    ):
        accumulator.update("net", layer, np.arange(2), torch.zeros(2, 5))


def test_only_accumulators_of_the_same_settings_are_merged():
    scores = {("net", "a"): np.arange(6.0)}
    values = {"a": np.random.default_rng(0).standard_normal((6, 3))}
    directions = feed(DirectionsAccumulator(scores), values)
    shifted = feed(DirectionsAccumulator(scores), {"a": values["a"] + 1})
    members = {("net", "a"): np.arange(6) < 3}
    pairs = [
        (DirectionsAccumulator(scores), DirectionsAccumulator({("net", "a"): np.ones(6)}), "projections"),
        (DirectionsAccumulator(scores), DirectionsAccumulator({("net", "b"): np.arange(6.0)}), "projections"),
        (ProjectionAccumulator(directions), ProjectionAccumulator(shifted), "directions"),
        (ProjectionAccumulator(directions), ProjectionAccumulator(directions, {"o": directions.vectors}), "directions"),
        (SetDirectionsAccumulator(directions, members), SetDirectionsAccumulator(shifted, members), "means and sets"),
    ]
    for first, second, what in pairs:
        with pytest.raises(AnalysisError, match=f"Only accumulators of the same {what} can be merged; theirs differ"):
            first.merge(second)
