"""Similarity on the samples that masks keep: each mask as a run without the others, streamed and in parts."""

import numpy as np
import pytest
import torch

from outcrop import Layer
from outcrop.errors import AnalysisError, ParameterError
from outcrop.numerics import GramAccumulator, RemovalAccumulator, jackknife_error
from outcrop.testing import AccumulatorTests, ArrayModel, noise_layers, planted_block

SAMPLES, GROUP = 150, 32


def rankings(count, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.permutation(SAMPLES) for _ in range(count)]


def masks_of(chosen, fractions=(0, 0.01, 0.1, 0.5)):
    """Return masks that leave out fractions of each ranking."""
    masks = np.ones((len(chosen), len(fractions), SAMPLES), dtype=bool)
    for own, ranking in zip(masks, chosen, strict=True):
        for mask, fraction in zip(own, fractions, strict=True):
            mask[ranking[: round(fraction * SAMPLES)]] = False
    return masks.reshape(-1, SAMPLES)


def groups_of(order=None):
    order = np.random.default_rng(7).permutation(SAMPLES) if order is None else order
    return [order[start : start + GROUP] for start in range(0, SAMPLES, GROUP)]


def fed(accumulator, layers, groups, model="net"):
    for group in groups:
        for layer in ArrayModel(model, layers).layers:
            accumulator.update(model, layer, group, torch.from_numpy(layers[layer.name][group]))
        accumulator.end_batch()
    return accumulator


def removal(masks, layers, groups=None):
    accumulator = RemovalAccumulator(masks, group_size=GROUP)
    return fed(accumulator, layers, groups_of() if groups is None else groups).finish()["net"]


def alone(mask, layers, groups=None):
    """Return what the trusted accumulator makes of the kept samples of the same batches."""
    kept = [group[mask[group]] for group in (groups_of() if groups is None else groups)]
    return fed(GramAccumulator(group_size=GROUP), layers, kept).finish()


@pytest.fixture(scope="module")
def layers():
    planted = planted_block(layers=6, start=2, stop=5, samples=SAMPLES, features=40)
    return {name: values.astype(np.float64) for name, values in planted.items()}


class TestRemoval(AccumulatorTests):
    # Parts that are merged in another order hold their groups of batches in that order.
    def make(self) -> RemovalAccumulator:
        rng = np.random.default_rng(0)
        masks = rng.random((4, 120)) < 0.7
        return RemovalAccumulator({"first": masks, "second": masks[:2]}, group_size=32)

    def without_order(self, result):
        hidden = ("groups", "groups_without_pc1", "groups_pc_share")
        return {
            model: {name: value for name, value in vars(one).items() if name not in hidden}
            for model, one in result.items()
        }


def test_every_mask_gives_what_a_run_on_its_samples_gives(layers):
    masks = masks_of(rankings(3))
    found = removal(masks, layers)
    for row, mask in enumerate(masks):
        expected = alone(mask, layers)
        assert found.kept_count[row] == expected.sample_count
        np.testing.assert_allclose(found.similarity[row], expected.similarity, atol=1e-12)
        np.testing.assert_allclose(found.similarity_without_pc1[row], expected.similarity_without_pc1, atol=1e-8)
        np.testing.assert_allclose(found.pc_share[row], expected.pc_share, atol=1e-12)
        np.testing.assert_allclose(found.pc_alignment[row], expected.pc_alignment, atol=1e-8)
        np.testing.assert_array_equal(found.degenerate[row], expected.degenerate)


def test_all_samples_give_what_the_plain_accumulator_gives_with_its_error(layers):
    found = removal(np.ones((1, SAMPLES), dtype=bool), layers)
    expected = alone(np.ones(SAMPLES, dtype=bool), layers)
    np.testing.assert_allclose(found.similarity[0], expected.similarity, atol=1e-13)
    np.testing.assert_allclose(found.pc_share[0], expected.pc_share, atol=1e-13)
    left = np.stack([maps.similarity[0] for maps in found.left_out()])
    error = np.sqrt((len(left) - 1) * left.var(axis=0))
    np.testing.assert_allclose(error, expected.standard_error, atol=1e-12)
    np.testing.assert_allclose(expected.standard_error, jackknife_error(expected.groups), atol=1e-14)


def test_what_is_left_out_of_the_jackknife_is_a_run_without_those_batches(layers):
    masks = masks_of(rankings(1))
    found = removal(masks, layers)
    for place, maps in enumerate(found.left_out()):
        groups = [group for number, group in enumerate(groups_of()) if number != place]
        again = removal(masks, layers, groups)
        np.testing.assert_allclose(maps.similarity, again.similarity, atol=1e-12)
        np.testing.assert_allclose(maps.similarity_without_pc1, again.similarity_without_pc1, atol=1e-9)
        np.testing.assert_allclose(maps.pc_share, again.pc_share, atol=1e-12)


def test_layers_that_are_not_compared_are_passed_over(layers):
    masks = masks_of(rankings(1))
    chosen = list(layers)[1:4]
    accumulator = RemovalAccumulator(masks, group_size=GROUP, layers={"net": chosen})
    found = fed(accumulator, layers, groups_of())
    expected = removal(masks, {name: layers[name] for name in chosen})
    one = found.finish()["net"]
    assert [layer.name for layer in one.layers] == chosen
    np.testing.assert_array_equal(one.similarity, expected.similarity)
    np.testing.assert_array_equal(one.kept_count, expected.kept_count)
    # No masks are asked for of a model that has no layer to compare.
    of_one = RemovalAccumulator({"net": masks}, group_size=GROUP, layers={"net": chosen})
    assert list(fed(fed(of_one, layers, groups_of(), "other"), layers, groups_of()).finish()) == ["net"]
    with pytest.raises(AnalysisError, match="same group size, masks and layers merge"):
        accumulator.merge(RemovalAccumulator(masks, group_size=GROUP))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_coarser_features_give_the_same_to_their_precision(layers, dtype):
    coarse = {name: values.astype(dtype) for name, values in layers.items()}
    masks = masks_of(rankings(2))
    found = removal(masks, coarse)
    expected = removal(masks, {name: values.astype(np.float64) for name, values in coarse.items()})
    np.testing.assert_allclose(found.similarity, expected.similarity, atol=1e-5)
    np.testing.assert_allclose(found.pc_share, expected.pc_share, atol=1e-5)


def test_masks_may_come_in_any_order_and_more_than_once(layers):
    masks = masks_of(rankings(2))
    order = np.array([5, 1, 1, 0, 7, 5])
    found, again = removal(masks, layers), removal(masks[order], layers)
    for name in ("similarity", "similarity_without_pc1", "pc_share", "kept_count"):
        np.testing.assert_allclose(getattr(again, name), getattr(found, name)[order], atol=1e-12)


def test_samples_far_off_cost_the_others_no_digits_once_they_are_left_out(layers):
    rng = np.random.default_rng(2)
    far = {name: values + 0.0 for name, values in layers.items()}
    outliers = rng.choice(SAMPLES, 15, replace=False)
    for values in far.values():
        values[outliers] += 1e5 * rng.standard_normal(40)
    mask = np.ones((2, SAMPLES), dtype=bool)
    mask[0, outliers] = False
    found, expected = removal(mask, far), alone(mask[0], layers)
    # The product of features of size 1e5 holds the others' squares, 40, to about 1e-6.
    np.testing.assert_allclose(found.similarity[0], expected.similarity, atol=1e-6)


def test_a_batch_of_fewer_than_four_kept_samples_is_skipped_for_that_mask(layers):
    groups = groups_of()
    masks = np.ones((2, SAMPLES), dtype=bool)
    masks[1, groups[0][3:]] = False
    found = removal(masks, layers)
    assert found.kept_count.tolist() == [SAMPLES, SAMPLES - GROUP]
    assert found.skipped_count.tolist() == [0, 3]
    np.testing.assert_allclose(found.similarity[1], removal(masks[:1], layers, groups[1:]).similarity[0], atol=1e-12)


def test_a_mask_that_keeps_too_few_of_every_batch_is_unknown_and_touches_no_other(layers):
    masks = np.ones((2, SAMPLES), dtype=bool)
    masks[1, 2:] = False
    found = removal(masks, layers)
    assert found.kept_count.tolist() == [SAMPLES, 0]
    assert np.isnan(found.similarity[1]).all()
    assert found.degenerate[1].all()
    np.testing.assert_array_equal(found.similarity[0], removal(masks[:1], layers).similarity[0])


def test_a_layer_that_is_constant_on_the_kept_samples_is_degenerate_for_them_alone(layers):
    order = np.random.default_rng(1).permutation(SAMPLES)
    single = {**layers, "single": np.full((SAMPLES, 5), 0.3)}
    single["single"][order[:30]] = np.random.default_rng(5).standard_normal((30, 5))
    found = removal(masks_of([order], (0, 0.2, 0.3)), single)
    assert found.degenerate[:, -1].tolist() == [False, True, True]
    assert not found.degenerate[:, :-1].any()
    assert np.isnan(found.similarity[1:, -1]).all()
    assert np.isfinite(found.similarity[0]).all()
    plain = removal(masks_of([order], (0, 0.2, 0.3)), layers)
    np.testing.assert_allclose(found.similarity[:, :-1, :-1], plain.similarity, atol=1e-12)


def test_values_that_are_not_finite_are_counted_and_touch_no_other_layer(layers):
    spoilt = {**layers, "layer3": layers["layer3"].copy()}
    spoilt["layer3"][[4, 9], 2] = np.nan
    masks = masks_of(rankings(1))
    found, plain = removal(masks, spoilt), removal(masks, layers)
    assert found.non_finite_count.tolist() == [0, 0, 0, 2, 0, 0]
    assert found.degenerate[:, 3].all()
    others = np.ix_(range(len(masks)), [0, 1, 2, 4, 5], [0, 1, 2, 4, 5])
    np.testing.assert_allclose(found.similarity[others], plain.similarity[others], atol=1e-12)


def test_what_is_left_without_the_only_component_is_rounding_and_said_to_be_unknown():
    rng = np.random.default_rng(6)
    line = {name: np.outer(rng.standard_normal(SAMPLES), rng.standard_normal(9)) for name in ("one", "two")}
    line["noise"] = rng.standard_normal((SAMPLES, 9))
    found = removal(masks_of(rankings(1)), line)
    assert found.unknown.tolist() == [[True, True, False]] * 4
    assert np.isnan(found.similarity_without_pc1[:, :2]).all()
    np.testing.assert_allclose(found.pc_share[:, :2], 1, atol=1e-12)
    assert np.isfinite(found.similarity).all()


def test_a_layer_that_repeats_another_has_its_numbers(layers):
    values = torch.from_numpy(layers["layer3"])
    accumulator = RemovalAccumulator(masks_of(rankings(1)), group_size=SAMPLES)
    everything = np.arange(SAMPLES)
    for layer in ArrayModel("net", dict.fromkeys(("one", "two"), layers["layer3"])).layers:
        accumulator.update("net", layer, everything, values)
    accumulator.end_batch()
    found = accumulator.finish()["net"]
    np.testing.assert_allclose(found.similarity, 1, atol=1e-12)
    np.testing.assert_allclose(found.similarity_without_pc1, 1, atol=1e-9)


def test_each_model_has_masks_and_a_map_of_its_own(layers):
    other = {name: values.astype(np.float64) for name, values in noise_layers(samples=SAMPLES, layers=3).items()}
    masks = {"net": masks_of(rankings(1)), "other": masks_of(rankings(1, seed=1), (0.2,))}
    accumulator = RemovalAccumulator(masks, group_size=GROUP)
    for group in groups_of():
        for model, values in (("net", layers), ("other", other)):
            for layer in ArrayModel(model, values).layers:
                accumulator.update(model, layer, group, torch.from_numpy(values[layer.name][group]))
        accumulator.end_batch()
    found = accumulator.finish()
    np.testing.assert_allclose(found["net"].similarity, removal(masks["net"], layers).similarity, atol=1e-12)
    np.testing.assert_allclose(found["other"].similarity[0], alone(masks["other"][0], other).similarity, atol=1e-12)
    assert [layer.name for layer in found["other"].layers] == list(other)


def test_masks_are_checked():
    with pytest.raises(ParameterError, match=r"group_size must be at least 4, which HSIC1 needs; got 3"):
        RemovalAccumulator(np.ones((1, 8), dtype=bool), group_size=3)
    with pytest.raises(ParameterError, match=r"The masks must be truth values \(mask, sample\).*got float64 of shape"):
        RemovalAccumulator(np.ones((1, 8)), group_size=4)
    with pytest.raises(ParameterError, match=r"The masks of model 'net' must be truth values.*shape \(0, 8\)"):
        RemovalAccumulator({"net": np.ones((0, 8), dtype=bool)}, group_size=4)


def test_what_does_not_fit_the_masks_is_refused(layers):
    with pytest.raises(AnalysisError, match=r"There are no masks for model 'net'; give some for every model"):
        removal({"other": np.ones((1, SAMPLES), dtype=bool)}, layers)
    with pytest.raises(AnalysisError, match=r"masks of model 'net' are of 140 samples, and sample 14\d came"):
        removal(np.ones((1, 140), dtype=bool), layers)
    with pytest.raises(AnalysisError, match=r"at least 4 samples in a batch; no mask keeps as many of any\. Keep more"):
        removal(np.zeros((1, SAMPLES), dtype=bool), layers)
    with pytest.raises(AnalysisError, match=r"same group size, masks and layers merge; theirs differ"):
        RemovalAccumulator(np.ones((1, 8), dtype=bool)).merge(RemovalAccumulator(np.ones((2, 8), dtype=bool)))


def test_the_memory_of_a_group_is_known_before_the_first_one():
    layer = Layer("layer0", "block", 0, (4,), "float32", "made", ("feature",))
    masks = masks_of(rankings(3))
    given = RemovalAccumulator({"net": masks, "other": masks[:2]}, group_size=GROUP)
    for accumulator in (given, RemovalAccumulator(masks, group_size=GROUP)):
        assert accumulator.reduced_bytes(layer, GROUP) == 8 * GROUP * (GROUP + 2 * len(masks))
    assert RemovalAccumulator({}, group_size=GROUP).reduced_bytes(layer, GROUP) == 8 * GROUP * (GROUP + 2)
