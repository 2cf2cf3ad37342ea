"""Archives against their reference model, by the engine: reads are equal to a member's real bytes.

Two engines share one disk cache that is too small, links end, the store fails, engines begin anew.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import archive_support
import pytest
import trio
from archive_model import Shelf, Weather, folders, random_ranges, random_shelf
from archive_support import Built
from harness import Emulator, emulator

from up42fs.archive.kinds import stem_of
from up42fs.config.settings import Settings, resolve
from up42fs.engine import Engine
from up42fs.errors import Up42fsError

EPISODE_S = 100


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "2,1,1") as running:
        yield running


def settings_of(store: Emulator, cache: Path, **arguments: str) -> Settings:
    options = {"cache_dir": str(cache), "memory": "64", "archives": "on", **arguments}
    return resolve(arguments=options, mount_options={}, environ=store.env, file={})


async def equals(engine: Engine, path: str, expected: bytes) -> None:
    """The whole member, by a reader in order."""
    async with engine.opened(f"/assets/{path}") as file:
        assert file.size == len(expected)
        found = bytearray()
        while piece := await file.read(len(found), 131_072):
            found += piece
    assert bytes(found) == expected, path


async def at_random(
    engine: Engine, shelf: Shelf, seed: int, counts: Counter[str], opens: int = 6
) -> None:
    """Open members at random and read ranges; failures are counted, wrong bytes are fatal."""
    chance = random.Random(seed)
    for _ in range(opens):
        path = chance.choice(shelf.paths)
        expected = shelf.contents[path]
        try:
            async with engine.opened(f"/assets/{path}") as file:
                assert file.size == len(expected)
                for at, length in random_ranges(chance, len(expected), 6):
                    found = bytes(await file.read(at, length))
                    assert found == expected[at : at + length], (path, at, length)
                    counts["right"] += 1
        except Up42fsError as error:
            counts[type(error).__name__] += 1


@pytest.mark.claim("S212")
@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("seed", range(2))
async def test_reads_by_several_are_equal_to_the_members_bytes(
    seed: int, is_stored: bool, store: Emulator, tmp_path: Path
) -> None:
    """Calm: nothing may fail, whatever is evicted, expires or begins anew."""
    shelf = random_shelf(store, seed, count=3, largest=1_500_000, is_stored=is_stored)
    settings = settings_of(store, tmp_path, cache_size="6M")
    counts: Counter[str] = Counter()
    with trio.fail_after(EPISODE_S):
        for turn in range(2):
            async with (
                Engine.open(settings) as one,
                Engine.open(settings) as other,
                trio.open_nursery() as nursery,
            ):
                for reader in range(3):
                    engine = (one, other)[reader % 2]
                    nursery.start_soon(
                        at_random, engine, shelf, 100 * seed + 10 * turn + reader, counts
                    )
                await trio.sleep(0.3)
                store.remote.storage("revoke_links")
    assert set(counts) == {"right"}, counts


@pytest.mark.slow
@pytest.mark.claim("S212")
@pytest.mark.parametrize("ending", ["zip", "tgz", "tar.xz"])
async def test_jumps_in_a_large_packed_member_are_right(ending: str, tmp_path: Path) -> None:
    """A member of several spans: from seek points after a remount, since the cache is too small."""
    files = {"a/large.bin": archive_support.pixels(6_000_000, 77), "b.txt": b"small"}
    if ending == "zip":
        built = archive_support.zip_of("large.zip", files)
    else:
        built = archive_support.tar_of(ending, files)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / f"large.{ending}").write_bytes(built.data)
    shelf = Shelf(contents={f"large/{path}": data for path, data in files.items()})
    counts: Counter[str] = Counter()
    with emulator("--data", str(folder)) as store, trio.fail_after(EPISODE_S):
        settings = settings_of(store, tmp_path / "cache", cache_size="3M")
        for turn in range(2):
            async with (
                Engine.open(settings) as one,
                Engine.open(settings) as other,
                trio.open_nursery() as nursery,
            ):
                for reader in range(3):
                    engine = (one, other)[reader % 2]
                    nursery.start_soon(at_random, engine, shelf, 10 * turn + reader, counts, 3)
    assert set(counts) == {"right"}, counts


@pytest.mark.claim("S212")
@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("seed", range(10, 12))
async def test_reads_under_faults_fail_or_are_right(
    seed: int, is_stored: bool, store: Emulator, tmp_path: Path
) -> None:
    shelf = random_shelf(store, seed, count=2, largest=1_000_000, is_stored=is_stored)
    settings = settings_of(store, tmp_path)
    weather = Weather(store.remote, seed)
    counts: Counter[str] = Counter()

    async def change() -> None:
        while True:
            await trio.to_thread.run_sync(weather.change)
            await trio.sleep(0.3)

    with trio.fail_after(EPISODE_S):
        async with Engine.open(settings) as engine:
            for folder in sorted(folders(shelf.paths)):
                await engine.entries(f"/assets/{folder}")
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(change)
                    async with trio.open_nursery() as readers:
                        for reader in range(3):
                            readers.start_soon(at_random, engine, shelf, seed + reader, counts, 3)
                    nursery.cancel_scope.cancel()
            finally:
                weather.clear()
            assert counts["right"] > 0
            for path in shelf.paths:
                await equals(engine, path, shelf.contents[path])


async def read_through(engine: Engine, path: str, size: int) -> None:
    async with engine.opened(path) as file:
        at = 0
        while at < size:
            at += len(await file.read(at, 131_072))


#: What cannot be read here, or only by other programs.
_HONEST = [name for name in archive_support.honest if name not in ("zip-nested",)]


@pytest.mark.claim("S212")
@pytest.mark.parametrize("name", _HONEST)
async def test_every_member_of_every_kind_is_read(
    name: str, store: Emulator, tmp_path: Path
) -> None:
    built = archive_support.honest[name]()
    shelf = Shelf()
    shelf.add(store, f"{name}-{built.name}", built)
    stem = stem_of(f"{name}-{built.name}")
    with trio.fail_after(EPISODE_S):
        async with Engine.open(settings_of(store, tmp_path)) as engine:
            found = await walk(engine, f"/assets/{stem}")
            # A zip's symlinks that lead out are files that hold their targets.
            others = {"d/out", "d/absolute"} if name == "zip-symlinks" else set()
            assert set(found) == set(built.files) | set(built.symlinks) | others
            for path in shelf.paths:
                await equals(engine, path, shelf.contents[path])


async def walk(engine: Engine, top: str) -> list[str]:
    """All members that are no directories, by their path below `top`."""
    found: list[str] = []
    folders_left = [""]
    while folders_left:
        folder = folders_left.pop()
        for entry in await engine.entries(f"{top}/{folder}".rstrip("/")):
            path = f"{folder}/{entry.name}".lstrip("/")
            (folders_left if entry.is_dir else found).append(path)
    return found


async def test_broken_members_fail_where_they_are_broken(store: Emulator, tmp_path: Path) -> None:
    """Sizes that lie, wrong checksums, garbage, unknown methods: each fails alone."""
    shelf = Shelf()
    names = ("zip-sizes-lie", "zip-wrong-crc", "zip-garbage", "zip-unsupported", "tar-truncated")
    built: dict[str, Built] = {}
    for name in names:
        made = archive_support.hostile[name]()
        built[stem_of(f"{name}-{made.name}")] = made
        shelf.add(store, f"{name}-{made.name}", made)
    with trio.fail_after(EPISODE_S):
        async with Engine.open(settings_of(store, tmp_path)) as engine:
            for path in shelf.paths:
                await equals(engine, path, shelf.contents[path])
            for stem, made in built.items():
                for member, size in made.broken.items():
                    path = f"/assets/{stem}/{member}"
                    assert (await engine.stat(path)).size == size
                    with pytest.raises(Up42fsError):
                        await read_through(engine, path, size)
