"""The read engine over a disk cache: remounts cost nothing, doubt costs one request, and a disk
that fails, fills, lies or hangs costs nobody a read."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_script import Bench, bench, inline, pattern

from up42fs.errors import Offline, VersionChanged
from up42fs.metrics import Metrics
from up42fs.ranges import coalesce
from up42fs.store.disk import cache as disk_cache
from up42fs.store.disk.cache import QUICK_BYTES_S, DiskCache
from up42fs.store.disk.cached_files import MEASURE_S, STALE_S, CacheRoom, Space, Use
from up42fs.store.disk.files import CACHE_TAG, MOST_APART, CellFiles, Wanted
from up42fs.store.disk.format import CELL_BYTES, Label
from up42fs.store.disk.locks import ClaimFile
from up42fs.store.members.extent import StoredObject
from up42fs.types import ByteRange, Version

KIB, MIB = 1 << 10, 1 << 20
BLOCK = 128 * KIB
DATA = pattern(8 * MIB + 4321)
KEY = "0" * 16
T = TypeVar("T")
Clock = trio.testing.MockClock


@dataclass
class Remounts:
    """Stores one after another, or at once, over one cache directory."""

    directory: Path
    objects: dict[str, bytes]
    settle_s: float = 1.0
    etags: dict[str, str] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)

    async def mounted(self, use: Callable[[Bench], object]) -> Bench:
        async with trio.open_nursery() as nursery:
            b = self.mount(nursery)
            await use(b)  # type: ignore[misc]
            await trio.sleep(self.settle_s)  # what is on its way arrives
            await b.files.aclose()
            nursery.cancel_scope.cancel()
        return b

    def mount(self, nursery: trio.Nursery) -> Bench:
        options = {"cache_dir": self.directory, "run_disk": inline} | self.options
        b = bench(nursery, self.objects, **options)  # type: ignore[arg-type]
        b.script.etags |= self.etags
        return b


@pytest.fixture
def mounts(tmp_path: Path) -> Remounts:
    return Remounts(tmp_path / "cache", {"a": DATA})


def cached_files(mounts: Remounts) -> list[Path]:
    """The files of objects: claims and the tag for backup programs hold no bytes."""
    found = mounts.directory.rglob("*")
    others = (ClaimFile.NAME, CACHE_TAG)
    return [path for path in found if path.is_file() and path.name not in others]


async def read(b: Bench, *spans: ByteRange, object_id: str = "a", stamp: str | None = None) -> None:
    data = b.script.objects[object_id]
    file = b.files.open(StoredObject(object_id, len(data), "scene.tif", stamp=stamp))
    for span in spans:
        assert await file.read(span.start, len(span)) == data[span.start : span.stop]
    file.close()


async def whole(b: Bench, object_id: str = "a", stamp: str | None = None) -> None:
    size = len(b.script.objects[object_id])
    steps = [ByteRange(o, min(size, o + BLOCK)) for o in range(0, size, BLOCK)]
    await read(b, *steps, object_id=object_id, stamp=stamp)


HEAD, TAIL = ByteRange(0, 16 * KIB), ByteRange(len(DATA) - 4 * KIB, len(DATA))
MIDDLE = ByteRange(3 * MIB + 5, 3 * MIB + 4 * KIB)


async def info(b: Bench) -> None:
    await read(b, HEAD, TAIL, MIDDLE)


# remounts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", [whole, info])
async def test_a_remount_asks_nothing(mounts: Remounts, autojump_clock: Clock, use) -> None:
    first = await mounts.mounted(use)
    assert first.script.requests
    second = await mounts.mounted(use)
    assert second.script.requests == []
    assert second.script.signs == []
    assert second.metrics["store.disk_hits_bytes"] >= BLOCK


async def test_a_remount_with_other_reads_asks_only_what_is_missing(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    await mounts.mounted(lambda b: read(b, ByteRange(2 * MIB, 2 * MIB + 10)))

    async def others(b: Bench) -> None:
        await read(b, ByteRange(2 * MIB + 50 * KIB, 2 * MIB + 60 * KIB))
        assert b.script.requests == []
        await read(b, ByteRange(2 * MIB - 10, 2 * MIB + 10))  # half of it is on disk

    second = await mounts.mounted(others)
    assert [span for _, span, _ in second.script.requests] == [ByteRange(2 * MIB - BLOCK, 2 * MIB)]
    assert len(second.script.signs) == 1


async def test_who_copies_a_file_in_doubt_waits_for_the_first_answer(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    """The catalogue has another stamp: one answer tells that all the rest is on disk."""
    await mounts.mounted(lambda b: whole(b, stamp="old"))

    async def copied(b: Bench) -> None:
        steps = [ByteRange(at, min(len(DATA), at + MIB)) for at in range(0, len(DATA), MIB)]
        await read(b, *steps, stamp="new")

    second = await mounts.mounted(copied)
    assert second.script.requests
    assert sum(len(span) for _, span, _ in second.script.requests) <= MIB


async def test_the_disk_is_looked_at_from_the_open_on(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    """So that the first read need not wait for that."""
    await mounts.mounted(info)

    async def opened(b: Bench) -> None:
        file = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
        await trio.testing.wait_all_tasks_blocked()
        fetcher = b.files._objects.fetcher("a", len(DATA), "scene.tif", None)
        assert fetcher.source.is_ready
        assert fetcher.source.held_in([]) >= BLOCK
        assert (b.script.requests, b.script.signs) == ([], [])
        file.close()

    await mounts.mounted(opened)


async def test_cached_bytes_are_read_offline_and_others_fail_at_once(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    await mounts.mounted(info)

    async def offline(b: Bench) -> None:
        b.script.sign_error = Offline("no network")
        await info(b)
        with pytest.raises(Offline):
            await read(b, ByteRange(5 * MIB, 5 * MIB + 10))
        await info(b)

    await mounts.mounted(offline)


async def test_evicted_memory_is_loaded_from_disk(mounts: Remounts, autojump_clock: Clock) -> None:
    mounts.options["memory_bytes"] = 2 * MIB

    async def twice(b: Bench) -> None:
        await whole(b)
        asked = len(b.script.requests)
        await whole(b)
        assert len(b.script.requests) == asked

    await mounts.mounted(twice)


async def test_two_mounts_at_once_share(
    mounts: Remounts, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    one, two = mounts.mount(nursery), mounts.mount(nursery)
    await whole(one)
    await trio.testing.wait_all_tasks_blocked()
    await whole(two)
    assert two.script.requests == []


async def test_other_accounts_do_not(mounts: Remounts, autojump_clock: Clock) -> None:
    await mounts.mounted(whole)
    mounts.options["cache_key"] = "1" * 16
    other = await mounts.mounted(whole)
    assert other.script.asked() == len(DATA)


async def test_no_cache_means_no_files(mounts: Remounts, autojump_clock: Clock) -> None:
    mounts.options["cache_bytes"] = 0
    await mounts.mounted(whole)
    assert not mounts.directory.exists()


async def test_bytes_held_are_counted_once(mounts: Remounts, autojump_clock: Clock) -> None:
    await mounts.mounted(info)

    async def count(b: Bench) -> None:
        async def held(stamp: str | None = None) -> int:
            return await b.files.ensure_cached_bytes(StoredObject("a", len(DATA), "a", stamp))

        assert await held() == 3 * BLOCK
        await read(b, HEAD, ByteRange(5 * MIB, 5 * MIB + 10))
        await trio.sleep(1)
        assert await held() == 4 * BLOCK
        assert b.script.asked() == BLOCK

    await mounts.mounted(count)


async def test_bytes_held_of_an_unknown_size(mounts: Remounts, autojump_clock: Clock) -> None:
    await mounts.mounted(info)

    async def count(b: Bench) -> None:
        assert await b.files.ensure_cached_bytes(StoredObject("a", None, "a")) == 3 * BLOCK
        assert await b.files.ensure_cached_bytes(StoredObject("b", None, "b")) == 0
        assert b.script.signs == []

    await mounts.mounted(count)


# versions -------------------------------------------------------------------------------------


async def test_another_stamp_costs_one_request_and_then_none(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    await mounts.mounted(lambda b: whole(b, stamp="monday"))
    second = await mounts.mounted(lambda b: whole(b, stamp="tuesday"))
    assert len(second.script.requests) <= 2  # the first answer settles it
    assert second.script.asked() < len(DATA) // 2
    third = await mounts.mounted(lambda b: whole(b, stamp="tuesday"))
    assert third.script.requests == []


async def test_a_stamp_that_moves_while_mounted_costs_one_request(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    async def edited(b: Bench) -> None:
        await whole(b, stamp="monday")
        asked = len(b.script.requests)
        for _ in range(3):
            await whole(b, stamp="tuesday")
        assert len(b.script.requests) <= asked + 2

    await mounts.mounted(edited)
    second = await mounts.mounted(lambda b: whole(b, stamp="tuesday"))
    assert second.script.requests == []


async def test_a_new_object_of_the_same_size_shows_with_its_stamp(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    """The catalogue first shows what it knew when it was unmounted, then what is."""
    await mounts.mounted(lambda b: whole(b, stamp="monday"))
    new = pattern(len(DATA), seed=9)

    async def changed(b: Bench) -> None:
        await read(b, HEAD, MIDDLE, stamp="monday")
        b.script.objects["a"], b.script.etags["a"] = new, '"a-2"'
        await whole(b, stamp="tuesday")
        assert b.versions == []

    await mounts.mounted(changed)


@pytest.mark.parametrize("size", [len(DATA), len(DATA) - 99])
async def test_a_new_object_under_another_stamp_is_read_afresh(
    mounts: Remounts, autojump_clock: Clock, size: int
) -> None:
    await mounts.mounted(lambda b: whole(b, stamp="monday"))
    mounts.objects["a"] = pattern(size, seed=9)
    mounts.etags["a"] = '"a-2"'
    for asked in (size, 0):
        b = await mounts.mounted(lambda b: whole(b, stamp="tuesday"))
        assert b.script.asked() == asked
        assert b.versions == []


async def test_a_new_object_behind_the_catalogues_back_is_stale_once(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    await mounts.mounted(info)
    mounts.objects["a"] = new = pattern(len(DATA), seed=9)
    mounts.etags["a"] = '"a-2"'

    async def changed(b: Bench) -> None:
        file = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
        assert await file.read(0, 100) == DATA[:100]  # nobody knows yet
        with pytest.raises(VersionChanged):
            await file.read(5 * MIB, 100)
        with pytest.raises(VersionChanged):
            await file.read(0, 100)
        await whole(b)

    b = await mounts.mounted(changed)
    assert b.versions == [("a", Version(len(new), '"a-2"'))]
    assert (await mounts.mounted(whole)).script.requests == []


async def test_objects_without_a_strong_etag_are_not_kept(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    mounts.etags["a"] = 'W/"a"'
    for _ in range(2):
        b = await mounts.mounted(whole)
        assert b.script.asked() == len(DATA)
        assert b.metrics["store.disk_writes_bytes"] == 0


async def test_a_vanished_objects_file_goes(mounts: Remounts, autojump_clock: Clock) -> None:
    async def gone(b: Bench) -> None:
        await whole(b)
        b.files.forget("a")

    await mounts.mounted(gone)
    assert cached_files(mounts) == []


async def test_sizes_learned_survive_a_remount(mounts: Remounts, autojump_clock: Clock) -> None:
    mounts.objects |= {"empty": b"", "small": b"x" * 100}

    async def learn(b: Bench) -> None:
        for name, data in mounts.objects.items():
            version = await b.files.ensure_version(StoredObject(name, None, name, "s"))
            assert version.size == len(data)

    first = await mounts.mounted(learn)
    assert len(first.script.requests) == 3
    second = await mounts.mounted(learn)
    assert second.script.signs == []

    async def other_stamp(b: Bench) -> None:
        await b.files.ensure_version(StoredObject("a", None, "a", "t"))
        await read(b, HEAD, stamp="t")

    assert len((await mounts.mounted(other_stamp)).script.requests) == 1
    assert (await mounts.mounted(other_stamp)).script.requests == []


# disks that fail ------------------------------------------------------------------------------


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


async def off_but_reading(mounts: Remounts, caplog: pytest.LogCaptureFixture, why: str) -> None:
    async def use(b: Bench) -> None:
        await whole(b)
        await info(b)
        status = b.files.disk_status()
        assert status is not None
        assert why in str(status["off_because"])

    b = await mounts.mounted(use)
    assert b.script.asked() == len(DATA)
    (warning,) = warnings(caplog)
    assert why in warning
    assert str(mounts.directory) in warning


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a few files only."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "small"
    place.mkdir()
    options = "size=64M,nr_inodes=4,mode=700"
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=False)
    if made.returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


async def test_a_full_disk_turns_it_off(
    mounts: Remounts, small_disk: Path, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    mounts.directory = small_disk
    (small_disk / "other").write_bytes(b"")
    await off_but_reading(mounts, caplog, "ENOSPC")


PASSING = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    MemoryError(),
    RuntimeError("can't start new thread"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
@pytest.mark.parametrize("after", [0, 2, 5])
@pytest.mark.claim("S69")
async def test_what_is_used_up_for_a_while_turns_it_off_for_a_while(
    mounts: Remounts,
    autojump_clock: Clock,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    after: int,
) -> None:
    jobs, is_well = iter(range(1000)), trio.Event()

    async def failing(job: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        if next(jobs) >= after and not is_well.is_set():
            raise error
        return await inline(job, limiter)

    mounts.options["run_disk"] = failing

    async def use(b: Bench) -> None:
        await whole(b)
        await info(b)
        await trio.sleep(0.1)
        status = b.files.disk_status()
        assert status is not None
        assert status["off_because"]
        b.files.forget("a")  # its file may be there; it must not come back
        for _ in range(8):  # tried in vain, for longer each time
            await trio.sleep(disk_cache.LONGEST_PAUSE_S)
            await whole(b)
        is_well.set()
        await trio.sleep(disk_cache.LONGEST_PAUSE_S + 1)
        b.files.forget("a")
        await whole(b)
        await trio.sleep(1)
        status = b.files.disk_status()
        assert status is not None
        assert status["off_because"] is None

    await mounts.mounted(use)
    (warning,) = warnings(caplog)[:1]
    assert "off for a while" in warning
    del mounts.options["run_disk"]
    assert (await mounts.mounted(whole)).script.requests == []  # it was kept in the end


async def test_a_read_only_disk_turns_it_off(
    mounts: Remounts, small_disk: Path, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    mounts.directory = small_disk
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    await off_but_reading(mounts, caplog, "EROFS")


async def test_a_file_in_the_way_turns_it_off(
    mounts: Remounts, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    mounts.directory.mkdir()
    (mounts.directory / "blocks").write_bytes(b"")
    await off_but_reading(mounts, caplog, "ENOTDIR")


@pytest.mark.parametrize("after", [0, 1, 3, 9])
@pytest.mark.claim("S69")
async def test_an_error_at_any_moment_turns_it_off(
    mounts: Remounts, autojump_clock: Clock, caplog: pytest.LogCaptureFixture, after: int
) -> None:
    jobs = iter(range(1000))

    async def failing(job: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        if next(jobs) >= after:
            raise OSError(5, "Input/output error")
        return await inline(job, limiter)

    mounts.options["run_disk"] = failing
    await off_but_reading(mounts, caplog, "EIO")


async def test_a_disk_that_hangs_turns_it_off(
    mounts: Remounts, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await mounts.mounted(info)

    async def hanging(job: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        await trio.sleep(100)
        return await inline(job, limiter)

    mounts.options["run_disk"] = hanging
    await off_but_reading(mounts, caplog, "did not answer")


async def test_a_load_that_hangs_cannot_write_into_what_is_read(
    mounts: Remounts, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await mounts.mounted(whole)
    abandoned: list[Callable[[], object]] = []

    async def hanging(job: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        if limiter.total_tokens == disk_cache.LOADERS and len(abandoned) >= 1:
            abandoned.append(job)
            await trio.sleep_forever()
        abandoned.append(lambda: None)
        return await inline(job, limiter)

    mounts.options["run_disk"] = hanging
    mounts.objects["a"] = DATA[::-1]  # so that a late load would show

    async def use(b: Bench) -> None:
        file = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
        got = await file.read(3 * MIB, BLOCK)
        before = bytes(got)
        for job in abandoned:
            job()
        assert bytes(got) == before
        assert before == DATA[::-1][3 * MIB : 3 * MIB + BLOCK]
        assert await file.read(3 * MIB, BLOCK) == before

    await mounts.mounted(use)
    assert len(warnings(caplog)) == 1


async def test_a_slow_disk_slows_no_read_from_memory_and_bounds_what_waits(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    async def slow(job: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        if limiter.total_tokens == 1:
            async with limiter:
                await trio.sleep(3)
        return await inline(job, trio.CapacityLimiter(1))

    mounts.options |= {"run_disk": slow, "memory_bytes": 16 * MIB}

    async def use(b: Bench) -> None:
        begin_s = trio.current_time()
        await whole(b)
        first_s = trio.current_time() - begin_s
        status = b.files.disk_status()
        assert status is not None
        assert int(str(status["queued_bytes"])) <= 4 * MIB
        begin_s = trio.current_time()
        await whole(b)
        assert trio.current_time() == begin_s
        assert first_s < 2.5

    b = await mounts.mounted(use)
    assert b.metrics["store.disk_skipped_bytes"] > 0


async def test_a_quick_disk_keeps_all_of_a_file_though_the_line_is_quicker(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    """Also what waits for room in the queue when the mount ends."""

    async def quick(job: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        if limiter.total_tokens == 1:
            async with limiter:
                await trio.sleep(MIB / QUICK_BYTES_S / 2)
        return await inline(job, trio.CapacityLimiter(1))

    mounts.options |= {"run_disk": quick, "memory_bytes": 80 * MIB}
    mounts.settle_s = 0
    mounts.objects["a"] = data = pattern(32 * MIB)

    async def use(b: Bench) -> None:
        b.script.latency_s = b.script.chunk_s = 0.0
        begin_s = trio.current_time()
        await whole(b)
        assert trio.current_time() - begin_s <= len(data) / QUICK_BYTES_S

    b = await mounts.mounted(use)
    assert b.metrics["store.disk_writes_bytes"] == len(data)
    assert (await mounts.mounted(whole)).script.requests == []


async def test_what_waits_for_the_disk_counts_as_memory(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    disk = trio.Event()

    async def waiting(job: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        if limiter.total_tokens == 1:
            async with limiter:
                await disk.wait()
        return await inline(job, trio.CapacityLimiter(1))

    mounts.options |= {"run_disk": waiting, "memory_bytes": 4 * MIB}

    async def use(b: Bench) -> None:
        await read(b, ByteRange(2 * MIB, 2 * MIB + 10))
        await trio.sleep(1)
        held_bytes = b.files.gauges()["memory_bytes"]
        assert held_bytes >= BLOCK
        b.files.forget("a")
        assert b.files.gauges()["memory_bytes"] == held_bytes, "the bytes are still there"
        disk.set()
        await trio.sleep(1)
        b.files._objects.cache.shrink(b.files._objects.cache.budget_bytes)
        assert b.files.gauges()["memory_bytes"] == 0

    await mounts.mounted(use)


# room -----------------------------------------------------------------------------------------


@dataclass
class Place:
    """A cache directory with a clock and a file system of our making."""

    blocks: Path
    now_s: float = 1_000_000.0
    space: Space = field(default_factory=lambda: Space(1 << 40, 1 << 40))
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.files = CellFiles(self.blocks, KEY, self.metrics)

    def room(self, cap_bytes: int) -> CacheRoom:
        return CacheRoom(
            self.blocks, cap_bytes, self.metrics,
            space=lambda _: self.space, clock=lambda: self.now_s,
        )  # fmt: skip

    def put(self, name: str, size: int, *, age_s: float) -> None:
        label = Label(name, Version(size, '"e"'))
        self.files.store(label, ByteRange(0, size), memoryview(bytes(size)))
        for path in (self.blocks / KEY).iterdir():
            if path.name not in self._paths.values():
                self._paths[name] = path.name
                os.utime(path, (self.now_s - age_s, self.now_s - age_s))

    _paths: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        there = {path.name for path in (self.blocks / KEY).iterdir()}
        return {name for name, file in self._paths.items() if file in there}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "blocks")


def test_what_was_used_longest_ago_goes_first(place: Place) -> None:
    for age, name in enumerate("abcd"):
        place.put(name, MIB, age_s=100 - age)
    room = place.room(5 * MIB)
    assert room.admit(512 * KIB, file_bytes=0, use=Use.READ)
    assert place.names == {"a", "b", "c", "d"}
    assert room.admit(MIB, file_bytes=0, use=Use.READ)
    assert place.names == {"b", "c", "d"}
    assert place.metrics["store.disk_evicted_bytes"] >= MIB


def test_use_counts_not_age(place: Place) -> None:
    for age, name in enumerate("abcd"):
        place.put(name, MIB, age_s=100 - age)
    path = place.blocks / KEY / place._paths["a"]
    os.utime(path, (place.now_s, place.now_s))
    assert place.room(4 * MIB).admit(MIB, file_bytes=0, use=Use.READ)
    assert "a" in place.names
    assert "b" not in place.names


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_cell_keeps_its_pieces_in_whichever_order_they_come(
    place: Place, order: tuple[int, ...]
) -> None:
    label = Label("a", Version(MIB, '"e"'))
    data = os.urandom(MIB)
    pieces = [ByteRange(0, 45_925), ByteRange(45_925, 51_944), ByteRange(51_944, MIB)]
    claimed: list[ByteRange] = []
    for one in order:
        span = pieces[one]
        claimed += place.files.store(label, span, memoryview(data)[span.start : span.stop])
    wanted = Wanted("a", MIB, None)
    survey = place.files.survey(wanted)
    assert survey is not None
    assert survey.spans == (ByteRange(0, MIB),)
    assert coalesce(claimed) == [ByteRange(0, MIB)]
    into = memoryview(bytearray(MIB))
    assert place.files.load(wanted, ByteRange(0, MIB), into) == MIB
    assert into == data


def test_runs_that_stay_apart_take_little_memory_and_go_with_their_file(place: Place) -> None:
    label = Label("a", Version(100 * MIB, '"e"'))
    for start in range(0, 100 * MIB, CELL_BYTES):
        for at, count in ((0, 50_000), (60_000, 60_000), (59_000, 500)):
            span = ByteRange(start + at, start + at + count)
            place.files.store(label, span, memoryview(bytes(count)))
    assert len(place.files._apart) == MOST_APART
    place.files.remove("a")
    assert not place.files._apart


def test_other_accounts_files_count_too(place: Place) -> None:
    place.put("a", 2 * MIB, age_s=100)
    other = CellFiles(place.blocks, "f" * 16, Metrics())
    other.store(Label("b", Version(MIB, '"e"')), ByteRange(0, MIB), memoryview(bytes(MIB)))
    room = place.room(3 * MIB)
    assert room.admit(MIB, file_bytes=0, use=Use.READ)
    assert place.names == set()


def test_strangers_files_are_left_alone(place: Place) -> None:
    place.put("a", 2 * MIB, age_s=100)
    stranger = place.blocks / "notes"
    stranger.mkdir()
    (stranger / "abcdefabcdef").write_bytes(bytes(MIB))
    (place.blocks / KEY / "read.me").write_bytes(bytes(MIB))
    assert place.room(2 * MIB).admit(MIB, file_bytes=0, use=Use.READ)
    assert (stranger / "abcdefabcdef").exists()
    assert (place.blocks / KEY / "read.me").exists()


@pytest.mark.claim("S70")
def test_a_tenth_of_the_disk_stays_free(place: Place) -> None:
    place.put("a", 2 * MIB, age_s=100)
    place.space = Space(free_bytes=11 * MIB, total_bytes=100 * MIB)
    room = place.room(1 << 30)
    assert room.admit(MIB, file_bytes=0, use=Use.READ)
    place.space = Space(free_bytes=10 * MIB, total_bytes=100 * MIB)
    assert not room.admit(MIB, file_bytes=0, use=Use.READ)
    assert place.names == set()  # we gave what we could
    place.space = Space(free_bytes=50 * MIB, total_bytes=100 * MIB)
    assert not room.admit(MIB, file_bytes=0, use=Use.READ)  # not asked again at once
    place.now_s += MEASURE_S
    assert room.admit(MIB, file_bytes=0, use=Use.READ)


def test_a_scan_fills_but_does_not_push_out(place: Place) -> None:
    for age, name in enumerate("abcd"):
        place.put(name, 4 * MIB, age_s=100 - age)
    room = place.room(20 * MIB)
    assert room.admit(MIB, file_bytes=0, use=Use.SCAN)
    assert not room.admit(4 * MIB, file_bytes=0, use=Use.SCAN)
    assert place.names == {"a", "b", "c", "d"}
    place.now_s += STALE_S
    assert room.admit(4 * MIB, file_bytes=0, use=Use.SCAN)
    assert "a" not in place.names


def test_one_file_takes_a_quarter_in_a_scan_and_half_otherwise(place: Place) -> None:
    room = place.room(20 * MIB)
    assert room.admit(MIB, file_bytes=4 * MIB, use=Use.SCAN)
    assert not room.admit(MIB, file_bytes=5 * MIB, use=Use.SCAN)
    assert room.admit(MIB, file_bytes=9 * MIB, use=Use.READ)
    assert not room.admit(MIB, file_bytes=10 * MIB, use=Use.READ)
    assert room.admit(KIB, file_bytes=10 * MIB, use=Use.END)


async def test_a_long_scan_leaves_what_others_read(mounts: Remounts, autojump_clock: Clock) -> None:
    size = 70 * MIB
    mounts.objects["long"] = pattern(MIB, seed=3) * 70
    mounts.options["cache_bytes"] = 72 * MIB  # the scan alone would fill it
    await mounts.mounted(info)

    async def scan(b: Bench) -> None:
        await whole(b, "long")

    await mounts.mounted(scan)
    assert (await mounts.mounted(info)).script.requests == []

    async def ends(b: Bench) -> None:
        await read(b, ByteRange(0, KIB), ByteRange(size - KIB, size), object_id="long")

    assert (await mounts.mounted(ends)).script.requests == []
    used = sum(p.stat().st_blocks * 512 for p in mounts.directory.rglob("*") if p.is_file())
    assert used <= 72 * MIB


async def test_files_in_use_are_marked_at_most_once_a_minute(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    await mounts.mounted(whole)
    (path,) = cached_files(mounts)
    os.utime(path, (0, 0))

    async def use(b: Bench) -> None:
        await read(b, HEAD)
        assert path.stat().st_mtime > 0
        os.utime(path, (0, 0))
        await read(b, MIDDLE)
        assert path.stat().st_mtime == 0
        await trio.sleep(disk_cache.TOUCH_S)
        await read(b, ByteRange(5 * MIB, 5 * MIB + 10))
        assert path.stat().st_mtime > 0

    await mounts.mounted(use)


# everything at once ---------------------------------------------------------------------------

SIZE = 9 * BLOCK + 777


def damage(directory: Path, chance: random.Random) -> None:
    """Break one of the cache's files, now and then."""
    files = [p for p in directory.rglob("*") if p.is_file() and not p.is_symlink()]
    if not files or chance.random() < 0.5:
        return
    path = chance.choice(files)
    content = bytearray(path.read_bytes())
    match chance.randrange(4):
        case 0 if content:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            path.write_bytes(content)
        case 1:
            os.truncate(path, chance.randrange(len(content) + 1))
        case 2:
            path.unlink()
        case 3:
            path.unlink()
            path.symlink_to("/etc/passwd")


async def reads(
    b: Bench, directory: Path, name: str, chance: random.Random, stamps: dict[str, str]
) -> None:
    """Twelve reads through four handles; the catalogue's stamp moves now and then."""
    truth = b.script.objects[name]
    for _ in range(4):
        file = b.files.open(StoredObject(name, SIZE, name, stamp=stamps[name]))
        for _ in range(3):
            start = chance.randrange(SIZE)
            size = chance.choice([1, 4 * KIB, BLOCK, 3 * BLOCK])
            assert await file.read(start, size) == truth[start : start + size]
            damage(directory, chance)
        if chance.random() < 0.2:
            stamps[name] += "+"
        file.close()


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 1 << 32))
@pytest.mark.claim("S67")
async def test_reads_equal_the_original_whatever_happens_to_the_files(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Two mounts, remounts, little memory, edits of the catalogue, damage between any two reads."""
    chance = random.Random(seed)
    directory = tmp_path_factory.mktemp("cache")
    truth = {"a": pattern(SIZE, 1), "b": pattern(SIZE, 2)}
    mounts = Remounts(directory, truth, options={"memory_bytes": 600 * KIB})
    stamps = dict.fromkeys(truth, "0")

    for _ in range(2):
        async with trio.open_nursery() as nursery:
            benches = [mounts.mount(nursery) for _ in range(2)]
            for b in benches:
                b.script.latency_s = b.script.chunk_s = 0
            async with trio.open_nursery() as readers:
                for b in benches:
                    for name in truth:
                        readers.start_soon(reads, b, directory, name, chance, stamps)
            for b in benches:
                status = b.files.disk_status()
                assert status is not None
                assert status["off_because"] is None
                await b.files.aclose()
            nursery.cancel_scope.cancel()


async def test_in_threads(tmp_path: Path) -> None:
    """The real runner, in real time."""
    mounts = Remounts(tmp_path, {"a": DATA}, settle_s=0)
    mounts.options = {"run_disk": disk_cache.in_thread}
    first = await mounts.mounted(whole)
    assert first.metrics["store.disk_writes_bytes"] == len(DATA)
    second = await mounts.mounted(whole)
    assert second.script.requests == []
    assert second.metrics["store.disk_hits_bytes"] == len(DATA)


async def test_a_closed_cache_takes_no_more(nursery: trio.Nursery, tmp_path: Path) -> None:
    metrics = Metrics()
    files = CellFiles(tmp_path, KEY, metrics)
    cache = DiskCache(
        nursery, files, CacheRoom(tmp_path, MIB, metrics), metrics,
        directory=tmp_path, queue_bytes=MIB,
    )  # fmt: skip
    await cache.aclose()
    label = Label("a", Version(10, '"e"'))
    cache.keep(
        label, ByteRange(0, 10), memoryview(bytes(10)),
        use=Use.READ, is_valid=lambda: True, on_kept=lambda _: None,
    )  # fmt: skip
    assert await cache.label("a") is None
    assert files.label("a") is None


async def test_a_file_that_is_to_be_deleted_is_not_looked_at(
    mounts: Remounts, autojump_clock: Clock
) -> None:
    await mounts.mounted(info)

    async def use(b: Bench) -> None:
        disk = b.files._disk
        assert disk is not None
        assert await disk.label("a") is not None
        disk.remove("a")
        assert await disk.label("a") is None  # although nothing was deleted yet
        await trio.sleep(1)
        assert await disk.label("a") is None
        assert not disk._removing

    await mounts.mounted(use)
