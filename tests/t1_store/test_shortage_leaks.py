"""What a machine that has nothing left must not cost for good: descriptors, locks, places, counts.

Each call that takes something fails in turn, once, with each kind of error that it may raise.
"""

from __future__ import annotations

import ast
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from store_script import bench, inline, pattern

import up42fs
from up42fs import supervise
from up42fs.catalog.election import Election
from up42fs.fs.sidecars.disk import OverlayDirectory
from up42fs.log_files import open_log
from up42fs.metrics import Metrics
from up42fs.ownership import open_directory
from up42fs.readahead.tuning import Reading
from up42fs.serve.records import ServerRecord, kept
from up42fs.store.disk import locks
from up42fs.store.disk.files import CellFiles
from up42fs.store.disk.format import Label
from up42fs.store.members.extent import StoredObject
from up42fs.store.slots import Slots
from up42fs.types import ByteRange, Version

#: Calls that may find no memory, and most of them no descriptor or no room.
TAKING = ("open", "fstat", "fchmod", "pread", "pwrite", "write", "set_blocking", "stat", "unlink")
ERRORS = (MemoryError, lambda: RuntimeError("can't start new thread"), KeyboardInterrupt, OSError)


class ScarceError(BaseException):
    """Raised where nothing failed any more."""


@contextmanager
def failing_at(number: int, error: Callable[[], BaseException]) -> Iterator[None]:
    """Let the call of that number fail, counted from 0; raises ScarceError where none did."""
    left = number

    def scarce(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left == -1:
                raise error()
            return real(*arguments, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in TAKING:
            patch.setattr(os, name, scarce(getattr(os, name)))
        patch.setattr(fcntl, "flock", scarce(fcntl.flock))
        yield
    if left >= 0:
        raise ScarceError


def open_descriptors() -> set[str]:
    return {link.name for link in Path("/proc/self/fd").iterdir() if link.exists()}


def elect(place: Path) -> None:
    election = Election(place / "catalogue" / "c.sqlite")
    try:
        election.stand()
        election.elected()
        election.wish()
    finally:
        election.resign()


def lock_member(place: Path) -> None:
    files = CellFiles(place, "0" * 16, Metrics())
    try:
        taken = locks.take(files.root, "a")
        if taken is not None:
            locks.Held(files.root, "a", taken).leave()
    finally:
        files.root.close()


def keep_cell(place: Path) -> None:
    files = CellFiles(place, "0" * 16, Metrics())
    label = Label("a", Version(size=4096, etag='"one"'))
    try:
        files.store(label, ByteRange(0, 4096), memoryview(bytes(4096)))
        files.label("a")
    finally:
        files.root.close()


def keep_record(place: Path) -> None:
    with kept(ServerRecord("http://127.0.0.1:1", "a", "b"), place):
        pass


def open_sidecar(place: Path) -> None:
    disk = OverlayDirectory(place / "up42fs" / "sidecars")
    try:
        name, descriptor = disk.draft()
        os.close(descriptor)
        disk.rename(name, "a")
        os.close(disk.open("a")[0])
    finally:
        disk.close()


WORKS = {
    "election": elect,
    "directory": lambda place: os.close(open_directory(place / "a" / "b")),
    "member": lock_member,
    "cell": keep_cell,
    "record": keep_record,
    "log": lambda place: os.close(open_log(place / "log")),
    "sidecar": open_sidecar,
}


@pytest.mark.parametrize("error", ERRORS, ids=["memory", "thread", "interrupt", "system"])
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS.keys())
@pytest.mark.claim("S385")
def test_no_descriptor_is_left_open_whatever_fails(
    work: Callable[[Path], None], error: Callable[[], BaseException], tmp_path: Path
) -> None:
    """A file that stays open keeps its lock: nobody could be elected while the process lives."""
    failed = 0
    for number in range(60):
        place = tmp_path / str(number)
        place.mkdir(mode=0o700)
        before = open_descriptors()
        try:
            with failing_at(number, error), suppress(Exception, KeyboardInterrupt):
                work(place)
        except ScarceError:
            break
        failed += 1
        assert open_descriptors() <= before, f"call {number}"
        work(place)
    assert 0 < failed < 60


@pytest.mark.claim("S385")
def test_an_election_that_failed_once_is_not_lost(tmp_path: Path) -> None:
    """Seen: the lock of an election that ran out of memory was this process's own, for a minute."""
    election, other = Election(tmp_path / "c.sqlite"), Election(tmp_path / "c.sqlite")
    for number in range(20):
        with suppress(ScarceError, MemoryError), failing_at(number, MemoryError):
            election.stand()
        election.resign()
        assert other.stand(), f"call {number}"
        other.resign()


def test_no_descriptor_is_closed_for_one_kind_of_error_only() -> None:
    """`except OSError: os.close(…); raise` leaks at a MemoryError or at Ctrl-C."""
    found = []
    for path in Path(up42fs.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ExceptHandler) or not isinstance(node.type, ast.Name):
                continue
            said = [ast.unparse(one) for one in node.body]
            closes = any(one.endswith(".close()") or "os.close(" in one for one in said[:-1])
            if closes and said[-1] == "raise" and node.type.id != "BaseException":
                found.append(f"{path}:{node.lineno}")
    assert found == []


# tasks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(6))
@pytest.mark.claim("S385")
async def test_a_task_that_has_no_memory_stops_no_later_read(
    at: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, autojump_clock: object
) -> None:
    """Of all tasks that reads begin, one finds no memory; then each read has its bytes, at once."""
    data = pattern(3 << 20)
    real, left = supervise.start, 1 << 30

    def start(*arguments: Any) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            raise MemoryError
        real(*arguments)

    monkeypatch.setattr(supervise, "start", start)
    async with trio.open_nursery() as nursery:
        b = bench(nursery, {"a": data}, cache_dir=tmp_path, run_disk=inline)
        # The end of the last handle would tidy up.
        held = b.files.open(StoredObject("a", len(data), "a"), Reading.EXACT)
        left = at
        for _ in range(2):
            with suppress(Exception):
                file = b.files.open(StoredObject("a", len(data), "a"), Reading.EXACT)
                try:
                    await file.read(1 << 20, 100_000)
                finally:
                    file.close()
        left = -2
        began_s = trio.current_time()
        file = b.files.open(StoredObject("a", len(data), "a"), Reading.EXACT)
        for offset in (1 << 20, 0, 2 << 20):
            assert await file.read(offset, 100_000) == data[offset : offset + 100_000]
        assert trio.current_time() - began_s < 5, "no read waits for one that nobody began"
        file.close()
        held.close()
        await trio.sleep(5)
        began_s = trio.current_time()
        await b.files.aclose()
        assert trio.current_time() - began_s < 1, "no write is waited for that nobody began"
        nursery.cancel_scope.cancel()


async def test_jobs_that_could_not_be_started_are_started_later(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    done: list[int] = []

    async def work(job: int) -> None:
        done.append(job)

    def no_memory(*_: object) -> None:
        raise MemoryError

    async with trio.open_nursery() as nursery:
        slots: Slots[int] = Slots(nursery, work, total=2, ahead=1)
        with monkeypatch.context() as patch:
            patch.setattr(supervise, "start", no_memory)
            for job in (1, 2):
                with pytest.raises(MemoryError):
                    slots.submit(job, urgent=True)
        await trio.testing.wait_all_tasks_blocked()
        assert done == []
        assert slots.is_queued(1)
        assert not slots.is_running(1)
        slots.go_on()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(done) == [1, 2]
