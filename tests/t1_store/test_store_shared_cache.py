"""Two stores over one cache directory, at the same time: what one has, the other does not fetch."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import trio
from store_script import Bench, Fault, bench, pattern

from up42fs.errors import NotFound
from up42fs.store.disk import cache, claims
from up42fs.store.disk.files import CacheDirectory
from up42fs.store.disk.locks import Claim, ClaimFile
from up42fs.store.members.extent import StoredObject
from up42fs.types import ByteRange

MIB = 1 << 20
DATA = pattern(4 * MIB + 77)


class Pair:
    """Two stores, as two processes have them."""

    def __init__(self, directory: Path, nursery: trio.Nursery, **settings: object) -> None:
        options = {"cache_dir": directory, **settings}
        self.stores = [bench(nursery, {"a": DATA}, **options) for _ in range(2)]  # type: ignore[arg-type]

    async def __aenter__(self) -> list[Bench]:
        return self.stores

    async def __aexit__(self, *_: object) -> None:
        for one in self.stores:
            await one.files.aclose()


async def read(b: Bench, *spans: ByteRange, size: int = len(DATA)) -> None:
    file = b.files.open(StoredObject("a", size, "scene.tif"))
    for span in spans:
        assert await file.read(span.start, len(span)) == DATA[span.start : span.stop]
    file.close()


def windows() -> list[ByteRange]:
    return [ByteRange(start, start + 60_000) for start in range(0, len(DATA) - MIB, MIB // 2)]


@pytest.mark.claim("S270")
async def test_what_another_stored_while_a_file_was_open_is_loaded(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        async with Pair(tmp_path, nursery) as (one, two):
            waiting = two.files.open(StoredObject("a", len(DATA), "scene.tif"))
            await waiting.read(0, 100)  # it is open, and its version is known
            await read(one, *windows())
            await trio.sleep(0.2)  # written behind
            before = len(two.script.requests)
            for span in windows():
                found = await waiting.read(span.start, len(span))
                assert found == DATA[span.start : span.stop]
            assert two.script.requests[before:] == []
            waiting.close()
        nursery.cancel_scope.cancel()


@pytest.mark.claim("S270")
async def test_two_that_read_the_same_at_once_fetch_it_once(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        async with Pair(tmp_path, nursery) as (one, two):
            async with trio.open_nursery() as reading:
                reading.start_soon(read, one, *windows())
                reading.start_soon(read, two, *windows())
            asked = [span for b in (one, two) for _, span, _ in b.script.requests]
            starts = sorted(asked, key=lambda span: (span.start, span.stop))
            for before, after in itertools.pairwise(starts):
                assert before.stop <= after.start, starts
        nursery.cancel_scope.cancel()


@pytest.mark.claim("S270")
async def test_an_object_of_unknown_size_is_asked_for_once(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        async with Pair(tmp_path, nursery) as (one, two):
            async with trio.open_nursery() as reading:
                for b in (one, two):
                    reading.start_soon(_sized, b)
            assert len(one.script.requests + two.script.requests) == 1
        nursery.cancel_scope.cancel()


async def _sized(b: Bench) -> None:
    version = await b.files.ensure_version(StoredObject("a", None, "scene.tif"))
    assert version.size == len(DATA)


@pytest.mark.claim("S270")
async def test_a_process_that_hangs_is_not_waited_for_longer_than_patience(tmp_path: Path) -> None:
    """Another engine claims all and fetches nothing."""
    root = CacheDirectory(tmp_path / "blocks", "0" * 16)
    region = claims.region("a", ByteRange(0, len(DATA)))
    assert region is not None
    async with trio.open_nursery() as nursery:
        async with Pair(tmp_path, nursery, cache_key="0" * 16) as (one, _):
            hanging = Claim(ClaimFile(root), region)
            assert hanging.take()
            began_s = trio.current_time()
            await read(one, ByteRange(0, 1000))
            assert trio.current_time() - began_s >= claims.WANTED_S
            await read(one, ByteRange(3 * MIB, 3 * MIB + 1000))
            # Twice in vain: from now on nobody is waited for.
            with trio.fail_after(claims.WANTED_S * 0.9):
                await read(one, ByteRange(2 * MIB, 2 * MIB + 1000))
            hanging.release()
        nursery.cancel_scope.cancel()


@pytest.mark.claim("S270")
def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from up42fs.store.disk.locks import *;"
        "from up42fs.store.disk.files import CacheDirectory; from up42fs.types import ByteRange;"
        "claim = Claim(ClaimFile(CacheDirectory(Path(sys.argv[1]), '0' * 16)), ByteRange(5, 50));"
        "assert claim.take(); print('taken', flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", script, str(tmp_path / "blocks")]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        file = ClaimFile(CacheDirectory(tmp_path / "blocks", "0" * 16))
        assert Claim(file, ByteRange(50, 60)).take()
        assert not Claim(file, ByteRange(40, 60)).take()
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        assert Claim(file, ByteRange(0, 60)).take()
        file.close()


@pytest.mark.claim("S270")
def test_a_claim_ends_with_the_process_that_forked(tmp_path: Path) -> None:
    """A worker that was forked shares the open file: it must not keep its parent's claims."""
    root = CacheDirectory(tmp_path / "blocks", "0" * 16)
    file, other = ClaimFile(root), ClaimFile(root)
    assert Claim(file, ByteRange(0, 10)).take()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, b"x")
            signal.pause()
        finally:
            os._exit(0)
    try:
        assert os.read(reading, 1) == b"x"
        file.close()
        assert Claim(other, ByteRange(0, 10)).take()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)
        other.close()


def test_a_claim_that_is_given_up_while_it_is_taken_is_given_back(tmp_path: Path) -> None:
    root = CacheDirectory(tmp_path / "blocks", "0" * 16)
    file, other = ClaimFile(root), ClaimFile(root)
    claim = Claim(file, ByteRange(0, 10))
    claim.release()
    claim.take()
    assert Claim(other, ByteRange(0, 10)).take()
    file.close()
    other.close()


def open_claim_files(directory: Path) -> int:
    """How often this process has the file of claims below `directory` open."""
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(link.readlink())
    return sum(link.is_relative_to(directory) and link.name == ClaimFile.NAME for link in links)


def test_the_file_of_claims_stays_open_while_one_is_held(tmp_path: Path) -> None:
    root = CacheDirectory(tmp_path / "blocks", "0" * 16)
    file, other = ClaimFile(root), ClaimFile(root)
    claim = Claim(file, ByteRange(0, 10))
    assert claim.take()
    file.rest()
    assert not Claim(other, ByteRange(0, 10)).take(), "the claim outlives the rest"
    other.close()
    claim.release()
    assert not open_claim_files(tmp_path)
    assert Claim(file, ByteRange(0, 10)).take()
    assert not Claim(other, ByteRange(0, 10)).take()
    file.close()
    other.close()


async def test_a_store_at_rest_has_no_file_open_for_writing(tmp_path: Path) -> None:
    """Otherwise the cache's disk could not become read-only."""
    async with trio.open_nursery() as nursery:
        async with Pair(tmp_path, nursery) as (one, two):
            for b, start in ((one, 0), (two, 2 * MIB), (one, 3 * MIB)):
                await read(b, ByteRange(start, start + 1000))
                assert open_claim_files(tmp_path)
                with trio.fail_after(cache.REST_S + 10):
                    while open_claim_files(tmp_path):
                        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()


@pytest.mark.claim("S270")
async def test_a_failed_fetch_gives_its_claim_back(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        async with AsyncExitStack() as stack:
            one, two = await stack.enter_async_context(Pair(tmp_path, nursery))
            one.script.faults = lambda _: Fault(status=404)
            with pytest.raises(NotFound):
                await read(one, ByteRange(0, 1000))
            with trio.fail_after(claims.WANTED_S * 0.9):
                await read(two, ByteRange(0, 1000))
        nursery.cancel_scope.cancel()
