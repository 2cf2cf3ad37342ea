"""What STAC says of deliveries that are not transformed: learned together, kept, never guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from catalog_support import Stac, asset_id, done, make_collection, make_item
from hypothesis import given
from hypothesis import strategies as st
from strategies import at, make_asset

from up42fs.catalog.collections import Collections
from up42fs.catalog.crawl import ItemCrawl
from up42fs.catalog.descriptions import Descriptions
from up42fs.catalog.index import Changes, Index
from up42fs.catalog.items import Items
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.snapshot.snapshot import Snapshot
from up42fs.catalog.stored_items import Shelf, Shelved
from up42fs.catalog.together import MOST as BATCH
from up42fs.errors import InvalidArgument
from up42fs.metrics import Metrics
from up42fs.model import geojson
from up42fs.model.query import parse_query
from up42fs.model.stac import StacItem, described_by, merged
from up42fs.types import Asset

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
boxes = st.tuples(*[st.floats(-179, 179)] * 2, *[st.floats(-89, 89)] * 2).map(
    lambda n: (n[0], min(n[2:]), n[1], max(n[2:]))
)
items = st.builds(
    StacItem,
    id=st.text(min_size=1, max_size=3),
    collection_id=st.sampled_from(["one", "other"]),
    asset_id=st.just("asset"),
    datetime=st.none() | st.integers(0, 9).map(at),
    cloud_cover=st.none() | st.sampled_from([0.0, 7.5]),
    bbox=st.none() | boxes,
)


@given(st.lists(items, max_size=4))
def test_several_items_say_together_what_all_of_them_say(said: list[StacItem]) -> None:
    found = merged(said)
    if not said:
        assert found is None
        return
    assert found is not None
    moments = [item.datetime for item in said if item.datetime]
    assert found.datetime == min(moments, default=None)
    covers = {item.cloud_cover for item in said}
    assert found.cloud_cover == (covers.pop() if len(covers) == 1 else None)
    for item in said:
        assert item.bbox is None or (found.bbox and geojson.meet(item.bbox, found.bbox))


@given(json_values, json_values)
def test_no_extent_of_a_collection_is_too_odd(spatial: Any, temporal: Any) -> None:
    for extent in (spatial, {"spatial": spatial, "temporal": temporal}):
        described_by(make_collection(1, 1, document={"extent": extent}))
    rows = {"spatial": {"bbox": spatial}, "temporal": {"interval": temporal}}
    found = described_by(make_collection(1, 1, document={"extent": rows}))
    assert found.bbox is None or geojson.is_bbox(found.bbox)


def extent(*bbox: float, day: str = "2024-05-01") -> Mapping[str, Any]:
    rows = {"spatial": {"bbox": [list(bbox)]}, "temporal": {"interval": [[f"{day}T10:00:00Z"] * 2]}}
    return {"extent": rows}


class Place:
    """One mount's catalogue of plain assets over a snapshot."""

    def __init__(self, nursery: trio.Nursery, source: Stac, path: Path, assets: list[Asset]):
        self.index = Index()
        self.index.apply(Changes(assets=tuple(assets)))
        self.recorder = Recorder(Snapshot(path), self.index, lambda _: True, gather_s=0.01)
        shelf = Shelf(self.recorder)
        self.items = Items(nursery, source, metrics=Metrics(), shelf=shelf)
        self.collections = Collections(
            nursery, source, metrics=Metrics(), items=self.items, shelf=shelf
        )
        self.about = Descriptions(self.index, self.items, self.collections, shelf)
        self.finished = 0

        async def finish() -> None:
            await self.recorder._write()
            await self.about.complete()
            self.finished += 1

        self.crawl = ItemCrawl(self.index, self.items, shelf.versions, finish)
        nursery.start_soon(self.crawl.run)

    async def crawled(self) -> None:
        with trio.fail_after(20):
            while self.crawl.status()["plain_missing"] != 0:
                await trio.sleep(0.01)
            await trio.sleep(0.05)
        await self.recorder._write()

    async def said(self, number: int) -> StacItem | None:
        asset = self.index.assets[asset_id(number)]
        await self.about.recall([asset])
        return self.about.known(asset.id)


async def test_what_is_shelved_while_somebody_looks_for_it_is_found_the_next_time(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that began before the crawl's answer must not be believed after it."""
    plain = [make_asset(1)]
    source = Stac(items=[make_item(1, 1, files=0, cloud_cover=4.0)])
    recorder = Recorder(Snapshot(tmp_path / "c.sqlite"), Index(), lambda _: True, gather_s=0.01)
    shelf = Shelf(recorder)
    items = Items(nursery, source, metrics=Metrics(), shelf=shelf)
    looked, answered = trio.Event(), trio.Event()
    load = shelf.load

    async def slow(asset_ids: Sequence[str]) -> dict[str, Shelved]:
        found = await load(asset_ids)
        looked.set()
        await answered.wait()
        return found

    monkeypatch.setattr(shelf, "load", slow)
    nursery.start_soon(items.recall, plain)
    await looked.wait()
    await items.learn_many(plain)
    answered.set()
    await trio.testing.wait_all_tasks_blocked()
    await items.recall(plain)
    assert items.known(plain[0].id) == (source.items[0],)


@pytest.mark.claim("S320")
async def test_a_hundred_deliveries_are_a_request_and_later_mounts_send_none(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    count = BATCH + 5
    plain = [make_asset(n) for n in range(count)]
    source = Stac(items=[make_item(n, n, files=0, cloud_cover=n) for n in range(count)])
    first = Place(nursery, source, tmp_path / "c.sqlite", plain)
    await first.crawled()
    assert source.asked == {"search": 2}
    later = Place(nursery, source, tmp_path / "c.sqlite", plain)
    await later.crawled()
    for number in (0, count - 1):
        said = await later.said(number)
        assert said is not None
        assert said.cloud_cover == number
    assert source.asked == {"search": 2}
    # Transformed while nothing was mounted, and `updatedAt` did not move: what is kept is not
    # taken for the items of a transformed asset.
    transformed = done(3)
    assert await later.items.of_asset(transformed) == (source.items[3],)
    assert source.asked["search"] == 3


@pytest.mark.claim("S320")
async def test_deliveries_without_items_are_described_by_their_collections(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    source = Stac(
        items=[make_item(0, 0, files=0, bbox=(0.0, 0.0, 1.0, 1.0), datetime=at(5))],
        collections=[
            make_collection(0, 0, document=extent(50, 50, 51, 51)),
            make_collection(1, 1, document=extent(10, 10, 11, 11)),
        ],
    )
    plain = [make_asset(n) for n in range(3)]
    place = Place(nursery, source, tmp_path / "c.sqlite", plain)
    await place.crawled()
    assert (source.asked["search"], source.asked["collections"]) == (1, 1)
    said = [await place.said(number) for number in range(3)]
    assert [item.bbox if item else None for item in said] == [(0, 0, 1, 1), (10, 10, 11, 11), None]
    for name, found in (
        ("bbox=10.5,10.5,12,12", {asset_id(1)}),
        ("bbox=50,50,51,51", set()),  # the item says otherwise, and it is nearer to the delivery
        ("datetime=2024-05-01", {asset_id(1)}),
        ("datetime<2024-05-01", set()),
        ("cloud<10", set()),
        ("bbox=10.5,10.5,12,12,cloud<10", set()),
    ):
        query = parse_query(name)
        assert query is not None
        assert place.about.matching(query) == found, name
    await trio.sleep(0)
    assert (source.asked["search"], source.asked["collections"]) == (1, 1)


async def test_where_lists_are_refused_plain_deliveries_are_not_asked_for_one_by_one(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    plain = [make_asset(n) for n in range(9)]
    source = Stac(items=[make_item(n, n, files=0) for n in range(9)])
    source.fail = InvalidArgument("no such operator")
    place = Place(nursery, source, tmp_path / "c.sqlite", plain)
    with trio.fail_after(20):
        while not place.finished:
            await trio.sleep(0.01)
    assert source.asked["search"] <= 2
    source.fail = None
    before = source.asked["search"]
    said = await place.about.ask(plain[4])
    assert said is not None
    assert source.asked["search"] == before + 1
