"""Several mounts and library processes of one account on this machine: they cost as one."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from harness import Emulator, Mount, emulator, environ, mounted, wait_until

from up42fs.emulator.content import pattern_bytes

pytestmark = pytest.mark.mount

MIB = 1 << 20
SIZE = 6 * MIB + 321
NAMES = ("one.bin", "two.bin", "three.bin", "four.bin")
OFFSETS = range(0, SIZE - 2 * MIB, MIB)


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "10,2,2") as running:
        for seed, name in enumerate(NAMES):
            running.remote.storage("add_asset", name=name, size=SIZE, seed=seed)
        yield running


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("together") / "cache"


@pytest.fixture(scope="module")
def pair(store: Emulator, cache: Path) -> Iterator[tuple[Mount, Mount]]:
    with ExitStack() as stack:
        options = ("--cache-dir", str(cache), "-o", "refresh=3600")
        yield tuple(  # type: ignore[misc]
            stack.enter_context(mounted(store.env, *options, home=cache.parent)) for _ in range(2)
        )


def pread(fd: int, name: str) -> None:
    for offset in OFFSETS:
        wanted = pattern_bytes(NAMES.index(name), offset, 5000)
        assert os.pread(fd, 5000, offset) == wanted


def read(mount: Mount, name: str) -> None:
    fd = os.open(mount.path / "assets" / name, os.O_RDONLY)
    try:
        pread(fd, name)
    finally:
        os.close(fd)


def wait_until_stored(mount: Mount) -> None:
    mount.rest()
    wait_until(
        lambda: not mount.status()["disk_cache"]["queued_bytes"], 10, "the queue of the cache"
    )


def ranges(store: Emulator, since: int, name: str) -> list[tuple[int, int]]:
    """The ranges of a file that were asked of the object store, sorted.

    Mounts prefetch heads of the files that follow in the directory: these are not counted.
    """
    found = []
    object_id = store.asset(name)
    for one in store.remote.log(since):
        if one["route"] == "store.get" and one["object_id"] == object_id:
            start, stop = one["range"].removeprefix("bytes=").split("-")
            found.append((int(start), int(stop) + 1))
    return sorted(found)


def assert_no_byte_twice(asked: list[tuple[int, int]]) -> None:
    assert asked
    for before, after in itertools.pairwise(asked):
        assert before[1] <= after[0], asked


@pytest.mark.claim("S270")
def test_an_open_file_sees_what_another_mount_stored(
    store: Emulator, pair: tuple[Mount, Mount]
) -> None:
    one, two = pair
    fd = os.open(two.path / "assets/one.bin", os.O_RDONLY)
    try:
        os.pread(fd, 10, SIZE - 10)  # its version is known, its cached file was looked at
        two.rest()
        read(one, "one.bin")
        wait_until_stored(one)
        since = store.remote.position()
        pread(fd, "one.bin")
        two.rest()
        assert ranges(store, since, "one.bin") == []
    finally:
        os.close(fd)


@pytest.mark.claim("S270")
def test_two_mounts_that_read_at_once_fetch_once(
    store: Emulator, pair: tuple[Mount, Mount]
) -> None:
    since = store.remote.position()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda mount: read(mount, "two.bin"), pair))
    for mount in pair:
        mount.rest()
    assert_no_byte_twice(ranges(store, since, "two.bin"))


WORKER = """
import json, sys
import up42fs
fs = up42fs.FileSystem(cache_dir=sys.argv[1], mount="never")
file = fs.open("assets/" + sys.argv[2], cache_type="none")
file.seek(0, 2)
size = file.tell()
print("open", flush=True)
sys.stdin.readline()
for offset in json.loads(sys.argv[3]):
    file.seek(offset)
    file.read(5000)
print("read", flush=True)
sys.stdin.readline()
"""


def worker(store: Emulator, cache: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(cache), name, json.dumps(list(OFFSETS))]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environ(store.env))


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.claim("S270")
def test_two_library_processes_fetch_once(store: Emulator, cache: Path) -> None:
    pytest.importorskip("fsspec", reason="no fsspec: pip install 'up42fs[fsspec]'")
    with worker(store, cache, "three.bin") as one, worker(store, cache, "three.bin") as two:
        assert (said(one), said(two)) == ("open", "open")
        since = store.remote.position()
        go(one)
        go(two)
        assert (said(one), said(two)) == ("read", "read")
        assert_no_byte_twice(ranges(store, since, "three.bin"))
        for process in (one, two):
            go(process)
            assert process.wait(30) == 0


@pytest.mark.claim("S270")
def test_a_worker_loads_what_a_mount_stored_since(
    store: Emulator, cache: Path, pair: tuple[Mount, Mount]
) -> None:
    pytest.importorskip("fsspec", reason="no fsspec: pip install 'up42fs[fsspec]'")
    with worker(store, cache, "four.bin") as process:
        assert said(process) == "open"
        read(pair[0], "four.bin")
        wait_until_stored(pair[0])
        since = store.remote.position()
        go(process)
        assert said(process) == "read"
        assert ranges(store, since, "four.bin") == []
        go(process)
        assert process.wait(30) == 0


@contextmanager
def several(store: Emulator, place: Path, count: int, *options: str) -> Iterator[list[Mount]]:
    """Mounts of one account over one cache, one after another; ends them together."""
    with ExitStack() as stack:
        arguments = ("--cache-dir", str(place / "cache"), *options)
        yield [
            stack.enter_context(mounted(store.env, *arguments, home=place)) for _ in range(count)
        ]


def refreshers(mounts: list[Mount]) -> set[int]:
    """The processes that refresh, as each mount says."""
    return {mount.status()["refreshed_by"]["pid"] for mount in mounts}


def leader_of(mounts: list[Mount]) -> Mount:
    (leader,) = [mount for mount in mounts if mount.status()["refreshed_by"]["is_this"]]
    return leader


def api_requests(store: Emulator, since: int) -> dict[str, int]:
    return {
        route: count
        for route, count in store.requests(since).items()
        if not route.startswith("store.")
    }


@pytest.mark.claim("S271")
def test_four_mounts_cost_the_api_as_one_until_another_takes_over(start, tmp_path: Path) -> None:
    """Idle, with a refresh each second: two listings each, however many mounts there are."""
    store: Emulator = start("--synthetic", "40,4,4")
    with several(store, tmp_path, 4, "-o", "refresh=1") as mounts:
        for mount in mounts:
            os.listdir(mount.path / "assets")
        assert len(refreshers(mounts)) == 1
        assert refreshers(mounts) == {leader_of(mounts).pid}
        since, began_s = store.remote.position(), time.monotonic()
        time.sleep(3)
        took_s = time.monotonic() - began_s
        asked = api_requests(store, since)
        # Two listings each second, and one look at unfinished rows; a token at most.
        assert 2 <= sum(asked.values()) <= 3 * (took_s + 2) + 2, asked
        # What arrives is soon in all of them.
        store.remote.storage("add_asset", name="late.bin", size=10, seed=1)
        for mount in mounts:
            wait_until((mount.path / "assets/late.bin").exists, 15, f"late.bin in {mount.path}")
        for mount in mounts:
            ages = [one["seconds_since_refresh"] for one in mount.status()["catalogue"].values()]
            assert all(age is not None and age < 15 for age in ages), ages
        leader = leader_of(mounts)
        others = [mount for mount in mounts if mount is not leader]
        os.kill(leader.pid, signal.SIGKILL)
        wait_until(lambda: refreshers(others) <= {mount.pid for mount in others}, 15, "an election")
        store.remote.storage("add_asset", name="later.bin", size=10, seed=1)
        for mount in others:
            wait_until((mount.path / "assets/later.bin").exists, 15, f"later.bin in {mount.path}")


@pytest.mark.claim("S272")
def test_an_edit_and_a_wish_reach_all(start, tmp_path: Path) -> None:
    """Nothing refreshes by itself here: only what a mount tells the others."""
    store: Emulator = start("--synthetic", "10,2,2")
    with several(store, tmp_path, 2, "-o", "rw,refresh=3600") as mounts:
        leader = leader_of(mounts)
        (follower,) = [mount for mount in mounts if mount is not leader]
        name = min(path.name for path in (leader.path / "assets").iterdir() if path.is_file())
        other = max(path.name for path in (leader.path / "assets").iterdir() if path.is_file())
        edits = ((leader, follower, "one", name), (follower, leader, "two", other))
        for here, _, tag, file in edits:
            (here.path / "tags" / tag).mkdir()
            os.link(here.path / "assets" / file, here.path / "tags" / tag / file)
        for here, there, tag, file in edits:
            wait_until((there.path / "tags" / tag / file).exists, 15, f"{tag} in the other")
            assert (here.path / "tags" / tag / file).exists()
        store.remote.storage("add_asset", name="late.bin", size=10, seed=1)
        (follower.path / ".up42fs/refresh").read_bytes()
        for mount in mounts:
            wait_until((mount.path / "assets/late.bin").exists, 15, f"late.bin in {mount.path}")


@pytest.mark.claim("S271")
def test_one_that_is_stopped_is_noticed(start, tmp_path: Path) -> None:
    """The lock stays with a process that is stopped: a wish that it does not grant tells."""
    store: Emulator = start("--synthetic", "5,1,1")
    env = {"UP42FS_TEST_HUNG_S": "2"}
    with several(
        Emulator(store.env | env, store.remote, store.process, store.ready),
        tmp_path,
        2,
        "-o",
        "refresh=1",
    ) as mounts:
        leader = leader_of(mounts)
        (follower,) = [mount for mount in mounts if mount is not leader]
        os.kill(leader.pid, signal.SIGSTOP)
        try:
            store.remote.storage("add_asset", name="late.bin", size=10, seed=1)
            late = follower.path / "assets/late.bin"
            wait_until(late.exists, 40, lambda: follower.log.read_text())
        finally:
            os.kill(leader.pid, signal.SIGCONT)
