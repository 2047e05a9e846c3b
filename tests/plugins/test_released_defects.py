"""Four ways in which the removal of dominant datapoints can go wrong without a trace, and that ours goes none of them.

The claims are those of arXiv 2202.07184, section 4. Each test holds a procedure that looks right and is not, on data of
which the answer is known: it must give the wrong answer, and the analyses the right one.
"""

import numpy as np
import pytest
import torch

from outcrop import Context
from outcrop.analysis.references import Reference
from outcrop.capture.source import LiveSource
from outcrop.numerics import ComponentsAccumulator, RemovalAccumulator, split_projections
from outcrop.plugins import plugin_registry
from outcrop.testing import ArrayModel, IndexData, noise_layers, planted_block, run_planted
from outcrop_dominant.analysis import DominantAnalysis
from outcrop_dominant.parameters import DominantParameters
from outcrop_dominant.removal import removal_leaves

SAMPLES, BATCH = 200, 50


def context_of(models, seed=0):
    made = [ArrayModel(name, layers) for name, layers in models.items()]
    sources = [LiveSource(model, model.layers, IndexData(SAMPLES)) for model in made]
    return Context(sources, sample_count=SAMPLES, seed=seed)


def mean_free(values):
    return values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)


def first_component(values):
    """Return the unit vector of the samples on the first component, and its share of the variance."""
    u, s, _ = np.linalg.svd(mean_free(values), full_matrices=False)
    return u[:, 0], s[0] ** 2 / (s**2).sum()


def unbiased_hsic(first, second):
    """Return ``n (n - 3) HSIC1`` (arXiv 2010.15327, equation 3)."""
    n = len(first)
    k, m = (matrix - np.diag(np.diag(matrix)) for matrix in (first, second))
    return (k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * k.sum(axis=0) @ m.sum(axis=0)


def minibatch_cka(first, second, batches):
    """Return minibatch CKA as a run of these samples alone gives it."""
    sums = np.zeros(3)
    for rows in batches:
        k, m = (mean_free(values[rows]) @ mean_free(values[rows]).T for values in (first, second))
        sums += [unbiased_hsic(k, m), unbiased_hsic(k, k), unbiased_hsic(m, m)]
    return sums[0] / np.sqrt(sums[1] * sums[2])


def test_samples_that_are_left_out_are_gone():
    """Figure 4: without a tenth of the dominant datapoints the block is gone, so these must really be left out."""
    layers = planted_block(samples=SAMPLES, layers=8, start=2, stop=7)
    first, second = layers["layer3"], layers["layer5"]
    result = run_planted(
        DominantAnalysis,
        {"net": layers},
        parameters={"batch_size": BATCH, "fractions": (0, 0.1), "random_replicates": 2},
    )
    order = context_of({"net": layers}).order()
    batches = [order[start : start + BATCH] for start in range(0, SAMPLES, BATCH)]
    left_out = np.argsort(-np.abs(first_component(layers["layer4"])[0]))[: SAMPLES // 10]

    def appended_before_they_are_skipped(rows):
        kept = []
        for row in rows:
            kept.append(row)
            if row in left_out:
                continue
        return kept

    def kept_of(rows):
        return [row for row in rows if row not in left_out]

    plain = minibatch_cka(first, second, batches)
    released = minibatch_cka(first, second, [appended_before_they_are_skipped(rows) for rows in batches])
    truth = minibatch_cka(first, second, [kept_of(rows) for rows in batches])
    assert released == plain > 0.95
    assert abs(truth) < 0.2

    removal = result["removal"].isel(block=0).sel(selection="dominant")
    assert removal["kept_count"].values.tolist() == [SAMPLES, SAMPLES - SAMPLES // 10]
    assert removal["is_block"].values.tolist() == [True, False]
    maps = result["removal_maps"]["similarity"].values[:, 3, 5]
    assert maps[0] == pytest.approx(plain, abs=1e-5)
    assert abs(maps[1]) < 0.2

    masks = np.ones((2, SAMPLES), dtype=bool)
    masks[1, left_out] = False
    accumulator = RemovalAccumulator(masks, group_size=BATCH)
    context_of({"net": layers}).stream(accumulator, batch_size=BATCH)
    without = accumulator.finish()["net"]
    assert without.kept_count.tolist() == [SAMPLES, SAMPLES - len(left_out)]
    np.testing.assert_allclose(without.similarity[:, 3, 5], [plain, truth], atol=1e-5)


def test_a_components_share_of_variance_is_over_samples():
    """Section 3: the share is ``lambda_1 / sum lambda`` of mean-free features, whichever way round a fit takes them.

    A fit of the transposed matrix takes its variance across features, about each sample's own mean. A component that
    moves all features alike has none there.
    """
    from sklearn.decomposition import TruncatedSVD

    rng = np.random.default_rng(0)
    scores = 3.0 * rng.standard_normal(SAMPLES)
    directions = (np.ones(16), np.repeat([1.0, 0.0], 8), np.resize([1.0, -1.0], 16))
    layers = {
        f"layer{index}": (np.outer(scores, direction) + rng.standard_normal((SAMPLES, 16))).astype(np.float32)
        for index, direction in enumerate(directions)
    }
    truth = np.array([first_component(values)[1] for values in layers.values()])
    released = np.array(
        [
            TruncatedSVD(n_components=1, algorithm="arpack", random_state=0)
            .fit(mean_free(values).T)
            .explained_variance_ratio_[0]
            for values in layers.values()
        ]
    )
    assert truth[0] > 0.8
    assert released[0] < 0.2
    assert released[1] < truth[1] - 0.05
    assert released[2] == pytest.approx(truth[2], abs=0.02)  # of mean zero over the features: right by chance

    components = run_planted(plugin_registry().analysis("components"), {"net": layers})
    np.testing.assert_allclose(components["per_layer"]["pc_share"].values, truth, rtol=1e-4)
    accumulator = RemovalAccumulator(np.ones((1, SAMPLES), dtype=bool), group_size=SAMPLES)
    context_of({"net": layers}).stream(accumulator, batch_size=SAMPLES)
    np.testing.assert_allclose(accumulator.finish()["net"].pc_share[0], truth, rtol=1e-5)


def test_components_are_compared_and_averaged_without_regard_to_sign():
    """Section 4 ranks datapoints by the size of their projections: a component and its negative are the same one.

    An iteration from a random start gives it a random sign, and means over runs or batches cancel.
    """
    layers = planted_block(samples=SAMPLES, layers=4, start=0, stop=4, share=0.1)
    rng = np.random.default_rng(0)

    def iterated(values):
        gram, vector = mean_free(values) @ mean_free(values).T, rng.standard_normal(len(values))
        for _ in range(50):
            vector = gram @ vector
            vector /= np.linalg.norm(vector)
        return vector

    truth = first_component(layers["layer1"])[0]
    members = np.abs(truth) >= np.sort(np.abs(truth))[-SAMPLES // 10]
    runs = [iterated(layers["layer1"]) for _ in range(40)]
    signs = np.array([np.sign(run @ truth) for run in runs])
    released = np.mean([runs[place] for sign in (1, -1) for place in np.flatnonzero(signs == sign)[:2]], axis=0)
    assert np.abs(released).max() < 1e-6
    found = []
    for seed in range(4):
        accumulator = ComponentsAccumulator(count=1, seed=seed)
        context_of({"net": layers}, seed=seed).stream(accumulator, batch_size=BATCH)
        found.append(accumulator.finish().projections[1])
    ours = np.abs(np.mean(found, axis=0))
    np.testing.assert_allclose(ours / np.linalg.norm(ours), np.abs(truth), atol=1e-3)
    assert (split_projections(np.mean(found, axis=0)).dominant == members).all()

    batches = np.argsort(-np.abs(truth)).reshape(20, -1).T  # as many of the dominant ones in each
    pairs = [[iterated(layers[name][rows]) for name in ("layer1", "layer2")] for rows in batches]
    cosines = np.array([first @ second for first, second in pairs])
    assert np.abs(cosines).min() > 0.9
    assert abs(cosines.mean()) < 0.7
    accumulator = RemovalAccumulator(np.ones((1, SAMPLES), dtype=bool), group_size=20)
    for rows in batches:
        for layer in ArrayModel("net", layers).layers:
            accumulator.update("net", layer, rows, torch.from_numpy(layers[layer.name][rows]))
        accumulator.end_batch()
    assert accumulator.finish()["net"].pc_alignment[0, 1, 2] == pytest.approx(np.square(cosines).mean(), abs=1e-4)


def test_selection_on_other_samples_does_not_confirm_itself():
    """Section 4 leaves out the datapoints that define a component and finds its share smaller.

    So it is of pure noise, if both are done with the same datapoints. Selection by the component of the other half of
    the data leaves the share what it is without as many datapoints at random.
    """
    models = {f"noise{seed}": noise_layers(samples=SAMPLES, layers=1, features=80, seed=seed) for seed in range(12)}
    references = [Reference(name, ("layer0",), "layer0", False, "", ("layer0",)) for name in models]
    parameters = DominantParameters(batch_size=SAMPLES // 2, fractions=(0, 0.1), random_replicates=8)
    context = context_of(models)
    shares = removal_leaves(context, references, parameters)["removal_layers"]["pc_share"].sel(fraction=0.1)
    random = shares.sel(selection="random").values
    order = context.order()
    released = []
    for layers in models.values():
        halves = []
        for rows in (order[: SAMPLES // 2], order[SAMPLES // 2 :]):
            values = layers["layer0"][rows]
            kept = np.argsort(-np.abs(first_component(values)[0]))[len(rows) // 10 :]
            halves.append(first_component(values[kept])[1])
        released.append(np.mean(halves))
    inside = np.array(released) / random - 1
    across = shares.sel(selection="dominant").values / random - 1
    error = across.std(ddof=1) / np.sqrt(len(across))
    assert inside.mean() < -0.03
    assert inside.mean() < -6 * error
    assert abs(across.mean()) < 3 * error
    assert abs(across.mean()) < -inside.mean() / 3
