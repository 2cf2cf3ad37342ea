"""The façade by path: references, deadlines, errors, large listings, any characters."""

from __future__ import annotations

import stat
from functools import partial

import pytest
import trio
from fs_support import World, content
from hypothesis import given
from hypothesis import strategies as st
from stac_support import Stac, collection_of, done, item_of, stac_world
from strategies import make_asset
from trio.testing import MockClock

from up42fs.engine.paths import BATCH_ENTRIES, LISTING_TIMEOUT_S, Paths
from up42fs.errors import (
    BadHandle,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Unavailable,
    Up42fsError,
)
from up42fs.types import Version

ONE = make_asset(1, tags=("köln",))
DONE = done(2, name="two.zip")
MANY = 100_000


@pytest.fixture
def world() -> World:
    return World(ONE)


@pytest.fixture
def slow(autojump_clock: MockClock) -> World:
    """Every answer takes a second."""
    stac = Stac((item_of(DONE, 1, ("b02.tiff", "b03.tiff")),), (collection_of(DONE),), wait_s=1.0)
    return stac_world(stac, ONE, DONE)


@pytest.mark.parametrize("after_s", [0.0, 0.5, 1.5, 2.5])
async def test_a_cancelled_call_gives_back_what_it_took(slow: World, after_s: float) -> None:
    paths, before = Paths(slow.fs), slow.fs.gauges()

    async def opened(path: str) -> None:
        async with paths.opened(path) as file:
            await trio.sleep(1)
            await file.read(0, 10)
            await trio.sleep(1)

    calls = (
        partial(opened, "/assets/two/b02.tiff"),
        partial(paths.entries, "/assets/two"),
        partial(paths.listing, "/stac/delivery of two.zip"),
        partial(paths.stat, "/assets/two/item.json"),
        partial(paths.attribute, "/assets/asset1.zip", "user.up42.json"),
        partial(paths.attributes, "/search/cloud<20"),
    )
    for call in calls:
        with trio.move_on_after(after_s):
            await call()
        assert slow.fs.gauges() == before, call
    async with trio.open_nursery() as nursery:
        for call in calls * 3:
            nursery.start_soon(call)
        await trio.sleep(after_s)
        nursery.cancel_scope.cancel()
    assert slow.fs.gauges() == before
    assert all(file.closed for file in slow.files.opened)


async def test_a_cancelled_listing_gives_back_its_entries() -> None:
    world = World(*map(make_asset, range(3 * BATCH_ENTRIES)))
    paths, before = Paths(world.fs), world.fs.gauges()
    for call in (paths.listing, paths.entries):
        with trio.CancelScope() as scope:
            scope.cancel()
            await call("/assets")
        assert scope.cancelled_caught
        assert world.fs.gauges() == before


async def test_a_large_directory_lets_others_work() -> None:
    world = World(*map(make_asset, range(MANY)))
    paths, before, turns = Paths(world.fs), world.fs.gauges(), 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        entries = await paths.entries("/assets")
        assert turns > MANY // BATCH_ENTRIES // 2
        turns = 0
        listing = await paths.listing("/assets")
        assert turns > MANY // BATCH_ENTRIES // 2
        nursery.cancel_scope.cancel()
    assert len(entries) == len(listing) == MANY
    assert [entry.name for entry in entries] == list(listing)
    assert {e.inode for e in entries} == {a.inode for a in listing.values()}
    assert listing["asset7.zip"].size == 1007
    assert world.fs.gauges() == before


async def test_a_newer_version_is_found_while_the_older_is_open(world: World) -> None:
    """The kernel looks a path up again after ESTALE; here nothing else would."""
    paths = Paths(world.fs)
    async with paths.opened("/assets/asset1.zip") as old:
        assert await old.read(0, 4) == content(ONE.id, 0, 4)
        world.files.forget(ONE.id)
        pin = world.files.pins[ONE.id] = type(world.files.opened[0].pin)(old.size)
        pin.settle(Version(old.size, '"2"'))
        async with paths.opened("/assets/asset1.zip") as new:
            assert new.size == old.size
        assert (await paths.stat("/assets/asset1.zip")).size == old.size
    assert all(file.closed for file in world.files.opened)


async def test_an_open_file_knows_its_size(slow: World) -> None:
    paths = Paths(slow.fs)
    for path in ("/.up42fs/status.json", "/assets/two/item.json", "/assets/asset1.zip"):
        async with paths.opened(path) as file:
            assert len(await file.read(0, 1 << 20)) == file.size > 0
    with pytest.raises(BadHandle, match=r"^/assets/asset1\.zip: "):
        await file.read(0, 1)


async def test_errors_begin_with_the_path(slow: World) -> None:
    paths = Paths(slow.fs)
    slow.documents.fail.append(Unavailable("UP42 kept failing"))
    with pytest.raises(Unavailable, match=r"^/assets/asset1\.zip: UP42 kept failing"):
        await paths.attribute("/assets/asset1.zip", "user.up42.json")
    with pytest.raises(NotFound, match=r"^/tags/a\\nb: there is no a\\nb"):
        await paths.stat("/tags/a\nb")
    with pytest.raises(InvalidArgument, match="absolute"):
        await paths.entries("assets")
    with pytest.raises(InvalidArgument, match="255"):
        await paths.stat("/search/" + "ü" * 128)


async def test_one_deadline_is_for_the_whole_path(autojump_clock: MockClock) -> None:
    world = World(ONE, listed=False)
    began_s = trio.current_time()
    with pytest.raises(DeadlineExceeded, match=r"^/tags/köln/asset1\.zip: "):
        await Paths(world.fs).stat("/tags/köln/asset1.zip")
    assert trio.current_time() - began_s <= LISTING_TIMEOUT_S
    assert world.fs.gauges()["inodes"] == 1


async def test_listed_attributes_are_those_of_stat(slow: World) -> None:
    slow.files.sizes = dict.fromkeys((asset.id for asset in (ONE, DONE)), 7)
    paths = Paths(slow.fs)
    for directory in ("", "/assets", "/assets/two", "/tags", "/stac"):
        for name, listed in (await paths.listing(directory or "/")).items():
            shown = await paths.stat(f"{directory}/{name}")
            assert (shown.inode, shown.mode) == (listed.inode, listed.mode)
            assert shown.size == listed.size or listed.attr_ttl_s == 0
    names = await paths.entries("/assets")
    assert [entry.is_dir for entry in names] == [stat.S_ISDIR(entry.mode) for entry in names]


NAMES = st.one_of(
    st.text(max_size=8),
    st.text(st.characters(categories=["Cs", "Cc", "Cf"]), max_size=4),
    st.sampled_from(["assets", "tags", "köln", "search", "orders", "..", ONE.id, "cloud<5", "\0"]),
)


@given(st.lists(NAMES, max_size=4))
def test_any_characters_are_answered(names: list[str]) -> None:
    world = stac_world(Stac(), ONE)
    paths, before = Paths(world.fs), world.fs.gauges()

    async def ask() -> None:
        path = "/" + "/".join(names)
        for call in (paths.stat, paths.entries, paths.attributes):
            try:
                await call(path)
            except Up42fsError as error:
                str(error).encode()
            assert world.fs.gauges() == before

    trio.run(ask)


async def test_a_place_is_resolved_once_for_several_calls(world: World) -> None:
    paths, before = Paths(world.fs), world.fs.gauges()
    async with paths.at("/") as place:
        assert place.attributes.is_dir
        assert {entry.name for entry in await place.entries()} >= {"orders", "assets"}
    async with paths.at("/tags/köln") as place:
        assert list(await place.listing()) == ["asset1.zip"]
        assert not place.has_link
        with pytest.raises(InvalidArgument, match="no link"):
            await place.link(10)
    async with paths.at("/assets/asset1.zip") as place:
        assert place.has_link
        assert (await place.stat()).size == place.attributes.size == 1001
        async with place.opened() as file:
            assert await file.read(0, 4) == content(ONE.id, 0, 4)
    with pytest.raises(NotFound, match="/assets/absent: there is no absent"):
        async with paths.at("/assets/absent"):
            raise AssertionError("it does not exist")
    assert world.fs.gauges() == before
