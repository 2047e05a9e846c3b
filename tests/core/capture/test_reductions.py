"""What all reductions have in common: their text, their chains and the plain ones."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.capture.reductions import Reduction, parse_reduction
from outcrop.errors import InputError, ParameterError
from outcrop.models.model import Layer

DIMS = [
    ("channel", "y", "x"),
    ("y", "x", "channel"),
    ("channel", "x"),
    ("token", "feature"),
    ("feature",),
    ("dim_1", "dim_2", "dim_3"),
    ("dim_1", "dim_2", "dim_3", "dim_4"),
    (),
]
DTYPES = ["float16", "bfloat16", "float32", "float64", "int64"]


def make_layer(shape: tuple[int, ...], dims: tuple[str, ...], dtype: str = "float32") -> Layer:
    return Layer("net.layer", "block", 3, shape, dtype, "Conv2d", dims)


def parsed(text: str) -> Reduction:
    reduction = parse_reduction(text)
    assert reduction is not None
    return reduction


numbered = st.builds("{}:{},seed={}".format, st.just("positions"), st.integers(1, 20), st.integers(0, 2**64 - 1))
projected = st.builds("projection:{},seed={}".format, st.integers(1, 20), st.integers(0, 2**64 - 1))
texts = st.tuples(
    st.one_of(st.just(""), st.just("spatial_mean"), numbered),
    st.one_of(st.just(""), projected),
    st.sampled_from(["", "float16"]),
).map(lambda parts: "+".join(filter(None, parts)))
layers = st.sampled_from(DIMS).flatmap(
    lambda dims: st.builds(
        make_layer, st.tuples(*[st.integers(1, 9)] * len(dims)), st.just(dims), st.sampled_from(DTYPES)
    )
)


@settings(max_examples=200, deadline=None)
@given(texts.filter(bool), layers, st.integers(1, 3))
def test_values_come_as_the_reduced_layer_says(text: str, layer: Layer, samples: int) -> None:
    reduction = parsed(text)
    reduced = reduction.reduced(layer)
    values = torch.randn(samples, *layer.shape).to(getattr(torch, layer.dtype))
    before = values.clone()
    result = reduction.apply(layer, values)
    assert tuple(result.shape) == (samples, *reduced.shape)
    assert len(reduced.dims) == len(reduced.shape)
    assert result.dtype == getattr(torch, reduced.dtype)
    assert torch.equal(values, before)
    assert math.prod(reduced.shape) <= math.prod(layer.shape)
    assert (reduced.name, reduced.kind, reduced.index, reduced.operation) == ("net.layer", "block", 3, "Conv2d")
    # A batch is reduced sample by sample: its size changes nothing.
    torch.testing.assert_close(reduction.apply(layer, values[:1]), result[:1])


@settings(max_examples=200, deadline=None)
@given(texts.filter(bool))
def test_a_description_gives_the_reduction_again(text: str) -> None:
    reduction = parsed(text)
    assert reduction.description == text
    assert parse_reduction(reduction.description) == reduction


@settings(max_examples=100, deadline=None)
@given(texts.filter(bool), layers)
def test_attributes_are_plain_json_and_say_what_was_there(text: str, layer: Layer) -> None:
    attributes = parsed(text).attributes(layer)
    assert json.loads(json.dumps(attributes, allow_nan=False)) == attributes
    assert attributes["reduction"] == text
    assert attributes["unreduced_shape"] == list(layer.shape)
    assert attributes["unreduced_dims"] == list(layer.dims)
    assert attributes["unreduced_dtype"] == layer.dtype
    assert (attributes["reduction_applied"] == "none") == (parsed(text).reduced(layer) == layer)


def test_texts_are_read_with_defaults_and_spaces() -> None:
    assert parse_reduction("none") is None
    assert parse_reduction(" none ") is None
    assert parsed(" positions : 16 ").description == "positions:16,seed=0"
    assert parsed("spatial_mean + projection:8 , seed = 3 + float16").description == (
        "spatial_mean+projection:8,seed=3+float16"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Unknown reduction '' in ''. Expected none, or one or more of spatial_mean"),
        ("spatial-mean", "Unknown reduction 'spatial-mean' in 'spatial-mean'. Did you mean 'spatial_mean'?"),
        ("none+float16", "Unknown reduction 'none' in 'none+float16'. 'none' stands alone."),
        ("none:1", "Unknown reduction 'none' in 'none:1'. 'none' stands alone."),
        ("float16+spatial_mean", "The reduction 'float16+spatial_mean' repeats or reorders its parts"),
        ("spatial_mean+positions:4", "repeats or reorders its parts"),
        ("float16+float16", "repeats or reorders its parts"),
        ("float16:2", "float16 takes no parameter; got 'float16:2' in the reduction 'float16:2'"),
        ("positions", "The number of positions is '' in the reduction 'positions'; expected a number from 1 to"),
        ("projection:0", "The number of projection is '0' in the reduction 'projection:0'"),
        ("projection:-4", "The number of projection is '-4'"),
        ("projection:²", "The number of projection is '²'"),
        ("projection:4,seed=", "The seed of projection is '' in the reduction"),
        (f"positions:4,seed={2**64}", "expected a number from 0 to 18446744073709551615"),
        ("positions:" + "9" * 5000, "expected a number from 1 to 2147483647"),
        ("positions:4,sed=1", "positions takes one option, seed=NUMBER; got '4,sed=1'"),
        ("positions:4,seed=1,seed=2", "positions takes one option, seed=NUMBER"),
    ],
)
def test_a_text_that_describes_no_reduction_is_refused(text: str, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_reduction(text)
    assert words in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(layers.filter(lambda layer: layer.dtype in ("float16", "float32", "float64")))
def test_a_spatial_mean_is_numpys_in_double_precision(layer: Layer) -> None:
    values = np.random.default_rng(0).normal(size=(2, *layer.shape)).astype(layer.dtype)
    positions = tuple(axis + 1 for axis, name in enumerate(layer.dims) if name in ("y", "x", "token"))
    expected = values.astype(np.float64).mean(axis=positions) if positions else values
    found = parsed("spatial_mean").apply(layer, torch.from_numpy(values)).numpy()
    tolerance = 1e-12 if layer.dtype == "float64" else 1e-6
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_half_precision_is_summed_without_overflow() -> None:
    layer = make_layer((2, 64, 64), ("channel", "y", "x"), "float16")
    found = parsed("spatial_mean").apply(layer, torch.full((1, 2, 64, 64), 60000.0, dtype=torch.float16))
    assert found.tolist() == [[60000.0, 60000.0]]


def test_a_reduction_that_leaves_a_layer_as_it_is_says_so() -> None:
    layer = make_layer((10,), ("feature",))
    assert parsed("spatial_mean").attributes(layer)["reduction_applied"] == "none"
    assert parsed("spatial_mean+float16").attributes(layer)["reduction_applied"] == "float16"
    half = make_layer((10,), ("feature",), "float16")
    assert parsed("float16").attributes(half)["reduction_applied"] == "none"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=64, allow_nan=True, allow_infinity=True), min_size=1, max_size=5))
def test_half_precision_rounds_as_numpy_does_or_refuses(numbers: list[float]) -> None:
    layer = make_layer((len(numbers),), ("feature",), "float64")
    values = np.array([numbers])
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    given_values = torch.from_numpy(values)
    if (np.isinf(expected) & np.isfinite(values)).any():
        with pytest.raises(ParameterError, match="float16 ends at 65504; capture it without"):
            parsed("float16").apply(layer, given_values)
    else:
        np.testing.assert_array_equal(parsed("float16").apply(layer, given_values).numpy(), expected)


def test_what_overflows_half_precision_is_named_and_what_was_infinite_stays() -> None:
    layer = make_layer((3,), ("feature",))
    with pytest.raises(ParameterError, match=r"Layer 'net.layer' has values up to 70000 in size, and float16 ends at"):
        parsed("float16").apply(layer, torch.tensor([[1.0, -7e4, math.nan]]))
    kept = parsed("float16").apply(layer, torch.tensor([[1.0, -math.inf, math.nan]]))
    np.testing.assert_array_equal(kept.numpy(), np.array([[1.0, -np.inf, np.nan]], dtype=np.float16))
    assert parsed("float16").apply(layer, torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("text", ["positions:2", "projection:2"])
def test_values_of_another_shape_than_the_layers_are_refused(text: str) -> None:
    layer = make_layer((3, 4, 4), ("channel", "y", "x"))
    with pytest.raises(InputError, match=r"has the shape \(3, 4, 4\) per sample, and \(3, 5, 5\) on this batch"):
        parsed(text).apply(layer, torch.zeros(1, 3, 5, 5))
