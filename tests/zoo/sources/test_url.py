"""Fetching from a real server on this machine that cuts connections, serves ranges, or refuses to."""

import hashlib
import logging
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outcrop.errors import ModelNotFoundError, ZooError
from outcrop.progress import Advance
from outcrop_zoo.sources import transfer, url

CONTENT = bytes(range(256)) * 4096  # 1 MiB
HASH = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What the server does, and what it was asked.

    Attributes:
        cuts: Bytes after which the next connections end.
        statuses: Answered to the next requests instead of the content.
    """

    address: str = ""
    content: bytes = CONTENT
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    wrong_range: bool = False
    length: bool = True
    tag: str = ""
    asked: list[str] = field(default_factory=list)
    compared: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(transfer, "_PAUSE", 0.0)
    monkeypatch.setattr(
        transfer.Transfer.__init__, "__kwdefaults__", transfer.Transfer.__init__.__kwdefaults__ | {"pause": 0.0}
    )
    monkeypatch.setattr(transfer, "_CHUNK", 1 << 14)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    said = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            said.asked.append(asked)
            said.compared.append(self.headers.get("If-Range", ""))
            self.close_connection = True
            if said.statuses:
                self.send_response(said.statuses.pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and said.ranges else 0
            if self.headers.get("If-Range") not in (None, said.tag):
                start = 0
            if asked and start > len(said.content):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                first = 0 if said.wrong_range else start
                self.send_header("Content-Range", f"bytes {first}-{len(said.content) - 1}/{len(said.content)}")
            if said.tag:
                self.send_header("ETag", said.tag)
            if said.length:
                self.send_header("Content-Length", str(len(said.content) - start))
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            body = said.content[start:]
            self.wfile.write(body[: said.cuts.pop(0)] if said.cuts else body)

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    said.address = f"http://127.0.0.1:{running.server_port}/models/net.onnx"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield said
    running.shutdown()
    running.server_close()
    thread.join()


def _fetch(server: Server, target: Path, **changes: object) -> Path:
    expected = {"sha256": HASH, "size": len(CONTENT), **changes}
    return url.fetch(server.address, target, **expected)  # type: ignore[arg-type]


def _left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_a_file_is_fetched_once_and_then_used(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "net.onnx"
    assert _fetch(server, target) == target
    assert target.read_bytes() == CONTENT
    _fetch(server, target)
    assert server.asked == [""]
    assert _left(target.parent) == {"net.onnx"}


def test_a_cache_for_reading_only_serves_what_it_holds(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    target.write_bytes(CONTENT)
    assert _fetch(server, target) == target
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]  # not even a lock was laid


def test_a_disk_that_refuses_is_told_with_its_folder(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ZooError, match=r"could not be kept in .*file/cache \(Not a directory\). Make room there, or le"
    ):
        _fetch(server, tmp_path / "file" / "cache" / "net.onnx")


def test_a_full_disk_keeps_what_came_and_the_next_call_continues(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, hard))
    try:
        with pytest.raises(ZooError, match=r"net.onnx could not be kept in .* \(File too large\)"):
            _fetch(server, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _left(tmp_path) == {"net.onnx.part"}
    _fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == ["", f"bytes={len(CONTENT) // 2}-"]


def test_a_cut_connection_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 100_000, 0, 0, 200_000]
    target = _fetch(server, tmp_path / "net.onnx")
    assert target.read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in server.asked[1:]]
    assert starts == sorted(starts)
    assert starts[0] > 200_000
    assert len(starts) == 5
    assert _left(tmp_path) == {"net.onnx"}


def test_half_a_download_is_never_left_as_if_whole_and_the_next_call_continues(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 0, 0, 0]
    target = tmp_path / "net.onnx"
    with pytest.raises(ModelNotFoundError) as error:
        _fetch(server, target)
    assert not target.exists()
    kept = (tmp_path / "net.onnx.part").stat().st_size
    assert 200_000 < kept <= 300_000
    assert f"{kept} of {len(CONTENT)} bytes are kept in {target}.part; the same command goes on" in str(error.value)
    assert CONTENT.startswith((tmp_path / "net.onnx.part").read_bytes())
    server.asked.clear()
    assert _fetch(server, target).read_bytes() == CONTENT
    assert server.asked == [f"bytes={kept}-"]
    assert _left(tmp_path) == {"net.onnx"}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, len(CONTENT)), max_size=6), kept=st.integers(0, len(CONTENT) + 5), ranges=st.booleans()
)
def test_whatever_happens_the_target_is_whole_or_not_there(
    cuts: list[int], kept: int, ranges: bool, server: Server, tmp_path: Path
) -> None:
    target = tmp_path / "net.onnx"
    target.unlink(missing_ok=True)
    (tmp_path / "net.onnx.part").write_bytes((CONTENT + b"12345")[:kept])
    server.cuts, server.ranges = list(cuts), ranges
    try:
        _fetch(server, target)
    except ModelNotFoundError:
        assert not target.exists()
    else:
        assert target.read_bytes() == CONTENT
        assert not (tmp_path / "net.onnx.part").exists()


def test_a_file_that_is_there_with_a_wrong_content_is_replaced(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    target.write_bytes(CONTENT[: len(CONTENT) // 2])
    assert _fetch(server, target).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_the_cache_stays_as_it_was(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"!"
    found = hashlib.sha256(server.content).hexdigest()
    target, other = tmp_path / "net.onnx", tmp_path / "other.onnx"
    target.write_bytes(b"an older version")
    other.write_bytes(b"another model")
    with pytest.raises(ZooError, match=f"not the one on its card: sha256 {found}, expected {HASH}. What came was"):
        _fetch(server, target)
    assert (target.read_bytes(), other.read_bytes()) == (b"an older version", b"another model")
    assert _left(tmp_path) == {"net.onnx", "other.onnx"}
    assert len(server.asked) == 1


def test_a_beginning_of_another_version_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net.onnx.part").write_bytes(b"\xff" * 1000)
    assert _fetch(server, tmp_path / "net.onnx").read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", ""]


def test_a_part_that_is_whole_already_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net.onnx.part").write_bytes(CONTENT)
    assert _fetch(server, tmp_path / "net.onnx").read_bytes() == CONTENT
    assert server.asked == []


def test_a_server_without_ranges_sends_all_of_it_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [300_000]
    assert _fetch(server, tmp_path / "net.onnx").read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_server_that_sends_another_part_starts_anew(server: Server, tmp_path: Path) -> None:
    server.wrong_range = True
    (tmp_path / "net.onnx.part").write_bytes(CONTENT[:1000])
    assert _fetch(server, tmp_path / "net.onnx").read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", ""]


def test_a_server_that_cannot_go_on_starts_anew(server: Server, tmp_path: Path) -> None:
    server.statuses = [416]
    (tmp_path / "net.onnx.part").write_bytes(CONTENT[:1000])
    assert _fetch(server, tmp_path / "net.onnx").read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", ""]


@pytest.mark.parametrize(
    ("status", "requests"), [(404, 1), (403, 1), (503, transfer.ATTEMPTS), (429, transfer.ATTEMPTS)]
)
def test_a_server_that_does_not_have_it_is_told(status: int, requests: int, server: Server, tmp_path: Path) -> None:
    server.statuses = [status] * 9
    with pytest.raises(
        ModelNotFoundError, match=f"net.onnx could not be fetched: the server answers {status} .*Check the"
    ):
        _fetch(server, tmp_path / "net.onnx")
    assert len(server.asked) == requests
    assert _left(tmp_path) == set()


def test_a_server_that_is_busy_for_a_moment_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    assert _fetch(server, tmp_path / "net.onnx").read_bytes() == CONTENT


def test_no_connection_is_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="could not be fetched: there is no connection to the server"):
        url.fetch("http://127.0.0.1:1/net.onnx", tmp_path / "net.onnx", sha256=HASH, size=1)


def test_a_file_of_another_length_is_refused_before_a_byte_is_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net.onnx.part").write_bytes(CONTENT[:1000])
    server.content, server.ranges = b"<html>Log in to this network</html>", False
    with pytest.raises(ZooError, match=f"is 35 bytes long; expected {len(CONTENT)}. .*network wants you to log in"):
        _fetch(server, tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx.part").read_bytes() == CONTENT[:1000]


def test_more_than_the_card_says_is_refused(server: Server, tmp_path: Path) -> None:
    server.length = False
    with pytest.raises(
        ZooError, match="sends more than the 1000 bytes that .*net.onnx should have; what came was removed"
    ):
        _fetch(server, tmp_path / "net.onnx", size=1000)
    assert not (tmp_path / "net.onnx").exists()


def test_a_silent_cut_without_a_stated_length_is_noticed(server: Server, tmp_path: Path) -> None:
    server.length, server.cuts = False, [400_000, 0, 0, 0]
    with pytest.raises(ModelNotFoundError, match="could not be fetched: the connection ended early. .* bytes are kept"):
        _fetch(server, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_an_unknown_file_is_fetched_by_the_length_that_the_server_states(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"what came of another address")
    (tmp_path / "net.onnx.part").write_bytes(b"\xff" * 1000)
    server.cuts = [300_000]
    assert url.fetch(server.address, tmp_path / "net.onnx").read_bytes() == CONTENT
    # Without a tag of the server, its second half could be that of another version.
    assert server.asked == ["", ""]


def test_an_unknown_file_goes_on_where_the_server_says_that_it_is_the_same(server: Server, tmp_path: Path) -> None:
    server.tag, server.cuts = '"v1"', [300_000]
    assert url.fetch(server.address, tmp_path / "net.onnx").read_bytes() == CONTENT
    assert server.asked[1].startswith("bytes=2")
    assert server.compared == ["", '"v1"']


def test_an_unknown_file_of_unknown_length_is_refused(server: Server, tmp_path: Path) -> None:
    server.length = False
    with pytest.raises(ZooError, match="does not say how long .* is, so half of it could pass for all"):
        url.fetch(server.address, tmp_path / "net.onnx")
    assert _left(tmp_path) == set()


def test_progress_counts_every_byte_once(server: Server, tmp_path: Path) -> None:
    told: list[object] = []

    @contextmanager
    def progress(description: str, total: int, *, unit: str = "samples") -> Iterator[Advance]:
        told.extend([description, total, unit])
        yield told.append

    (tmp_path / "net.onnx.part").write_bytes(CONTENT[:1000])
    server.cuts = [300_000]
    _fetch(server, tmp_path / "net.onnx", progress=progress)
    assert told[:3] == ["Fetching net.onnx", len(CONTENT), "bytes"]
    assert sum(step for step in told[3:] if isinstance(step, int)) == len(CONTENT)


def test_poochs_own_messages_are_silenced_for_the_fetch_only(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = pooch.get_logger().level
    _fetch(server, tmp_path / "net.onnx")
    assert pooch.get_logger().level == before != logging.WARNING
    assert capfd.readouterr() == ("", "")
