import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from zarr.storage import LocalStore

import outcrop
from outcrop.errors import StudyError, StudyLockedError
from outcrop.store.locking.locks import write_lock

HOLD = """
import sys, time, outcrop
with outcrop.open(sys.argv[1], mode="a").writing():
    print("held", flush=True)
    time.sleep(60)
"""


def holding(study: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(study)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_writer_in_another_process_is_named_and_its_death_frees_the_study(tmp_path: Path) -> None:
    other = holding(tmp_path / "s.zarr")
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    try:
        with (
            pytest.raises(
                StudyLockedError,
                match=rf"Another process \({other.pid} on .*, since 20.*\) is writing to .*s\.zarr; wait for it to",
            ),
            study.writing(),
        ):
            pass
    finally:
        with other:
            other.send_signal(signal.SIGKILL)
    with study.writing():
        pass


def test_two_views_of_a_study_in_one_process_are_two_writers(tmp_path: Path) -> None:
    first, second = (outcrop.open(tmp_path / "s.zarr", mode="a") for _ in range(2))
    with (
        first.writing(),
        first.writing(),  # the same writer, again
        pytest.raises(StudyLockedError, match=r"Another part of this process \(since 20"),
        second.writing(),
    ):
        pass
    with second.writing():
        pass


def test_a_link_to_a_study_leads_to_the_same_lock(tmp_path: Path) -> None:
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    (tmp_path / "link").symlink_to(tmp_path / "s.zarr")
    linked = outcrop.open(tmp_path / "link", mode="a")
    with study.writing(), pytest.raises(StudyLockedError), linked.writing():
        pass


def test_threads_of_one_study_take_turns(tmp_path: Path) -> None:
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    inside, most = 0, 0

    def write() -> None:
        nonlocal inside, most
        for _ in range(5):
            with study.writing(wait=60):
                inside += 1
                most = max(most, inside)
                threading.Event().wait(0.005)
                inside -= 1

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_file_left_behind_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / ".s.zarr.lock").write_text("{garbage")
    with outcrop.open(tmp_path / "s.zarr", mode="a").writing():
        pass


def test_a_lock_of_someone_who_left_no_name_is_respected(tmp_path: Path) -> None:
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    with (
        FileLock(tmp_path / ".s.zarr.lock"),
        pytest.raises(StudyLockedError, match="Another process is writing to .*; wait for it to finish, or write to"),
        study.writing(),
    ):
        pass


def test_a_place_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / ".s.zarr.lock").mkdir()
    lock = write_lock(LocalStore(tmp_path / "s.zarr"), "it")
    with pytest.raises(StudyError, match=r"The study it cannot be locked: .*\.s\.zarr\.lock\. A study is"), lock.held():
        pass


def test_an_error_while_writing_frees_the_lock(tmp_path: Path) -> None:
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    with pytest.raises(ZeroDivisionError), study.writing():
        _ = 1 / 0
    with outcrop.open(tmp_path / "s.zarr", mode="a").writing():
        pass
