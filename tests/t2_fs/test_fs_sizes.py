"""Sizes that UP42 does not tell: what is asked when, and what is begun ahead."""

from __future__ import annotations

import json

import pytest
import trio
from fs_support import World
from stac_support import Stac, done, file_id, item_of, stac_world
from strategies import make_asset
from trio.testing import MockClock

from up42fs.errors import DeadlineExceeded, NoAttribute, NotFound, Unavailable
from up42fs.fs.files.sizes import AHEAD, BRIEFLY_S, LISTING_S
from up42fs.fs.files.sizing import AT_ONCE
from up42fs.fs.filesystem import KERNEL_TTL_S
from up42fs.fs.invalidation import Invalidation
from up42fs.fs.tree.nodes import Attributes
from up42fs.readahead.heads import PATIENCE, Asker
from up42fs.store.members.extent import StoredObject
from up42fs.store.versions import HEAD_BYTES
from up42fs.types import ByteRange, Version

ASSET = done(1, name="one.zip")
KEYS = tuple(f"b{n:02d}.tiff" for n in range(21))
FILES = [file_id(1, n) for n in range(21)]


@pytest.fixture
def world() -> World:
    stac = Stac((item_of(ASSET, 1, KEYS), item_of(done(2, name="two.zip"), 2, KEYS)))
    world = stac_world(stac, ASSET, done(2, name="two.zip"))
    world.files.sizes = {id_: 1000 + n for n, id_ in enumerate(FILES)}
    return world


async def stat(world: World, path: str, program: str = "python3") -> int:
    inode = await world.walk(path)
    return (await world.fs.getattr(inode, lambda: Asker(program, 1))).size


@pytest.mark.claim("S46")
async def test_listing_asks_for_no_size(world: World, autojump_clock: MockClock) -> None:
    await world.list("assets")
    await world.list("assets/one")
    for key in KEYS:
        await world.walk(f"assets/one/{key}")
    assert world.files.probed == world.files.begun == []


async def test_one_question_is_one_size(world: World, autojump_clock: MockClock) -> None:
    assert await stat(world, "assets/one/b03.tiff") == 1003
    assert await stat(world, "assets/one/b03.tiff") == 1003
    assert world.files.probed == [FILES[3]]
    assert world.files.begun == []


@pytest.mark.claim("S48")
async def test_the_second_file_begins_all_others_once(
    world: World, autojump_clock: MockClock
) -> None:
    for n, key in enumerate(KEYS):
        assert await stat(world, f"assets/one/{key}") == 1000 + n
        await trio.sleep(0.1)
    assert world.files.probed == FILES
    assert sorted(world.files.begun) == FILES[2:]


async def test_questions_far_apart_are_no_listing(world: World, autojump_clock: MockClock) -> None:
    for key in KEYS[:5]:
        await stat(world, f"assets/one/{key}")
        await trio.sleep(LISTING_S + 0.1)
    assert world.files.begun == []


async def test_items_are_listings_of_their_own(world: World, autojump_clock: MockClock) -> None:
    await stat(world, "assets/one/b00.tiff")
    await stat(world, "assets/two/b00.tiff")
    assert world.files.begun == []


async def test_open_learns_the_size_too(world: World, autojump_clock: MockClock) -> None:
    opened = await world.fs.open(await world.walk("assets/one/b05.tiff"), 0)
    assert world.files.opened[-1].size == 1005
    assert world.files.probed == [FILES[5]]
    assert not opened.direct_io
    assert await stat(world, "assets/one/b05.tiff") == 1005
    assert world.files.probed == [FILES[5]]


@pytest.mark.claim("S417")
async def test_sizes_that_are_asked_one_after_another_come_without_heads(
    world: World, autojump_clock: MockClock
) -> None:
    for n, key in enumerate(KEYS):
        assert await stat(world, f"assets/one/{key}") == 1000 + n
    assert set(world.files.headless) == set(FILES[1:])


@pytest.mark.claim("S417")
async def test_programs_that_want_sizes_get_no_head_at_all(
    world: World, autojump_clock: MockClock
) -> None:
    await stat(world, "assets/one/b00.tiff", "stat")
    for key in KEYS:
        await stat(world, f"assets/two/{key}", "du")
    assert {*world.files.probed, *world.files.begun} == set(world.files.headless)


@pytest.mark.claim("S418")
async def test_programs_that_open_what_they_ask_for_get_heads(
    world: World, autojump_clock: MockClock
) -> None:
    for key in KEYS:
        await stat(world, f"assets/one/{key}")
        inode = await world.walk(f"assets/one/{key}")
        world.fs.release((await world.fs.open(inode, 0, "python3")).handle)
    assert world.files.headless == []
    assert sorted(world.files.begun) == FILES[2:]


async def test_a_viewer_looks_at_a_few_files_before_it_opens_one(
    world: World, autojump_clock: MockClock
) -> None:
    for key in KEYS[:PATIENCE]:
        await stat(world, f"assets/one/{key}", "qgis.bin")
    assert world.files.headless == []


@pytest.mark.claim("S418")
async def test_the_second_open_of_an_item_brings_the_heads_that_a_listing_left_out(
    world: World, autojump_clock: MockClock
) -> None:
    world.files.sizes[FILES[3]] = 3 * HEAD_BYTES
    for key in KEYS:
        await stat(world, f"assets/one/{key}", "ls")

    async def open_(key: str, program: str) -> None:
        inode = await world.walk(f"assets/one/{key}")
        world.fs.release((await world.fs.open(inode, 0, program)).handle)

    await open_("b07.tiff", "gdalinfo")
    await open_("b07.tiff", "gdalinfo")
    assert world.files.ahead == {}
    world.files.linkless = {FILES[5]}
    await open_("b12.tiff", "gdalinfo")
    assert set(world.files.ahead) == {*FILES} - {FILES[5], FILES[7], FILES[12]}
    assert world.files.ahead[FILES[3]].spans == [ByteRange(0, HEAD_BYTES)]
    assert world.files.ahead[FILES[4]].spans == [ByteRange(0, 1004)]


async def sizes_of(world: World, path: str, attribute: str) -> dict[str, int]:
    value = await world.fs.getxattr(await world.walk(path), f"user.up42.{attribute}")
    assert len(value) < 128, "Python would ask twice"
    return dict(json.loads(value))


@pytest.mark.claim("S419")
async def test_a_directory_is_sized_ahead_without_heads_and_once(
    world: World, autojump_clock: MockClock
) -> None:
    many = len(KEYS)
    await world.list("assets/one")
    told = await sizes_of(world, "assets/one", "sizes")
    assert told == {"files": many, "left": many, "failed": 0}
    assert world.files.probed == []
    one = await sizes_of(world, "assets/one", "fetch.sizes.b04.tiff")
    assert one == {"files": 1, "left": 0, "failed": 0}
    assert world.files.probed == world.files.headless == [FILES[4]]
    assert (await sizes_of(world, "assets/one", "fetch.sizes"))["left"] == 0
    assert sorted(world.files.probed) == sorted(world.files.headless) == FILES
    assert world.files.begun == []
    assert (await sizes_of(world, "assets/one", "fetch.sizes"))["files"] == many
    for n, key in enumerate(KEYS):
        assert await stat(world, f"assets/one/{key}") == 1000 + n
    assert sorted(world.files.probed) == FILES
    assert (await sizes_of(world, "assets", "fetch.sizes"))["files"] == 2, "these are known"


@pytest.mark.claim("S419")
async def test_sizing_ahead_is_paced_and_says_what_is_left(
    world: World, autojump_clock: MockClock
) -> None:
    store = SlowStore(world, [], answers_after_s=0.9)
    told = await sizes_of(world, "assets/one", "fetch.sizes")
    # Three rounds: the third begins before the time is over.
    assert told == {"files": len(KEYS), "left": len(KEYS) - 3 * AT_ONCE, "failed": 0}
    store.answers_after_s = 0.0
    async with trio.open_nursery() as callers:
        for _ in range(5):
            callers.start_soon(sizes_of, world, "assets/one", "fetch.sizes")
    assert (await sizes_of(world, "assets/one", "sizes"))["left"] == 0
    assert store.most <= AT_ONCE


@pytest.mark.claim("S419")
async def test_a_size_that_cannot_be_learned_is_counted_and_said(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def lose(object_id: str, _: int) -> None:
        if object_id == FILES[3]:
            raise Unavailable("b03.tiff: lost")

    world.files.on_probe = lose
    told = await sizes_of(world, "assets/one", "fetch.sizes")
    assert told == {"files": len(KEYS), "left": 1, "failed": 1}
    assert "a size stays unknown: b03.tiff: lost" in caplog.text


async def test_sizes_are_attributes_of_directories(world: World) -> None:
    for path, name in (("assets/one/b00.tiff", "sizes"), ("assets/one", "sizes2")):
        with pytest.raises(NoAttribute):
            await sizes_of(world, path, name)
    with pytest.raises(NotFound):
        await sizes_of(world, "assets/one", "sizes.nothing.tiff")
    assert not any("sizes" in name for name in await world.fs.listxattr(await world.walk("assets")))


@pytest.mark.claim("S49")
async def test_a_lost_file_fails_alone_and_is_not_begun_again_and_again(
    world: World, autojump_clock: MockClock
) -> None:
    def lose(object_id: str, _: int) -> None:
        if object_id in FILES[3:6]:
            raise Unavailable("lost")

    world.files.on_probe = lose
    for n, key in enumerate(KEYS):
        if n in range(3, 6):
            with pytest.raises(Unavailable):
                await stat(world, f"assets/one/{key}")
        else:
            assert await stat(world, f"assets/one/{key}") == 1000 + n
    assert sorted(world.files.begun) == FILES[2:]
    assert world.files.probed == FILES
    world.files.on_probe = lambda *_: None
    assert await stat(world, "assets/one/b04.tiff") == 1004


class SlowStore:
    """Answers nothing for 25 s about `silent` files, and at once about the others."""

    def __init__(self, world: World, silent: list[str], answers_after_s: float = 0.0) -> None:
        self.silent, self.answers_after_s, self.sizes = silent, answers_after_s, world.files.sizes
        self.now = self.most = 0
        world.files.ensure_version = self.ensure_version  # type: ignore[method-assign]

    async def ensure_version(self, origin: StoredObject, *, head: bool = True) -> Version:
        if origin.object_id in self.silent:
            await trio.sleep(25)
            raise DeadlineExceeded(f"{origin.name}: the object store stopped sending; try again")
        self.now += 1
        self.most = max(self.most, self.now)
        await trio.sleep(self.answers_after_s)
        self.now -= 1
        return Version(self.sizes[origin.object_id])


async def stats(world: World) -> dict[str, int | DeadlineExceeded]:
    """The sizes of all files, or their errors, asked for one after another."""
    found: dict[str, int | DeadlineExceeded] = {}
    for key in KEYS:
        try:
            found[key] = await stat(world, f"assets/one/{key}")
        except DeadlineExceeded as error:
            found[key] = error
    return found


@pytest.mark.claim("S353")
async def test_a_listing_waits_twice_for_a_silent_store_not_once_a_file(
    world: World, autojump_clock: MockClock
) -> None:
    store = SlowStore(world, FILES)
    found = await stats(world)
    assert trio.current_time() == pytest.approx(50 + len(KEYS[2:]) * BRIEFLY_S, abs=0.1)
    assert all(isinstance(error, DeadlineExceeded) for error in found.values())
    told = str(found["b07.tiff"])
    assert told.startswith("b07.tiff of item")
    assert "b01.tiff" in told
    assert "stopped sending" in told
    assert sorted(world.files.begun) == [FILES[0], *FILES[2:]]
    store.silent = []  # the network is back
    await trio.sleep(LISTING_S + 0.1)
    assert all(size == 1000 + n for n, size in enumerate((await stats(world)).values()))


@pytest.mark.claim("S353")
async def test_brief_waits_do_not_add_up_to_another_long_one(autojump_clock: MockClock) -> None:
    keys = tuple(f"b{n:03d}.tiff" for n in range(100))
    world = stac_world(Stac((item_of(ASSET, 1, keys),)), ASSET)
    SlowStore(world, [file_id(1, n) for n in range(100)])
    for key in keys:
        with pytest.raises(DeadlineExceeded):
            await stat(world, f"assets/one/{key}")
    assert trio.current_time() == pytest.approx(50 + 98 * BRIEFLY_S, abs=0.5)


@pytest.mark.claim("S353")
async def test_what_is_at_hand_is_shown_after_files_that_stall(
    world: World, autojump_clock: MockClock
) -> None:
    SlowStore(world, FILES[3:6])
    found = await stats(world)
    assert [key for key, size in found.items() if not isinstance(size, int)] == list(KEYS[3:6])
    # The third of them was not waited for in full.
    assert trio.current_time() == pytest.approx(50 + BRIEFLY_S, abs=0.1)


async def test_a_listing_over_a_slow_line_is_a_listing(
    world: World, autojump_clock: MockClock
) -> None:
    SlowStore(world, [], answers_after_s=LISTING_S + 1)
    await stats(world)
    assert sorted(world.files.begun) == FILES[2:]


@pytest.mark.claim("S387")
async def test_another_version_is_believed_and_told_to_the_kernel(
    world: World, autojump_clock: MockClock
) -> None:
    inode = await world.walk("assets/one/b00.tiff")
    assert (await world.fs.getattr(inode)).size == 1000
    world.fs.release((await world.fs.open(inode, 0)).handle)
    assert world.fs.changes.learn_size(FILES[0], 5) == [Invalidation(inode)]
    assert (await world.fs.getattr(inode)).size == 5
    assert not (await world.fs.open(inode, 0)).keep_cache
    assert (await world.fs.open(inode, 0)).keep_cache
    assert world.fs.changes.learn_size(file_id(7, 7), 5) == []


async def test_assets_of_unknown_size_are_begun_as_they_are_listed(
    autojump_clock: MockClock,
) -> None:
    assets = [make_asset(n, name=f"{n:03d}.zip", size=None) for n in range(200)]
    known = make_asset(500, name="known.zip", size=7)
    world = stac_world(Stac(), *assets, known)
    world.files.sizes = {asset.id: 10_000 + n for n, asset in enumerate(assets)}
    await world.list("assets")
    assert await stat(world, "assets/000.zip") == 10_000
    assert world.files.begun == []
    assert await stat(world, "assets/001.zip") == 10_001
    assert world.files.begun == [asset.id for asset in assets[2 : 1 + AHEAD]]
    for n in range(2, 200):
        assert await stat(world, f"assets/{n:03d}.zip") == 10_000 + n
    assert await stat(world, "assets/known.zip") == 7
    assert len(world.files.begun) == len(set(world.files.begun)) == 198
    assert len(world.files.probed) == 200


async def test_assets_that_were_not_listed_are_single_questions(
    autojump_clock: MockClock,
) -> None:
    assets = [make_asset(n, name=f"{n}.zip", size=None) for n in range(9)]
    world = stac_world(Stac(), *assets)
    for n in range(9):
        await stat(world, f"assets/{n}.zip")
    assert world.files.begun == []


async def test_what_left_the_storage_is_not_begun(autojump_clock: MockClock) -> None:
    assets = [make_asset(n, name=f"{n}.zip", size=None) for n in range(5)]
    world = stac_world(Stac(), *assets)
    await world.list("assets")
    await stat(world, "assets/0.zip")
    world.remove(assets[3])
    await stat(world, "assets/1.zip")
    assert world.files.begun == [assets[2].id, assets[4].id]


async def test_an_unknown_size_is_not_remembered_under_an_id_either() -> None:
    asset = make_asset(1, name="1.zip", size=None)
    world = stac_world(Stac(), asset)
    world.files.sizes = {asset.id: 70}
    found = await world.fs.lookup(await world.walk("assets"), asset.id)
    assert isinstance(found, Attributes)
    assert (found.size, found.ttl_s, found.attr_ttl_s) == (0, 0.0, 0.0)
    await world.fs.getattr(found.inode)
    found = await world.fs.lookup(await world.walk("assets"), asset.id)
    assert isinstance(found, Attributes)
    assert (found.size, found.ttl_s, found.attr_ttl_s) == (70, 0.0, KERNEL_TTL_S)
