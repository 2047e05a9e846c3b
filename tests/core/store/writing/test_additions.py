from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from zarr.storage import MemoryStore

import outcrop
from outcrop.errors import DataNotFoundError, DataReadError, InputError, ParameterError, StudyError
from outcrop.store.study import Study
from outcrop.store.writing.given_arrays import content_digest, read_rows
from outcrop.testing import ArrayModel, IndexData

VALUES = np.random.default_rng(0).normal(size=(20, 4, 3, 3)).astype(np.float32)
IDS = [f"s{index}" for index in range(20)]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return outcrop.open(tmp_path / "s.zarr", mode="a")


def test_arrays_of_every_kind_become_layers_of_one_capture(study: Study, tmp_path: Path) -> None:
    flat = VALUES.reshape(20, -1)
    np.save(tmp_path / "mapped.npy", flat)
    capture = study.add_activations(
        {
            "numpy": VALUES,
            "torch": torch.from_numpy(flat),
            "dask": da.from_array(flat, chunks=(7, 5)),
            "xarray": xr.DataArray(flat.T, dims=("unit", "sample")),
            "mapped": np.load(tmp_path / "mapped.npy", mmap_mode="r"),
            "big-endian": flat.astype(">f4"),
            "list": flat.tolist(),
        },
        model="jaxnet",
        data=IDS,
        batch_size=6,
    )
    assert list(capture) == ["numpy", "torch", "dask", "xarray", "mapped", "big-endian", "list"]
    assert [layer.index for layer in capture.layers] == list(range(7))
    np.testing.assert_array_equal(capture["numpy"].values, VALUES)
    assert capture["numpy"].dims == ("sample", "channel", "y", "x")
    for name in list(capture)[1:]:
        np.testing.assert_array_equal(capture[name].values, flat)
        assert capture[name].dims == ("sample", "unit" if name == "xarray" else "feature")
    assert capture["list"].dtype == np.float64
    assert capture["numpy"]["sample"].values.tolist() == IDS
    identity = capture.identity
    assert (identity.model_source, identity.mode, identity.device) == ("added:jaxnet", "given", "unknown")


def test_half_and_brain_floats_keep_their_values(study: Study) -> None:
    half = torch.from_numpy(VALUES).half()
    brain = torch.from_numpy(VALUES).bfloat16()
    capture = study.add_activations({"half": half, "brain": brain}, model="m", data=IDS)
    assert (capture["half"].dtype, capture["brain"].dtype) == (np.float16, np.float32)
    np.testing.assert_array_equal(capture["half"].values, half.numpy())
    np.testing.assert_array_equal(capture["brain"].values, brain.float().numpy())


def test_what_was_added_is_run_by_name_like_a_capture_of_the_same_values() -> None:
    rng = np.random.default_rng(3)
    arrays = {f"block.{index}": rng.normal(size=(40, 6)).astype(np.float32) for index in range(6)}
    study, data = outcrop.open(MemoryStore(), mode="a"), IndexData(40)
    study.capture(ArrayModel("live", arrays), data, layers="all")
    kinds: Any = dict.fromkeys(arrays, "block")
    study.add_activations(arrays, model="added", data=data, kinds=kinds)
    live, added = (study.run("blocks", models=[name], parameters={"bootstrap": 0}) for name in ("live", "added"))
    np.testing.assert_array_equal(live["pairwise/similarity"].values, added["pairwise/similarity"].values)
    both = study.run("blocks", models=["live", "added"], parameters={"bootstrap": 0})
    assert both["pairwise"].sizes["layer_a"] == 12


def test_data_may_be_data_a_name_a_node_or_ids(study: Study) -> None:
    data = IndexData(20)
    first = study.add_activations(VALUES, layer="a", model="one", data=data)
    second = study.add_activations(VALUES, layer="a", model="two", data="index")
    third = study.add_activations(VALUES, layer="a", model="three", data=first.data)
    fourth = study.add_activations(VALUES, layer="a", model="four", data=np.arange(20))
    assert first.data == second.data == third.data
    assert fourth.data != first.data
    assert fourth["a"]["sample"].values.tolist() == first["a"]["sample"].values.tolist() == [str(i) for i in range(20)]
    with pytest.raises(DataNotFoundError, match=r"The study holds no data 'indexx'\. Did you mean 'index'"):
        study.add_activations(VALUES, layer="a", model="five", data="indexx")
    study.add_activations(VALUES, layer="a", model="six", data=IndexData(20, name="other"))
    study.add_activations(VALUES[:10], layer="a", model="seven", data=IndexData(10))
    with pytest.raises(DataNotFoundError, match=r"holds 2 data sets 'index'; name one of index-\w+, index-\w+\."):
        study.add_activations(VALUES, layer="a", model="eight", data="index")


def test_sample_ids_that_an_array_carries_are_held_against_the_data(study: Study) -> None:
    labelled = xr.DataArray(VALUES, dims=("sample", "channel", "y", "x"), coords={"sample": IDS})
    study.add_activations(labelled, layer="a", model="m", data=IDS)
    with pytest.raises(InputError, match=r"'a' has the samples of the data in another order; give values.sel\(sample"):
        study.add_activations(labelled[::-1], layer="a", model="m", data=IDS)
    other = labelled.assign_coords(sample=[f"t{index}" for index in range(20)])
    with pytest.raises(
        InputError, match=r"'a' has samples that the data does not have: 't0', 't1', 't2' and 17 more\. Give"
    ):
        study.add_activations(other, layer="a", model="m", data=IDS)
    with pytest.raises(InputError, match=r"'a' has 19 rows; the data has 20 samples\. Give one row a sample\."):
        study.add_activations(VALUES[1:], layer="a", model="m", data=IDS)
    with pytest.raises(InputError, match=r"'a' has a single number; the data has 20 samples"):
        study.add_activations(np.float32(1), layer="a", model="m", data=IDS)
    with pytest.raises(InputError, match=r"dimensions channel, y, x; one of them must be called 'sample'"):
        study.add_activations(labelled[0], layer="a", model="m", data=IDS)
    with pytest.raises(DataReadError, match="sample id 's0' more than once"):
        study.add_activations(VALUES[:2], layer="a", model="m", data=["s0", "s0"])
    with pytest.raises(DataNotFoundError, match="holds no sample"):
        study.add_activations(VALUES[:0], layer="a", model="m", data=[])


def test_what_is_no_layer_is_refused(study: Study) -> None:
    with pytest.raises(InputError, match=r"Give one array and layer='NAME', or a mapping from layer names"):
        study.add_activations(VALUES, model="m", data=IDS)
    with pytest.raises(InputError, match="or a mapping from layer names to arrays and no layer"):
        study.add_activations({"a": VALUES}, layer="a", model="m", data=IDS)
    with pytest.raises(InputError, match="Give one array"):
        study.add_activations({}, model="m", data=IDS)
    with pytest.raises(InputError, match=r"'a' has values of type complex64 and shape \(20, 4, 3, 3\); expected real"):
        study.add_activations(VALUES.astype(np.complex64), layer="a", model="m", data=IDS)
    with pytest.raises(InputError, match=r"dims names unit; layer 'a' has 3 dimensions after the sample"):
        study.add_activations(VALUES, layer="a", model="m", data=IDS, dims=("unit",))
    with pytest.raises(InputError, match=r"The layer has an empty name; give it one\."):
        study.add_activations(VALUES, layer="", model="m", data=IDS)
    with pytest.raises(InputError, match="The model has an empty name"):
        study.add_activations(VALUES, layer="a", model="", data=IDS)
    with pytest.raises(InputError, match="Layer 'a' has the unknown kind 'blok'; expected one of input, conv"):
        study.add_activations(VALUES, layer="a", model="m", data=IDS, kinds={"a": "blok"})  # type: ignore[dict-item] # refused
    with pytest.raises(InputError, match=r"kinds names a layer 'aa' that is not given\."):
        study.add_activations(VALUES, layer="a", model="m", data=IDS, kinds={"aa": "block"})
    with pytest.raises(ParameterError, match=r"The batch size is 0; expected at least 1\."):
        study.add_activations(VALUES, layer="a", model="m", data=IDS, batch_size=0)
    assert list(study.activations) == []


def test_dims_kinds_and_words_are_kept(study: Study) -> None:
    capture = study.add_activations(
        {"a": VALUES},
        model="m",
        data=IDS,
        dims=("y", "x", "channel"),
        kinds={"a": "conv"},
        preprocessing="resized to 3",
        reduction="mean over time",
        source="flax",
        compression="zstd",
    )
    assert capture["a"].dims == ("sample", "y", "x", "channel")
    assert capture.layers[0].kind == "conv"
    identity = capture.identity
    assert (identity.preprocessing, identity.reduction) == ("resized to 3", "mean over time")
    assert identity.model_source == "added:flax"


def test_equal_values_are_one_capture_and_others_another(study: Study) -> None:
    first = study.add_activations(VALUES, layer="a", model="m", data=IDS)
    again = study.add_activations(torch.from_numpy(VALUES), layer="a", model="m", data=IDS)
    assert first.node == again.node
    other = study.add_activations(VALUES + 1, layer="a", model="m", data=IDS)
    assert other.node != first.node
    assert len(study.activations) == 2


def test_layers_of_one_fingerprint_join_one_capture_and_are_never_replaced(study: Study) -> None:
    study.add_activations({"a": VALUES, "b": VALUES}, model="m", data=IDS, fingerprint="step 100")
    study.add_activations({"b": VALUES, "c": VALUES + 1}, model="m", data=IDS, fingerprint="step 100")
    capture = study.activations["m"]
    assert [(layer.name, layer.index) for layer in capture.layers] == [("a", 0), ("b", 1), ("c", 2)]
    np.testing.assert_array_equal(capture["c"].values, VALUES + 1)
    for changed in (VALUES + 1, VALUES[:, :2], VALUES.astype(np.float64)):
        with pytest.raises(
            StudyError,
            match=r"holds other values of layer 'a' of 'm' under the fingerprint 'step 100'\. Give what has changed "
            r"another fingerprint, or remove the old: outcrop study prune --capture 'm-samples-\w+' --layers 'a'\.",
        ):
            study.add_activations({"a": changed}, model="m", data=IDS, fingerprint="step 100")
    np.testing.assert_array_equal(study.activations["m"]["a"].values, VALUES)


def test_an_addition_that_was_interrupted_is_continued(study: Study) -> None:
    class Broken:
        """Fails once, at its last batch."""

        shape, dtype, failing = VALUES.shape, VALUES.dtype, True

        def __getitem__(self, rows: Any) -> Any:
            if self.failing and rows.start == 16:
                raise KeyboardInterrupt
            return VALUES[rows]

    array = Broken()
    with pytest.raises(KeyboardInterrupt):
        study.add_activations(array, layer="a", model="m", data=IDS, fingerprint="f", batch_size=4)
    with pytest.raises(StudyError, match=r"holds other values of layer 'a' of 'm' under the fingerprint 'f'\."):
        study.add_activations(VALUES + 1, layer="a", model="m", data=IDS, fingerprint="f", batch_size=4)
    array.failing = False
    capture = study.add_activations(array, layer="a", model="m", data=IDS, fingerprint="f", batch_size=4)
    np.testing.assert_array_equal(capture["a"].values, VALUES)


def test_only_the_rows_of_a_batch_are_in_memory(study: Study) -> None:
    seen: list[int] = []

    class Counted:
        shape, dtype = VALUES.shape, VALUES.dtype

        def __getitem__(self, rows: Any) -> Any:
            seen.append(len(VALUES[rows]))
            return VALUES[rows]

    study.add_activations(Counted(), layer="a", model="m", data=IDS, fingerprint="f", batch_size=3)
    # A few single rows first, by which these values are known again.
    assert seen == [1, 1, 1, 1, 3, 3, 3, 3, 3, 3, 2]


def test_samples_that_are_known_by_id_only_fit_no_model() -> None:
    from outcrop.data import batches
    from outcrop.store.writing.additions import GivenSamples

    with pytest.raises(InputError, match=r"takes sample; data 'samples' offers , without sample"):
        list(batches(GivenSamples(["a", "b"]), ArrayModel("m", {"a": VALUES}), batch_size=2))


@given(
    hnp.arrays(np.float32, (9, 4), elements=st.floats(width=32)), st.lists(st.integers(0, 8), min_size=1, max_size=9)
)
@settings(max_examples=50)
def test_rows_are_those_that_were_asked_for(values: Any, chosen: list[int]) -> None:
    order = np.array(chosen)
    np.testing.assert_array_equal(read_rows(values, order), values[order])
    np.testing.assert_array_equal(read_rows(da.from_array(values, chunks=2), order), values[order])


@given(hnp.arrays(np.float32, (6, 4), elements=st.floats(-9, 9, width=32)), st.integers(0, 23))
@settings(max_examples=50)
def test_the_hash_of_the_content_sees_every_value_and_no_container(values: Any, place: int) -> None:
    digest = content_digest({"a": values})
    assert content_digest({"a": torch.from_numpy(values)}) == digest
    assert content_digest({"a": np.asfortranarray(values)}) == digest
    changed = values.copy()
    changed.flat[place] += 1
    assert content_digest({"a": changed}) != digest
    assert content_digest({"b": values}) != digest
    assert content_digest({"a": values.reshape(6, 2, 2)}) != digest
