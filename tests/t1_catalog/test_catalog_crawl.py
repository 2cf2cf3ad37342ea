"""Items on the shelf: crawled in batches, found again by later mounts, asked anew when they may be
others."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from catalog_support import Stac, asset_id, done, make_item
from hypothesis import given
from hypothesis import strategies as st
from strategies import at, make_asset

from up42fs.catalog import item_rows
from up42fs.catalog.crawl import BATCH, ItemCrawl
from up42fs.catalog.index import Changes, Index
from up42fs.catalog.items import Items
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.shelf import Shelf
from up42fs.catalog.snapshot import Snapshot
from up42fs.core.stac import StacAsset, StacItem
from up42fs.errors import InvalidArgument, Unavailable
from up42fs.metrics import Metrics

texts = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
moments = st.one_of(st.none(), st.integers(0, 99).map(at))
stac_files = st.builds(
    StacAsset,
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
    asset_id=texts,
    refusal=texts,
    title=texts,
    media_type=texts,
    roles=st.lists(st.sampled_from(["data", "ü"]), max_size=2).map(tuple),
)
stac_items = st.builds(
    StacItem,
    id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
    collection_id=texts,
    asset_id=texts,
    assets=st.lists(stac_files, max_size=3).map(tuple),
    title=texts,
    datetime=moments,
    created=moments,
    updated=moments,
    gsd=st.one_of(st.none(), st.floats(0, 100)),
    epsg=st.one_of(st.none(), st.integers(1, 99999)),
    bbox=st.one_of(st.none(), st.tuples(*[st.floats(-90, 90)] * 4)),
    user_tags=st.lists(st.text("ab", min_size=1), max_size=2).map(tuple),
    document=st.dictionaries(st.text("abc", max_size=3), st.integers(), max_size=2),
)


@given(st.lists(stac_items, max_size=3, unique_by=lambda item: item.id))
def test_items_come_back_as_they_were(items: list[StacItem]) -> None:
    assert item_rows.unpack(item_rows.pack(items)) == tuple(items)
    documents = item_rows.unpack_documents(item_rows.pack_documents(items))
    assert documents == {item.id: item.document for item in items}


class Place:
    """One mount's catalogue of transformed assets over a snapshot."""

    def __init__(self, nursery: trio.Nursery, source: Stac, path: Path, count: int) -> None:
        self.index = Index()
        self.index.apply(Changes(assets=tuple(done(n) for n in range(count))))
        self.snapshot = Snapshot(path)
        self.recorder = Recorder(self.snapshot, self.index, lambda _: True, gather_s=0.01)
        self.shelf = Shelf(self.snapshot, self.recorder)
        self.items = Items(nursery, source, metrics=Metrics(), shelf=self.shelf)
        self.crawl = ItemCrawl(self.index, self.items, self.shelf.versions)

    async def crawled(self) -> None:
        with trio.fail_after(20):
            while self.crawl.status()["missing"] != 0:
                await trio.sleep(0.01)
        await self.recorder.flush()


def source_of(count: int) -> Stac:
    return Stac(items=[make_item(n, n, document={"n": n}) for n in range(count)])


async def test_the_crawl_asks_once_a_batch_and_later_mounts_ask_nothing(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    count = 2 * BATCH + 1
    source = source_of(count)
    first = Place(nursery, source, tmp_path / "c.sqlite", count)
    nursery.start_soon(first.crawl.run)
    await first.crawled()
    assert source.asked["search"] == 3
    later = Place(nursery, source, tmp_path / "c.sqlite", count)
    nursery.start_soon(later.crawl.run)
    await later.crawled()
    for number in (0, 7, count - 1):
        assert await later.items.of_asset(done(number)) == (make_item(number, number),)
        (whole,) = await later.items.whole(done(number))
        assert whole.document == {"n": number}
    assert source.asked["search"] == 3


async def test_what_changed_is_asked_again(tmp_path: Path, nursery: trio.Nursery) -> None:
    source = source_of(5)
    place = Place(nursery, source, tmp_path / "c.sqlite", 5)
    nursery.start_soon(place.crawl.run)
    await place.crawled()
    source.items[2] = make_item(2, 2, files=5, document={})
    newer = done(2, updated_at=at(1000))
    place.crawl.note(place.index.apply(Changes(assets=(newer, make_asset(77)))))
    assert place.crawl.status() == {"transformed": 5, "missing": 1}
    await place.crawled()
    assert source.asked["search"] == 2
    later = Place(nursery, source, tmp_path / "c.sqlite", 5)
    (item,) = await later.items.of_asset(newer)
    assert len(item.assets) == 5
    assert source.asked["search"] == 2
    await later.items.of_asset(done(2))  # as it was: not what is on the shelf
    assert source.asked["search"] == 3


async def test_an_asset_that_leaves_takes_its_items(tmp_path: Path, nursery: trio.Nursery) -> None:
    place = Place(nursery, source_of(3), tmp_path / "c.sqlite", 3)
    nursery.start_soon(place.crawl.run)
    await place.crawled()
    place.recorder.note(place.index.apply(Changes(removed_assets=frozenset({asset_id(1)}))))
    await place.recorder.flush()
    assert Snapshot(tmp_path / "c.sqlite").item_versions().keys() == {asset_id(0), asset_id(2)}


async def test_a_service_that_takes_no_lists_is_asked_one_by_one(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    class Plain(Stac):
        async def search(self, body):
            if body["filter"]["op"] == "in":
                raise InvalidArgument("unknown operator")
            async for item in super().search(body):
                yield item

    source = Plain(items=source_of(4).items)
    place = Place(nursery, source, tmp_path / "c.sqlite", 4)
    nursery.start_soon(place.crawl.run)
    await place.crawled()
    assert source.asked["search"] == 4
    assert len(place.snapshot.item_versions()) == 4


async def test_a_failure_is_tried_again(tmp_path: Path, nursery, autojump_clock) -> None:
    source = source_of(4)
    source.fail = Unavailable("down")
    place = Place(nursery, source, tmp_path / "c.sqlite", 4)

    async def nothing() -> dict[str, int]:
        return {}

    place.crawl = ItemCrawl(place.index, place.items, nothing)
    nursery.start_soon(place.crawl.run)
    await trio.sleep(10)
    assert place.crawl.status()["missing"] == 4
    source.fail = None
    await trio.sleep(40)
    assert place.crawl.status()["missing"] == 0


async def test_sizes_hold_as_long_as_the_item_they_are_of(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    source = Stac(items=[make_item(0, 0, updated=at(1)), make_item(1, 1, updated=at(1))])
    place = Place(nursery, source, tmp_path / "c.sqlite", 2)
    nursery.start_soon(place.crawl.run)
    await place.crawled()
    place.items.learn_size("file-0-0", asset_id(0), at(1).isoformat(), 123)
    place.items.learn_size("file-1-0", asset_id(1), at(0).isoformat(), 456)
    await place.recorder.flush()
    later = Place(nursery, source, tmp_path / "c.sqlite", 2)
    for number in range(2):
        await later.items.of_asset(done(number))
    assert later.items.sizes(asset_id(0)) == {"file-0-0": 123}
    assert later.items.sizes(asset_id(1)) == {}


@pytest.mark.parametrize("damage", ["nonsense", "[]x", '[["a"]]', "{}"])
async def test_damaged_items_are_asked_again(
    tmp_path: Path, nursery: trio.Nursery, damage: str
) -> None:
    source = source_of(1)
    place = Place(nursery, source, tmp_path / "c.sqlite", 1)
    nursery.start_soon(place.crawl.run)
    await place.crawled()
    place.snapshot._open().execute("UPDATE item SET items = ?, documents = 'x'", (damage,))
    later = Place(nursery, source, tmp_path / "c.sqlite", 1)
    assert await later.items.of_asset(done(0)) == (make_item(0, 0),)
    assert source.asked["search"] == 2
