"""Collections and their items: asked when looked at, shown while they age, told to `Items`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from catalog_support import Stac, asset_id, done, make_collection, make_item
from trio.testing import MockClock, wait_all_tasks_blocked

from up42fs.catalog.cached_answers import PAUSE_AFTER_FAILURE_S
from up42fs.catalog.collections import Collections
from up42fs.catalog.index import Changes, Index
from up42fs.catalog.items import Items, weight
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.snapshot import item_rows
from up42fs.catalog.snapshot.snapshot import Snapshot
from up42fs.catalog.stored_items import Shelf
from up42fs.errors import DeadlineExceeded, InvalidArgument, NotFound, Offline, Unavailable
from up42fs.metrics import Metrics
from up42fs.model.stac import StacItem


def make_collections(nursery: trio.Nursery, source: Stac, **settings) -> Collections:
    return Collections(nursery, source, metrics=Metrics(), **settings)


def small() -> Stac:
    return Stac(
        collections=[make_collection(n, n) for n in (3, 2, 1)],
        items=[make_item(n, 1 + n % 3) for n in range(6)],
    )


async def test_nothing_is_asked_before_somebody_looks(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = small()
    make_collections(nursery, source)
    await trio.sleep(1000)
    assert not source.asked


async def test_looks_at_the_same_time_share_one_crawl(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = small()
    source.latency_s = 1
    collections = make_collections(nursery, source)
    answers = []

    async def look() -> None:
        answers.append((await collections.all(), await collections.items("collection-2")))

    async with trio.open_nursery() as lookers:
        for _ in range(20):
            lookers.start_soon(look)
    assert source.asked["collections"] == source.asked["items"] == 1
    expected = (tuple(source.collections), (make_item(1, 2), make_item(4, 2)))
    assert answers == [expected] * 20


@pytest.mark.claim("S44")
async def test_an_aged_answer_is_given_at_once_and_refreshed_behind(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = small()
    collections = make_collections(nursery, source)
    before = await collections.all()
    await trio.sleep(59)
    assert await collections.all() == before
    assert source.asked["collections"] == 1
    source.collections = [make_collection(4, 4), *source.collections]
    source.latency_s = 5
    await trio.sleep(1)
    start_s = trio.current_time()
    for _ in range(10):
        assert await collections.all() == before
    assert trio.current_time() == start_s
    await trio.sleep(6)
    assert await collections.all() == tuple(source.collections)
    assert source.asked["collections"] == 2


async def test_items_of_a_collection_age_likewise(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = small()
    collections = make_collections(nursery, source)
    before = await collections.items("collection-1")
    assert before == (make_item(0, 1), make_item(3, 1))
    source.items.append(make_item(9, 1))
    await trio.sleep(61)
    assert await collections.items("collection-1") == before
    await trio.sleep(1)
    assert await collections.items("collection-1") == (*before, make_item(9, 1))
    assert source.asked["items"] == 2
    assert source.asked["collections"] == 0


@pytest.mark.claim("S45")
async def test_a_first_look_that_fails_is_told_and_not_remembered(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = small()
    source.fail = Unavailable("later")
    collections = make_collections(nursery, source)
    for ask in (collections.all, lambda: collections.items("collection-1")):
        with pytest.raises(Unavailable, match="later"):
            await ask()
    source.fail = None
    assert len(await collections.all()) == 3
    assert len(await collections.items("collection-1")) == 2
    with pytest.raises(NotFound):
        await collections.items("nothing")


async def test_a_refresh_that_fails_leaves_the_answer_and_pauses(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = small()
    collections = make_collections(nursery, source)
    before = await collections.all()
    source.fail = Offline("no network")
    await trio.sleep(61)
    for _ in range(20):
        assert await collections.all() == before
        await trio.sleep(PAUSE_AFTER_FAILURE_S / 10)
    assert 3 <= source.asked["collections"] <= 4
    source.fail = None
    source.collections = []
    await trio.sleep(PAUSE_AFTER_FAILURE_S)
    assert await collections.all() == before
    await trio.sleep(1)
    assert await collections.all() == ()


async def test_a_collection_that_is_gone_is_forgotten(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = small()
    collections = make_collections(nursery, source)
    await collections.items("collection-1")
    source.collections = []
    await trio.sleep(61)
    assert len(await collections.items("collection-1")) == 2
    await trio.sleep(1)
    with pytest.raises(NotFound):
        await collections.items("collection-1")


async def test_a_crawl_has_a_deadline(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    collections = make_collections(nursery, Stac(hang=True))
    with pytest.raises(DeadlineExceeded, match="try again"):
        await collections.all()


async def test_memory_is_bounded(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    source = Stac(
        collections=[make_collection(n, n) for n in range(9)],
        items=[make_item(n, n) for n in range(9)],
    )
    collections = make_collections(nursery, source, most_kept=2 * weight([make_item(1, 1)]))
    for number in (0, 1, 0, 2, 0, 1):
        await collections.items(f"collection-{number}")
    assert source.asked["items"] == 4  # 0, 1, 2, and 1 again


# -- with `Items`


async def test_items_that_pass_by_need_no_search(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = small()
    items = Items(nursery, source, metrics=Metrics())
    collections = make_collections(nursery, source, items=items)
    await collections.all()
    found = await collections.items("collection-1")
    assert await items.of_asset(done(1)) == found
    assert source.asked["search"] == 0
    await items.of_asset(done(2))
    assert source.asked["search"] == 1


async def test_what_could_be_only_some_of_an_assets_items_is_not_passed_on(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = Stac(
        collections=[make_collection(1, 1), make_collection(2, 1), make_collection(3, 3)],
        items=[
            make_item(1, 1),
            make_item(2, 1, collection_id="collection-2"),
            make_item(3, 3),
            make_item(4, 9, collection_id="collection-3"),
        ],
    )
    items = Items(nursery, source, metrics=Metrics())
    collections = make_collections(nursery, source, items=items)
    await collections.items("collection-3")  # the collections are not known yet
    assert items.known(asset_id(3)) is None
    await collections.all()
    await collections.items("collection-1")  # the asset has another collection
    assert items.known(asset_id(1)) is None
    await trio.sleep(61)
    await collections.items("collection-3")
    await trio.sleep(1)
    assert items.known(asset_id(3)) == (make_item(3, 3),)
    assert items.known(asset_id(9)) is None  # not the asset of this collection


@pytest.mark.claim("S160")
async def test_a_collection_that_arrives_takes_back_what_was_passed_on(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    source = small()
    items = Items(nursery, source, metrics=Metrics())
    collections = make_collections(nursery, source, items=items)
    await collections.all()
    found = await collections.items("collection-1")
    assert await items.of_asset(done(1)) == found
    searched = await items.of_asset(done(2))
    more = [make_item(70, 1, collection_id="collection-7")]
    source.items += [*more, make_item(80, 2, collection_id="collection-8")]
    source.collections += [make_collection(7, 1), make_collection(8, 2)]
    await trio.sleep(61)
    await collections.all()
    await trio.sleep(1)
    assert set(await items.of_asset(done(1))) == {*found, *more}
    assert await items.of_asset(done(2)) == searched, "a search's answer holds as before"


async def test_collections_find_what_the_search_refuses(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    class Refusing(Stac):
        async def search(self, body: Mapping[str, Any]) -> AsyncGenerator[StacItem, None]:
            self.asked["search"] += 1
            if self.asked["search"]:
                raise InvalidArgument("asset_id is no queryable")
            yield make_item(1, 1)

    source = Refusing(
        collections=[make_collection(1, 1), make_collection(2, 1), make_collection(3, 3)],
        items=[make_item(1, 1), make_item(2, 1, collection_id="collection-2"), make_item(3, 3)],
    )
    collections = make_collections(nursery, source)
    items = Items(nursery, source, metrics=Metrics(), fallback=collections.items_of_asset)
    assert await items.of_asset(done(1)) == (
        make_item(1, 1),
        make_item(2, 1, collection_id="collection-2"),
    )
    assert await items.of_asset(done(3)) == (make_item(3, 3),)
    assert source.asked["collections"] == 1
    assert source.asked["items"] == 3


# kept across mounts ----------------------------------------------------------------------------


@asynccontextmanager
async def a_mount(path: Path, source: Stac) -> AsyncIterator[tuple[Collections, Items]]:
    """What one mount makes of a snapshot; everything is written at its end."""
    snapshot, index = Snapshot(path), Index()
    index.apply(Changes(assets=tuple(map(done, range(4)))))
    recorder = Recorder(snapshot, index, lambda _: True)
    shelf = Shelf(recorder)
    async with trio.open_nursery() as nursery:
        items = Items(nursery, source, metrics=Metrics(), shelf=shelf)
        yield make_collections(nursery, source, items=items, shelf=shelf), items
        await wait_all_tasks_blocked()
        await recorder.flush()
        nursery.cancel_scope.cancel()


@pytest.mark.claim("S62")
async def test_what_was_listed_once_is_listed_offline(tmp_path: Path) -> None:
    source = small()
    source.items = [replace(item, document={"id": item.id}) for item in source.items]
    async with a_mount(tmp_path / "c.sqlite", source) as (collections, items):
        listed = await collections.all()
        looked_into = await collections.items("collection-2")
        await items.learn_many([done(3)])  # crawled, and not looked into
    source.fail = Offline("no network")
    async with a_mount(tmp_path / "c.sqlite", source) as (collections, _):
        assert await collections.all() == listed
        again = await collections.items("collection-2")
        assert again == looked_into
        assert [item.document for item in again] == [{"id": item.id} for item in again]
        crawled = await collections.items("collection-3")
        assert [(i.id, i.document) for i in crawled] == [
            (i.id, {"id": i.id}) for i in source.items if i.collection_id == "collection-3"
        ]
        with pytest.raises(Offline):
            await collections.items("collection-1")


async def test_what_was_kept_is_refreshed_behind_its_first_look(tmp_path: Path) -> None:
    source = small()
    async with a_mount(tmp_path / "c.sqlite", source) as (collections, _):
        before = await collections.all()
        await collections.items("collection-1")
    source.collections = source.collections[:-1]
    async with a_mount(tmp_path / "c.sqlite", source) as (collections, _):
        assert await collections.all() == before
        assert await collections.items("collection-1")
        await wait_all_tasks_blocked(0.05)
        assert await collections.all() == tuple(source.collections)
    async with a_mount(tmp_path / "c.sqlite", source) as (collections, _):
        assert await collections.all() == tuple(source.collections)
        with pytest.raises(NotFound):  # not kept any more
            await collections.items("collection-1")


def test_collections_and_items_survive_being_written_down() -> None:
    made = tuple(
        make_collection(n, n, description="ü", user_tags=("a", "b"), document={"n": n})
        for n in range(3)
    )
    made += (make_collection(9, 9, assets=make_item(1, 9).assets),)
    again = item_rows.unpack_collections(item_rows.pack_collections(made))
    assert again == made
    assert [each.document for each in again] == [each.document for each in made]
    items = tuple(make_item(n, n, document={"n": n}, bbox=(0.0, 1, 2, 3)) for n in range(3))
    again_items = item_rows.unpack_whole(item_rows.pack_whole(items))
    assert again_items == items
    assert [item.document for item in again_items] == [item.document for item in items]
