"""Items on the shelf: crawled in batches, found again by later mounts, asked anew when they may be
others."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from catalog_support import Stac, asset_id, done, make_item
from hypothesis import given
from hypothesis import strategies as st
from strategies import at, make_asset

from up42fs.catalog.crawl import IN_VAIN, ItemCrawl
from up42fs.catalog.index import Changes, Index
from up42fs.catalog.items import Items
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.snapshot import item_rows, tables
from up42fs.catalog.snapshot.snapshot import SaveResult, Snapshot
from up42fs.catalog.snapshot.stored import Batch
from up42fs.catalog.stored_items import Shelf
from up42fs.catalog.together import DOUBTS
from up42fs.catalog.together import MOST as BATCH
from up42fs.errors import AccessDenied, InvalidArgument, NotFound, Offline, Unavailable
from up42fs.metrics import Metrics
from up42fs.model.stac import StacAsset, StacItem

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
        self.shelf = Shelf(self.recorder)
        self.items = Items(nursery, source, metrics=Metrics(), shelf=self.shelf)
        self.crawl = ItemCrawl(self.index, self.items, self.shelf.versions)

    async def crawled(self) -> None:
        with trio.fail_after(20):
            while self.crawl.status()["missing"] != 0 or self.crawl.status()["plain_missing"]:
                await trio.sleep(0.01)
        await self.recorder._write()


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
    assert place.crawl.status() == {
        "transformed": 5,
        "missing": 1,
        "refused": 0,
        "plain_missing": 1,
        "together": True,
        "error": None,
    }
    await place.crawled()
    assert source.asked["search"] == 3  # one for the transformed asset, one for the other
    later = Place(nursery, source, tmp_path / "c.sqlite", 5)
    (item,) = await later.items.of_asset(newer)
    assert len(item.assets) == 5
    assert source.asked["search"] == 3
    await later.items.of_asset(done(2))  # as it was: not what is on the shelf
    assert source.asked["search"] == 4


async def test_assets_out_of_the_snapshot_are_crawled_once(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = BATCH + 1
    source = source_of(count)
    first = Place(nursery, source, tmp_path / "c.sqlite", 0)
    assets = (*(done(n) for n in range(count)), *(make_asset(n) for n in range(1000, 1005)))
    first.recorder.note(first.index.apply(Changes(assets=assets)))
    await first.recorder._write()
    monkeypatch.setattr(tables, "REPACK_ROWS", 1)
    first.snapshot.pack()
    later = Place(nursery, source, tmp_path / "c.sqlite", 0)
    stored = later.snapshot.load()
    later.index.load(stored.assets, stored.orders)
    # A large storage is loaded into columns, which make an object at each access.
    assert later.index.assets[asset_id(0)] is not later.index.assets[asset_id(0)]
    nursery.start_soon(later.crawl.run)
    await later.crawled()
    await trio.sleep(0.1)
    assert source.asked["search"] == 2 + 1


async def test_items_are_on_the_shelf_also_while_they_are_written(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(3)
    place = Place(nursery, source, tmp_path / "c.sqlite", 3)
    begun, goes_on = threading.Event(), threading.Event()
    save = place.snapshot.save

    def slow_save(batch: Batch) -> SaveResult:
        begun.set()
        assert goes_on.wait(20)
        return save(batch)

    monkeypatch.setattr(place.snapshot, "save", slow_save)
    await place.items.learn_many([done(n) for n in range(3)])
    try:
        nursery.start_soon(place.recorder._write)
        await trio.to_thread.run_sync(begun.wait, 20)
        assert await place.items.of_asset(done(1)) == (make_item(1, 1),)
        (whole,) = await place.items.whole(done(2))
        assert whole.document == {"n": 2}
        assert source.asked["search"] == 1
    finally:
        goes_on.set()


async def test_an_asset_that_leaves_takes_its_items(tmp_path: Path, nursery: trio.Nursery) -> None:
    place = Place(nursery, source_of(3), tmp_path / "c.sqlite", 3)
    nursery.start_soon(place.crawl.run)
    await place.crawled()
    place.recorder.note(place.index.apply(Changes(removed_assets=frozenset({asset_id(1)}))))
    await place.recorder._write()
    assert Snapshot(tmp_path / "c.sqlite").item_versions().keys() == {asset_id(0), asset_id(2)}


@dataclass
class Moody(Stac):
    """Fails as told: by the operator of the filter, or for single assets."""

    operators: dict[str, Exception] = field(default_factory=dict)
    assets: dict[str, Exception] = field(default_factory=dict)

    async def search(self, body: Mapping[str, Any]) -> AsyncGenerator[StacItem, None]:
        text = json.dumps(body)
        for name, error in (*self.operators.items(), *self.assets.items()):
            if name == body["filter"]["op"] or f'"{name}"' in text:
                self.asked["failed"] += 1
                raise error
        async for item in super().search(body):
            yield item


class Unshelved(Place):
    """Without waiting for a disk, for a clock that jumps."""

    def __init__(self, nursery: trio.Nursery, source: Stac, path: Path, count: int) -> None:
        super().__init__(nursery, source, path, count)

        async def nothing() -> dict[str, int]:
            return {}

        self.items = Items(nursery, source, metrics=Metrics())
        self.crawl = ItemCrawl(self.index, self.items, nothing)


@pytest.mark.parametrize(
    ("refused", "searches", "together"),
    [({"in"}, 1, True), ({"in", "or"}, 4, False)],
)
async def test_a_service_that_takes_no_lists_is_asked_otherwise(
    tmp_path: Path,
    nursery: trio.Nursery,
    refused: set[str],
    searches: int,
    together: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    operators: dict[str, Exception] = dict.fromkeys(refused, InvalidArgument("unknown operator"))
    source = Moody(items=source_of(4).items, operators=operators)
    place = Place(nursery, source, tmp_path / "c.sqlite", 4)
    nursery.start_soon(place.crawl.run)
    await place.crawled()
    assert source.asked["search"] == searches
    assert len(place.snapshot.item_versions()) == 4
    assert place.crawl.status()["together"] is together
    assert "unknown operator" in caplog.text


@pytest.mark.claim("S161")
@pytest.mark.parametrize("error", [Unavailable("500"), AccessDenied("403"), NotFound("404")])
async def test_a_failure_of_lists_that_lasts_does_not_stop_the_crawl(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock, error: Exception
) -> None:
    count = 5 * BATCH
    source = Moody(items=source_of(count).items, operators={"in": error})
    place = Unshelved(nursery, source, tmp_path / "c.sqlite", count)
    nursery.start_soon(place.crawl.run)
    await trio.sleep(1)
    assert place.crawl.status()["missing"] == 0
    assert source.asked["failed"] == DOUBTS
    # Two batches one by one, the other three by the other form.
    assert source.asked["search"] == DOUBTS * BATCH + 3


@pytest.mark.claim("S161")
async def test_one_asset_that_fails_holds_up_no_other(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock, caplog: pytest.LogCaptureFixture
) -> None:
    count = 2 * BATCH
    bad = asset_id(count - 1)  # the newest: asked for first
    source = Moody(items=source_of(count).items, assets={bad: Unavailable("this one is broken")})
    place = Unshelved(nursery, source, tmp_path / "c.sqlite", count)
    nursery.start_soon(place.crawl.run)
    await trio.sleep(1)
    assert place.crawl.status()["missing"] == 1
    assert place.crawl.status()["error"] == "this one is broken"
    assert place.crawl.status()["together"] is True
    assert place.items.known(asset_id(3)) is None  # crawled onto a shelf, if there is one
    assert [r.levelname for r in caplog.records if "this one is broken" in r.message] == ["WARNING"]
    failed = source.asked["failed"]
    await trio.sleep(24 * 3600)
    assert source.asked["failed"] - failed < 60, "its turns come ever later"
    source.assets.clear()
    await trio.sleep(3600)
    assert place.crawl.status()["missing"] == 0
    assert place.crawl.status()["error"] is None


async def test_an_asset_that_is_refused_has_no_second_turn(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock
) -> None:
    source = Moody(items=source_of(4).items, assets={asset_id(2): InvalidArgument("not this")})
    place = Unshelved(nursery, source, tmp_path / "c.sqlite", 4)
    nursery.start_soon(place.crawl.run)
    await trio.sleep(1)
    failed = source.asked["failed"]
    assert place.crawl.status()["missing"] == 0
    assert place.crawl.status()["refused"] == 1
    await trio.sleep(24 * 3600)
    assert source.asked["failed"] == failed
    place.crawl.note(place.index.apply(Changes(assets=(done(2, updated_at=at(9)),))))
    source.assets.clear()
    await trio.sleep(1)
    assert place.crawl.status()["refused"] == 0


@pytest.mark.claim("S161")
@pytest.mark.parametrize("error", [Unavailable("down"), Offline("no network"), AccessDenied("403")])
async def test_an_outage_is_waited_out_and_told(
    tmp_path: Path,
    nursery: trio.Nursery,
    autojump_clock,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    source = source_of(4)
    source.fail = error
    place = Unshelved(nursery, source, tmp_path / "c.sqlite", 4)
    nursery.start_soon(place.crawl.run)
    await trio.sleep(300)
    assert place.crawl.status()["missing"] == 4
    assert place.crawl.status()["error"] == str(error)
    assert source.asked["search"] <= 11 * (IN_VAIN + 1)
    assert [r.levelname for r in caplog.records if str(error) in r.message] == ["WARNING"]
    source.fail = None
    await trio.sleep(1800)
    assert place.crawl.status()["missing"] == 0
    assert place.crawl.status()["error"] is None
    assert "works again" in caplog.text


async def test_sizes_hold_as_long_as_the_item_they_are_of(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    source = Stac(items=[make_item(0, 0, updated=at(1)), make_item(1, 1, updated=at(1))])
    place = Place(nursery, source, tmp_path / "c.sqlite", 2)
    nursery.start_soon(place.crawl.run)
    await place.crawled()
    place.items.learn_size("file-0-0", asset_id(0), at(1).isoformat(), 123)
    place.items.learn_size("file-1-0", asset_id(1), at(0).isoformat(), 456)
    await place.recorder._write()
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


async def test_a_search_that_keeps_failing_is_sent_ever_more_rarely(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: object
) -> None:
    source = Stac(items=[make_item(0, 0, files=0), make_item(1, 1)], fail=Unavailable("down"))
    place = Unshelved(nursery, source, tmp_path / "c.sqlite", 0)
    place.index.apply(Changes(assets=(make_asset(0),)))
    nursery.start_soon(place.crawl.run)
    await trio.sleep(24 * 3600)
    assert 10 < source.asked["search"] < 60
    assert place.crawl.status()["plain_missing"] == 1
    # A transformed asset does not wait for that pause to end.
    source.fail = None
    before = source.asked["search"]
    place.crawl.note(place.index.apply(Changes(assets=(done(1),))))
    await trio.sleep(1)
    assert source.asked["search"] == before + 1
    assert place.crawl.status()["missing"] == 0
    await trio.sleep(3600)
    assert place.crawl.status()["plain_missing"] == 0
    assert source.asked["search"] == before + 2


async def test_a_delivery_that_changes_while_it_is_asked_for_is_asked_again(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: object
) -> None:
    source = Stac(items=[make_item(n, n, files=0) for n in range(3)], latency_s=1)
    place = Unshelved(nursery, source, tmp_path / "c.sqlite", 0)
    place.index.apply(Changes(assets=tuple(make_asset(n) for n in range(3))))
    nursery.start_soon(place.crawl.run)
    await trio.sleep(0.5)
    place.crawl.note(place.index.apply(Changes(assets=(make_asset(1, updated_at=at(99)),))))
    await trio.sleep(10)
    assert place.crawl.status()["plain_missing"] == 0
    assert source.asked["search"] == 2
