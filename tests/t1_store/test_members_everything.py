"""Packed members against their real bytes: any member, any reads, whatever happens meanwhile.

Several tasks read members of several kinds; bytes and points are evicted from memory and from
disk; states end; the store fails; mounts come and go, and two share a disk cache.
"""

from __future__ import annotations

import gzip
import random
import tempfile
import zipfile
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_script import Bench, chaos
from test_members_packed import Remounts, Zip

from up42fs.archive import slots
from up42fs.archive.table import Method
from up42fs.errors import AccessDenied, DamagedArchive, DeadlineExceeded, Unavailable
from up42fs.store.handle import OpenFile
from up42fs.store.members.extent import Extent, StoredObject
from up42fs.store.members.inflate import inflater, run, source
from up42fs.types import Bytes

KIB = 1 << 10


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans, pieces and chunks so small that small members have many of them."""
    for module in (slots, inflater):
        monkeypatch.setattr(module, "PIECE_BYTES", 8 * KIB)
    monkeypatch.setattr(source, "span_bytes", lambda _: 40 * KIB)
    monkeypatch.setattr(source, "LEAST_POINTED_BYTES", 50 * KIB)
    monkeypatch.setattr(run, "CHUNK_BYTES", 60 * KIB)
    monkeypatch.setattr(run, "STEADY_BYTES", 100 * KIB)


def content(chance: random.Random) -> bytes:
    """Up to 900 KB of noise, runs and repetitions."""
    made = bytearray()
    words = [chance.randbytes(chance.randrange(1, 40)) for _ in range(20)]
    while len(made) < chance.choice([0, 1, 3000, 300_000, 900_000]):
        match chance.randrange(4):
            case 0:
                made += chance.randbytes(chance.randrange(40_000))
            case 1:
                made += bytes(chance.randrange(90_000))
            case 2:
                made += b"".join(chance.choices(words, k=3000))
            case 3:
                made += bytes(chance.choices(range(30), k=20_000))
    return bytes(made)


def archives(chance: random.Random) -> Zip:
    methods = [zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    contents = {f"{number}.tif": content(chance) for number in range(3)}
    made = Zip.of(contents, chance.choice(methods))
    if chance.random() < 0.3:
        return made.known("0.tif")
    return made


async def read_about(file: OpenFile, data: bytes, chance: random.Random, *, may_fail: bool) -> None:
    position, step = 0, 64 * KIB
    for _ in range(chance.randrange(1, 16)):
        match chance.randrange(6):
            case 0:
                position = chance.randrange(len(data) or 1)
            case 1:
                position = max(0, len(data) - chance.randrange(1, 90 * KIB))
            case 2:
                step = chance.choice([1, 4 * KIB, 64 * KIB, 300 * KIB])
        try:
            got = await file.read(position, step)
        except DamagedArchive:
            raise  # none is
        except (AccessDenied, DeadlineExceeded, Unavailable):
            assert may_fail
        else:
            assert got == data[position : position + step]
        position += step
        if chance.random() < 0.1:
            await trio.sleep(chance.choice([0.1, 3, 90]))
        if chance.random() < 0.05:
            with trio.move_on_after(0.01):
                await file.read(chance.randrange(len(data) or 1), step)


def evict(b: Bench, directory: Path, chance: random.Random) -> None:
    """Lose bytes and points, in memory or on disk, as any mount may."""
    for fetcher in list(b.files._objects._fetchers.values()):
        if chance.random() < 0.5:
            fetcher.forget()
    for path in directory.glob("blocks/*/*"):
        if chance.random() < 0.3:
            path.unlink(missing_ok=True)
        elif chance.random() < 0.1:
            with path.open("r+b") as file:
                file.seek(chance.randrange(1 + path.stat().st_size))
                file.write(chance.randbytes(9))


async def session(
    b: Bench, made: Zip, directory: Path, chance: random.Random, share: float
) -> None:
    async def reader(name: str, seed: int) -> None:
        own = random.Random(seed)
        for _ in range(own.randrange(1, 4)):
            file = made.open(b, name)
            await read_about(file, made.contents[name], own, may_fail=share > 0)
            file.close()

    async with trio.open_nursery() as readers:
        for _ in range(chance.randrange(1, 6)):
            name = chance.choice(list(made.contents))
            readers.start_soon(reader, name, chance.randrange(1 << 30))
        for _ in range(chance.randrange(4)):
            await trio.sleep(chance.choice([0.01, 0.3, 5]))
            evict(b, directory, chance)


@given(st.integers(0, 1 << 32))
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_happens_members_have_their_bytes(seed: int) -> None:
    chance = random.Random(seed)
    made = archives(chance)
    share = chance.choice([0, 0, 0.2])

    async def mounted(directory: Path) -> None:
        options = {"memory_bytes": chance.choice([1, 256]) << 20}
        for _ in range(chance.randrange(1, 4)):
            mounts = Remounts(directory, made, dict(options))
            async with trio.open_nursery() as nursery:
                both = [mounts.mount(nursery) for _ in range(chance.choice([1, 1, 2]))]
                async with trio.open_nursery() as users:
                    for b in both:
                        b.script.faults = chaos(chance.randrange(1 << 30), share)
                        users.start_soon(session, b, made, directory, chance, share)
                await trio.sleep(chance.choice([0, 1, 100]))
                for b in both:
                    await b.files.aclose()
                nursery.cancel_scope.cancel()

    with tempfile.TemporaryDirectory() as directory:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(mounted, Path(directory), clock=clock)


@given(st.integers(0, 1 << 32))
@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_streams_are_read_through_and_then_at_random(seed: int) -> None:
    chance = random.Random(seed)
    data = content(chance)
    parts = [data[: len(data) // 3], data[len(data) // 3 :]]
    packed = b"".join(gzip.compress(part, chance.choice([1, 9])) for part in parts)
    made = Zip(packed, {"stream": data})
    archive = StoredObject("a", len(packed), "delivery.tgz", None)
    extent = Extent(archive, 0, 0, len(packed), Method.GZIP, None)
    stream = StoredObject("a!tar", None, "delivery.tgz", None, extent)

    async def use(b: Bench) -> None:
        got = bytearray()

        async def feed(piece: Bytes) -> None:
            got.extend(piece)

        assert await b.files.read_through(stream, feed) == len(data)
        assert got == data
        asked = b.script.asked()
        assert asked <= len(packed) + 32 * KIB
        inner = Extent(stream, 0, len(data) // 4, len(data) // 2, Method.STORED, None)
        file = b.files.open(StoredObject("a!0", len(data) // 2, "scene.tif", extent=inner))
        member = data[len(data) // 4 :][: len(data) // 2]
        await read_about(file, member, chance, may_fail=False)
        file.close()
        assert b.script.asked() == asked  # all of it is on disk

    with tempfile.TemporaryDirectory() as directory:
        mounts = Remounts(Path(directory), made)
        trio.run(mounts.mounted, use, clock=trio.testing.MockClock(autojump_threshold=0))
