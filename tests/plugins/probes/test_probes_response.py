"""Responses to stimuli, beside a direct computation in double precision of a network that is known."""

import numpy as np
import pytest
import torch
from scipy.stats import percentileofscore
from torch import nn

from outcrop.analysis.context import Context
from outcrop.capture.source import LiveSource
from outcrop.data import ArrayData
from outcrop.models.torch_ import TorchModel
from outcrop.stimuli import Stimulus
from outcrop_probes.response import measure_real, measure_response, percentiles, scores_at
from outcrop_probes.samples import StimulusData, find_form

SAMPLES, FEATURES = 40, 6


class TwoLayers(nn.Module):
    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first, self.second = nn.Linear(FEATURES, 9), nn.Linear(9, 5)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


@pytest.fixture
def run():
    """Contexts, values of both linear layers in double precision, and what is known of the real samples."""
    samples = np.random.default_rng(0).standard_normal((SAMPLES, FEATURES)).astype(np.float32)
    data = ArrayData(samples)
    networks = {name: TwoLayers(seed) for seed, name in enumerate("ab")}
    models = [TorchModel(network, name=name, input_shape=(FEATURES,)) for name, network in networks.items()]
    sources = [LiveSource(model, tuple(model.layer(layer) for layer in ("first", "second")), data) for model in models]
    context = Context(sources, sample_count=SAMPLES, data=data)

    def layers_of(values):
        found = {}
        for name, network in networks.items():
            doubled = TwoLayers(0).double()
            doubled.load_state_dict(network.state_dict())
            with torch.no_grad():
                first = doubled.first(torch.from_numpy(np.asarray(values, np.float64)))
                found[name, "first"] = first.numpy()
                found[name, "second"] = doubled.second(torch.relu(first)).numpy()
        return found

    return context, layers_of, samples, data


def decompose(values):
    centred = values - values.mean(axis=0)
    u, s, v = np.linalg.svd(centred, full_matrices=False)
    return u[:, 0] * s[0], v[0], centred


def test_responses_are_those_of_a_direct_computation(run):
    context, layers_of, samples, data = run
    real_values = layers_of(samples)
    projections = {key: decompose(values)[0] for key, values in real_values.items()}
    members = {"a": np.arange(SAMPLES) < 7}
    real = measure_real(context, projections, members, batch_size=16)
    stimuli = 3 * np.random.default_rng(1).standard_normal((5, FEATURES)).astype(np.float32)
    shown = StimulusData([Stimulus(str(place), values) for place, values in enumerate(stimuli)], find_form(data))
    response = measure_response(context, real, shown, batch_size=2)
    assert real.layers == tuple(real_values)
    assert not real.degenerate.any()
    for row, (key, values) in enumerate(layers_of(stimuli).items()):
        known = real_values[key]
        score, direction, centred = decompose(known)
        lengths = np.linalg.norm(known, axis=1)
        beside = values - known.mean(axis=0)
        np.testing.assert_allclose(real.norms[row], lengths, rtol=1e-5)
        np.testing.assert_allclose(response.norm[row], np.linalg.norm(values, axis=1), rtol=1e-5)
        np.testing.assert_allclose(response.norm_ratio[row], response.norm[row] / np.median(lengths), rtol=1e-5)
        np.testing.assert_allclose(response.projection[row], beside @ direction, rtol=1e-4, atol=1e-5)
        left = np.linalg.norm(beside - np.outer(beside @ direction, direction), axis=1)
        np.testing.assert_allclose(response.norm_without_pc1[row], left, rtol=1e-4)
        expected = [percentileofscore(np.abs(score), one, kind="mean") for one in np.abs(beside @ direction)]
        np.testing.assert_allclose(response.projection_percentile[row], expected)
        if key[0] == "a":
            unit = centred[:7] / np.linalg.norm(centred[:7], axis=1, keepdims=True)
            towards = unit.sum(axis=0)
            cosines = beside @ towards / np.linalg.norm(towards) / np.linalg.norm(beside, axis=1)
            np.testing.assert_allclose(response.cosine[row], cosines, atol=1e-5)
        else:
            assert np.isnan(response.cosine[row]).all()


def test_a_single_layer_gives_the_scores_of_all(run):
    context, layers_of, samples, data = run
    projections = {key: decompose(values)[0] for key, values in layers_of(samples).items()}
    real = measure_real(context, projections, {}, batch_size=64)
    shown = StimulusData([Stimulus(str(place), samples[place] + 1) for place in range(4)], find_form(data))
    everywhere = measure_response(context, real, shown, batch_size=64)
    for row, key in enumerate(real.layers):
        found = scores_at(context, real, key, shown, batch_size=64)
        np.testing.assert_allclose(found, everywhere.projection[row], rtol=1e-6)


def test_real_samples_shown_as_stimuli_respond_as_they_did(run):
    context, layers_of, samples, data = run
    projections = {key: decompose(values)[0] for key, values in layers_of(samples).items()}
    real = measure_real(context, projections, {}, batch_size=64)
    shown = StimulusData([Stimulus(str(place), one) for place, one in enumerate(samples)], find_form(data))
    response = measure_response(context, real, shown, batch_size=64)
    np.testing.assert_allclose(response.projection, real.projections, atol=1e-4)
    np.testing.assert_allclose(response.norm, real.norms, rtol=1e-5)
    assert np.median(response.norm_ratio[0]) == pytest.approx(1)
    joined = response.joined(response)
    np.testing.assert_array_equal(joined.cosine, np.hstack([response.cosine, response.cosine]))


def test_a_layer_without_a_component_has_norms_only(run):
    context, layers_of, samples, data = run
    projections = {key: decompose(values)[0] for key, values in layers_of(samples).items()}
    projections["a", "first"] = np.full(SAMPLES, np.nan)
    real = measure_real(context, projections, {"a": np.arange(SAMPLES) < 3}, batch_size=64)
    assert real.degenerate.tolist() == [True, False, False, False]
    shown = StimulusData([Stimulus("0", samples[0])], find_form(data))
    response = measure_response(context, real, shown, batch_size=64)
    assert np.isnan(response.projection[0]).all()
    assert np.isnan(response.projection_percentile[0]).all()
    assert np.isfinite(response.norm).all()
    assert np.isfinite(response.projection[1:]).all()


def test_percentiles_count_ties_half_and_leave_spoilt_layers_out():
    real = np.array([[1.0, 2.0, 2.0, 3.0], [np.nan, 1, 2, 3]])
    values = np.array([[0.0, 2.0, 9.0, np.nan], [1.0, 1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(percentiles(values, real)[0], [0, 50, 100, np.nan])
    assert np.isnan(percentiles(values, real)[1]).all()
