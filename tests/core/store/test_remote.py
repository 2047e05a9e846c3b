"""Studies that are not in a local folder: in an S3-compatible server on this machine, in memory, in a zarr store."""

import json
import shutil
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from fsspec.registry import _registry
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, LoggingStore, MemoryStore, ObjectStore, ZipStore

import outcrop
from outcrop.errors import MissingDependencyError, StudyError, StudyLockedError, StudyNotFoundError
from outcrop.store.location import open_store
from outcrop.store.locking import leases
from outcrop.store.locking.leases import KEY, Lease
from outcrop.store.study import Study
from outcrop.testing import ArrayModel, IndexData

MakeModel = Callable[..., ArrayModel]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The URL of an empty bucket; the environment leads to the server."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{abs(hash(request.node.nodeid))}"
    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/{name}", method="PUT")).close()
    return f"s3://{name}"


@pytest.fixture(params=["s3", "memory", "zarr memory", "zarr object", "zarr files"])
def place(request: pytest.FixtureRequest) -> Callable[[], object]:
    """Gives, each time, the way to the same study."""
    name = f"{abs(hash(request.node.nodeid))}.zarr"
    if request.param == "s3":
        url = f"{request.getfixturevalue('bucket')}/studies/{name}"
        return lambda: url
    if request.param == "memory":
        return lambda: f"memory://{name}"
    if request.param == "zarr memory":
        content: dict[str, object] = {}
        return lambda: MemoryStore(content)  # type: ignore[arg-type] # filled with buffers
    import obstore.store

    inner = (
        obstore.store.MemoryStore()
        if request.param == "zarr object"
        else obstore.store.LocalStore(request.getfixturevalue("tmp_path") / name, mkdir=True)
    )
    return lambda: ObjectStore(inner)


class Interrupting(ArrayModel):
    """Is interrupted at one of its batches, once."""

    batches_left = -1

    def visit(self, *arguments: object) -> None:
        self.batches_left -= 1
        if self.batches_left == 0:
            raise KeyboardInterrupt
        super().visit(*arguments)  # type: ignore[arg-type] # passed on as they came


def test_a_study_elsewhere_is_captured_interrupted_resumed_analysed_and_read(
    place: Callable[[], object], make_model: MakeModel, model: ArrayModel, data: IndexData
) -> None:
    model.__class__ = Interrupting
    vars(model)["batches_left"] = 3
    with pytest.raises(KeyboardInterrupt):
        outcrop.open(place(), mode="a").capture(model, data, layers="all", batch_size=6)
    study = outcrop.open(place(), mode="a")
    captured = study.capture(model, data, layers="all", batch_size=6)
    result = study.run("blocks", models=["net"])
    for layer in ("stem/conv", "block.0", "block.1"):
        expected: list[np.ndarray] = []
        model.visit({"sample": torch.arange(20)}, [layer], lambda _, values: expected.append(values.numpy().copy()))  # type: ignore[arg-type] # a visitor # noqa: B023 - called here
        assert captured[layer].chunks is not None
        np.testing.assert_array_equal(captured[layer], expected[0])
    again = outcrop.open(place())
    xr.testing.assert_identical(again.result("blocks")["pairwise"].to_dataset().load(), result["pairwise"].to_dataset())
    assert list(again.results.children) == ["blocks"]
    assert again.data["index-" + data.fingerprint[:8]].sizes["sample"] == 20


def test_a_remote_study_is_read_by_plain_xarray(bucket: str, model: ArrayModel, data: IndexData) -> None:
    outcrop.open(f"{bucket}/s.zarr", mode="a").capture(model, data, layers="all")
    store, _ = open_store(f"{bucket}/s.zarr")
    tree = xr.open_datatree(store, engine="zarr", chunks={})  # type: ignore[arg-type] # stores are taken too
    layers = [node for node in tree["activations"].subtree if "values" in node]
    assert len(layers) == 3
    assert layers[0]["values"].chunks is not None
    assert all(bool(node["values"].notnull().all()) for node in layers)


def test_a_study_is_written_through_fsspec_as_well(bucket: str, model: ArrayModel, data: IndexData) -> None:
    url = f"{bucket}/s.zarr"
    store = FsspecStore.from_url(url, storage_options={"use_listings_cache": False, "skip_instance_cache": True})
    outcrop.open(store, mode="a").capture(model, data, layers="all")
    with Lease_held(open_store(url)[0]), pytest.raises(StudyLockedError, match="is writing to the FsspecStore"):
        outcrop.open(store, mode="a").capture(model, data, layers="all")
    assert len(outcrop.open(url).activations["net"]) == 3
    sync(store.fs._s3.close())  # a session that is left open warns when it is collected


class Lease_held:  # noqa: N801 - reads as a state
    def __init__(self, store: object, *, duration: float = 120.0) -> None:
        self.lease = Lease(store, duration=duration)  # type: ignore[arg-type] # a store

    def __enter__(self) -> Lease:
        assert self.lease.acquire() is None
        return self.lease

    def __exit__(self, *_: object) -> None:
        self.lease.release()


def test_two_writers_of_one_study_elsewhere_are_kept_apart(
    place: Callable[[], object], model: ArrayModel, data: IndexData
) -> None:
    first, second = outcrop.open(place(), mode="a"), outcrop.open(place(), mode="a")
    with (
        first.writing(),
        first.writing(),
        pytest.raises(StudyLockedError, match=r"Another .*since 20.*\) is writing to .*; wait for it to finish"),
    ):
        second.capture(model, data)
    second.capture(model, data)
    assert len(outcrop.open(place()).activations) == 1


def test_a_thread_waits_for_another(place: Callable[[], object]) -> None:
    study = outcrop.open(place(), mode="a")
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with study.writing():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=hold)
    other.start()
    entered.wait(10)
    with pytest.raises(StudyLockedError), study.writing():
        pass
    threading.Timer(0.2, leave.set).start()
    with study.writing(wait=10):
        assert leave.is_set()
    other.join()


def test_a_lease_that_was_not_renewed_is_taken_over_and_its_holder_is_told(bucket: str) -> None:
    url = f"{bucket}/s.zarr"
    study = outcrop.open(url, mode="a")
    store = study.root.store
    dead = json.dumps({"token": "x", "process": 1, "host": "there", "since": "2026", "renewed": 0, "duration": 60})

    def put(text: str) -> None:
        sync(store.set(KEY, default_buffer_prototype().buffer.from_bytes(text.encode())))

    put(dead)
    with study.writing():
        pass
    alive = json.loads(dead) | {"renewed": 1e12}
    put(json.dumps(alive))
    with (
        pytest.raises(StudyLockedError, match=r"Another process \(1 on there, since 2026\) is writing to s3://"),
        study.writing(),
    ):
        pass
    put("garbage")  # of no one: expired
    with (
        pytest.raises(StudyLockedError, match="its lock had expired and was taken over; another process"),
        study.writing(),
    ):
        put(json.dumps(alive))


def test_a_lease_is_renewed_while_it_is_held(bucket: str) -> None:
    study = outcrop.open(f"{bucket}/s.zarr", mode="a")
    with Lease_held(study.root.store, duration=0.4):
        threading.Event().wait(1.0)
        with pytest.raises(StudyLockedError), study.writing():
            pass


def test_a_lease_is_taken_over_where_a_store_cannot_write_conditionally(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore.store

    files = ObjectStore(obstore.store.LocalStore(tmp_path))
    content: dict[str, object] = {}
    for store in (files, MemoryStore(content)):  # type: ignore[arg-type] # filled with buffers
        dead = Lease(store, duration=-1.0)
        assert dead.acquire() is None
        dead._stop.set()
        dead._thread.shutdown(wait=True)  # a process that is gone renews nothing
        with Lease_held(store) as lease:
            assert Lease(store).acquire()["since"] == lease._holder["since"]  # type: ignore[index] # is held
        assert dead.release() == "its lock had expired and was taken over"
        assert not sync(store.exists(KEY))


def test_only_one_of_many_takes_an_expired_lease(bucket: str) -> None:
    store, _ = open_store(f"{bucket}/s.zarr")
    dead = Lease(store, duration=-1.0)
    assert dead.acquire() is None
    dead._stop.set()
    dead._thread.shutdown(wait=True)  # a process that is gone renews nothing
    claims = [Lease(store) for _ in range(6)]
    start, taken = threading.Barrier(6), []

    def claim(lease: Lease) -> None:
        start.wait()
        if lease.acquire() is None:
            taken.append(lease)

    threads = [threading.Thread(target=claim, args=(lease,)) for lease in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    assert taken[0].release() is None
    assert dead.release() == "its lock had expired and was taken over"


def test_a_study_of_sixty_groups_opens_in_few_requests_and_hides_no_new_run(model: ArrayModel, data: IndexData) -> None:
    content: dict[str, object] = {}
    study = outcrop.open(MemoryStore(content), mode="a")  # type: ignore[arg-type] # filled with buffers
    study.capture(model, data, layers="all")
    study.run("blocks", models=["net"])
    (run,) = study.results["blocks"].children
    for copy in range(19):
        for key in [key for key in content if f"/{run}/" in key]:
            content[key.replace(f"/{run}/", f"/copy{copy}/")] = content[key]
    study.refresh()
    groups = sum(1 for key in content if key.endswith("zarr.json") and b'"group"' in content[key].to_bytes())  # type: ignore[attr-defined] # a buffer
    assert groups > 60

    counted = Counting(MemoryStore(content))  # type: ignore[arg-type] # as above
    reader = outcrop.open(counted)
    runs = repr(reader)
    assert "blocks (20)" in runs
    assert counted.requests < 20, counted.made
    # A run that was stored and not yet consolidated is there all the same.
    before = content["zarr.json"]
    study.run("blocks", models=["net"], seed=99)
    content["zarr.json"] = before
    assert "blocks (21)" in repr(outcrop.open(MemoryStore(content)))  # type: ignore[arg-type] # as above
    assert len(outcrop.open(MemoryStore(content)).results["blocks"].children) == 21  # type: ignore[arg-type] # as above


class Counting(LoggingStore[MemoryStore]):
    """Counts what would be requests."""

    def __init__(self, store: MemoryStore, requests: list[str] | None = None) -> None:
        super().__init__(store)
        self.made = [] if requests is None else requests

    @property
    def requests(self) -> int:
        return len(self.made)

    def log(self, hint: object = "") -> object:  # type: ignore[override] # a context manager all the same
        import contextlib

        self.made.append(str(hint))
        return contextlib.nullcontext()

    def with_read_only(self, read_only: bool = False) -> "Counting":
        return Counting(self._store.with_read_only(read_only), self.made)


def test_a_study_in_a_zip_file_is_read(tmp_path: Path, model: ArrayModel, data: IndexData) -> None:
    outcrop.open(tmp_path / "s.zarr", mode="a").capture(model, data, layers="all")
    shutil.make_archive(str(tmp_path / "s"), "zip", tmp_path / "s.zarr")
    with ZipStore(tmp_path / "s.zip", mode="r") as store:
        assert outcrop.open(store).activations["net"]["block.0"].to_numpy().shape == (20, 4)


def test_a_local_store_and_a_file_url_are_the_folder(tmp_path: Path, model: ArrayModel, data: IndexData) -> None:
    outcrop.open(LocalStore(tmp_path / "s.zarr"), mode="a").capture(model, data)
    assert len(outcrop.open((tmp_path / "s.zarr").as_uri()).activations["net"]) == 2


def test_places_that_cannot_be_opened_say_why(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StudyNotFoundError, match=r"No study at s3://bucket-\d+/none\.zarr\. 'outcrop capture'"):
        outcrop.open(f"{bucket}/none.zarr")
    with pytest.raises(StudyNotFoundError, match=r"No study at memory://none\.zarr\."):
        outcrop.open("memory://none.zarr")
    with pytest.raises(StudyError, match=r"The URL s3:// names no bucket; expected s3://BUCKET/NAME\.zarr"):
        outcrop.open("s3://")
    with pytest.raises(StudyError, match="The study nothing://a cannot be opened: Protocol not known: nothing. Give"):
        outcrop.open("nothing://a")
    with pytest.raises(StudyError, match=r"The study az://container/s.zarr cannot be opened: .*Account must be"):
        outcrop.open("az://container/s.zarr")
    with pytest.raises(StudyError, match="The store of .* was opened to read; open it to write, or use mode='r'"):
        outcrop.open(MemoryStore(read_only=True), mode="a")
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)
    with pytest.raises(
        MissingDependencyError, match=r"needs a package .*pip install 'outcrop\[remote\]' brings obstore"
    ):
        outcrop.open(f"{bucket}/s.zarr")


def test_a_lease_that_cannot_be_renewed_is_reported(bucket: str) -> None:
    store, _ = open_store(f"{bucket}/s.zarr")
    lease = Lease(store, duration=0.2)
    assert lease.acquire() is None
    good = lease._object

    class Failing(leases._ObstoreObject):
        def read(self) -> object:  # type: ignore[override] # fails
            raise OSError("connection lost")

    lease._object = Failing(store)  # type: ignore[arg-type] # an object store
    threading.Event().wait(0.3)
    lease._object = good
    good.delete()
    assert lease.release() == "its lock could not be renewed: connection lost"


def study_of(place: object) -> Study:
    return outcrop.open(place, mode="a")  # type: ignore[arg-type] # a place


def test_arrays_of_a_remote_study_are_never_half_written(bucket: str, model: ArrayModel, data: IndexData) -> None:
    study = study_of(f"{bucket}/s.zarr")
    study.capture(model, data, layers="all", batch_size=6)
    keys = [str(item["path"]) for batch in __import__("obstore").list(study.root.store.store) for item in batch]  # type: ignore[attr-defined] # an object store
    assert not [key for key in keys if key.endswith((".part", ".partial", KEY))]
    assert zarr.open_group(study.root.store, mode="r").metadata.consolidated_metadata is not None
