import json

from outcrop.analysis.provenance import DataRecord, ModelRecord, Provenance, environment


def record(**changes: object) -> Provenance:
    base = Provenance(
        analysis="blocks",
        version="1",
        parameters={"batch_size": 256},
        selection="all",
        layers={"net": ("a", "b")},
        models=(ModelRecord(name="net", source="timm:net", fingerprint="f", preprocessing="none", device="cpu"),),
        data=DataRecord(name="photos", source="photos/", fingerprint="d", samples=3, limit=None, node="photos-d"),
        requires={},
        seed=0,
        environment={"python": "3.11"},
        started="now",
        finished="later",
    )
    return base.model_copy(update=changes)


def test_the_run_id_depends_on_what_determines_the_numbers_only() -> None:
    assert (
        record().run_id
        == record(selection="a,b", started="then", finished="soon", environment={"python": "3.13"}).run_id
    )
    for changes in ({"seed": 1}, {"version": "2"}, {"parameters": {"batch_size": 128}}, {"layers": {"net": ("a",)}}):
        assert record(**changes).run_id != record().run_id


def test_how_samples_were_limited_is_recorded_and_does_not_make_another_run() -> None:
    limited = record().data.model_copy(update={"limit": 3})
    assert record(data=limited).run_id == record().run_id
    assert json.loads(record(data=limited).to_json())["data"]["limit"] == 3


def test_another_preprocessing_is_another_run_and_another_place_is_not() -> None:
    (model,) = record().models
    assert record(models=(model.model_copy(update={"preprocessing": "scaled"}),)).run_id != record().run_id
    assert record(models=(model.model_copy(update={"source": "onnx:moved.onnx"}),)).run_id == record().run_id
    assert record(data=record().data.model_copy(update={"source": "moved/"})).run_id == record().run_id


def test_the_record_is_json_with_its_run_id() -> None:
    loaded = json.loads(record().to_json())
    assert loaded["run_id"] == record().run_id
    assert loaded["models"][0]["name"] == "net"


def test_the_environment_names_what_computes() -> None:
    found = environment()
    assert {"python", "platform", "numpy", "torch", "outcrop"} <= set(found)
