import base64

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from outcrop.report.maps import group_layers, pack, read_axis

MATRICES = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    elements=st.floats(-5, 5) | st.just(float("nan")),
)


def unpack(packed):
    codes = np.frombuffer(base64.b64decode(packed["codes"]), dtype="<u2").astype(float)
    values = np.where(codes == 65535, np.nan, packed["low"] + packed["step"] * codes)
    if not packed["symmetric"]:
        return values.reshape(packed["rows"], packed["columns"])
    matrix = np.zeros((packed["rows"],) * 2)
    matrix[np.triu_indices(len(matrix))] = values
    return np.where(np.tri(len(matrix), k=-1, dtype=bool), matrix.T, matrix)


@given(MATRICES, st.booleans())
def test_a_packed_matrix_unpacks_to_within_half_a_step(matrix, symmetric):
    if symmetric:
        square = matrix[:, [0] * len(matrix)]
        matrix = np.triu(square) + np.triu(square, 1).T
    packed = pack(matrix)
    np.testing.assert_allclose(unpack(packed), matrix, atol=packed["step"] / 2 + 1e-12, equal_nan=True)


def test_a_symmetric_matrix_takes_half_the_room():
    matrix = np.random.default_rng(0).random((100, 100))
    assert len(pack(matrix + matrix.T)["codes"]) < 0.52 * len(pack(matrix)["codes"])


def test_a_similarity_is_exact_to_five_digits():
    values = np.random.default_rng(0).random((50, 50))
    assert np.abs(unpack(pack(values)) - values).max() < 1e-5


@pytest.mark.parametrize("matrix", [np.full((3, 3), np.nan), np.full((2, 2), 0.5), np.zeros((0, 0))])
def test_matrices_without_a_range_pack(matrix):
    np.testing.assert_array_equal(unpack(pack(matrix)), matrix)


def test_layers_are_ordered_by_model_and_depth_whatever_their_order_in_the_result():
    dataset = xr.Dataset(
        coords={
            "model": ("layer", ["b", "a", "b", "a"]),
            "name": ("layer", ["b1", "a1", "b0", "a0"]),
            "depth": ("layer", [1, 1, 0, 0]),
            "layer_kind": ("layer", ["act"] * 4),
        }
    )
    axis = read_axis(dataset, "layer")
    assert axis.names == ("b0", "b1", "a0", "a1")
    assert [(span.model, span.start, span.stop) for span in axis.spans] == [("b", 0, 2), ("a", 2, 4)]


def test_layers_are_grouped_by_the_outermost_module_that_tells_them_apart():
    names = ("stem", "blocks.0.attn", "blocks.0.mlp", "blocks.1.attn", "blocks.1.mlp", "head")
    assert group_layers(names) == [
        (0, 1, "stem"),
        (1, 3, "blocks.0"),
        (3, 5, "blocks.1"),
        (5, 6, "head"),
    ]


def test_layers_named_by_paths_of_a_graph_are_grouped_too():
    names = ("/layer1/conv", "/layer1/relu", "/layer2/conv", "/layer2/relu")
    assert group_layers(names) == [(0, 2, "layer1"), (2, 4, "layer2")]
