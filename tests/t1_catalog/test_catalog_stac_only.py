"""The storage as STAC alone tells it: what assets and orders come of it, and how Sync keeps up."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import trio
from catalog_support import Stac, asset_id, make_collection, make_item
from hypothesis import given
from hypothesis import strategies as st
from strategies import at, make_asset, make_order
from trio.testing import MockClock

from up42fs.api.transport import Refused
from up42fs.catalog.index import Index, ListingKind
from up42fs.catalog.listings import BATCH, AssetListing, OrderListing, StacListing
from up42fs.catalog.passes import FULL_PASS_EVERY
from up42fs.catalog.stac_only import asset_part, merged, order_part, scenes_of
from up42fs.catalog.sync import Sync
from up42fs.errors import NotFound, Unavailable
from up42fs.model.stac import StacAsset
from up42fs.types import CnamStatus

ORIGINAL = StacAsset(
    "delivery.zip", asset_id(1), title="Original Delivery", media_type="application/zip"
)


def assets_of(collections, items) -> list:
    return list(merged(map(asset_part, scenes_of(collections, items))).values())


def orders_of(collections, items) -> list:
    return list(merged(map(order_part, scenes_of(collections, items))).values())


def stac_assets(source: Stac) -> StacListing:
    return StacListing(source, asset_part, reads_items=True)


def stac_orders(source: Stac) -> StacListing:
    return StacListing(source, order_part, reads_items=False)


# -- what comes of it


def test_a_transformed_delivery() -> None:
    collection = make_collection(
        1,
        1,
        assets=(ORIGINAL,),
        order_id="order",
        workspace_id="workspace",
        account_id="account",
        product_id="product",
        product_collection="phr",
        source="ARCHIVE",
        user_title="Mine",
        user_tags=("a", "b"),
    )
    scenes = [make_item(5, 1, updated=at(8)), make_item(3, 1, updated=at(4))]
    (asset,) = assets_of([collection], scenes)
    assert asset == make_asset(
        1,
        name="delivery.zip",
        title="Mine",
        size=None,
        created_at=at(3),
        updated_at=at(8),
        tags=("a", "b"),
        cnam_status=CnamStatus.SUCCESSFUL,
        content_type="application/zip",
        order_id="order",
        workspace_id="workspace",
        account_id="account",
        product_id="product",
        collection="phr",
        source="ARCHIVE",
    )


def test_a_delivery_that_was_not_transformed() -> None:
    archive = StacAsset("data", asset_id(1), media_type="application/gzip")
    item = make_item(1, 1, assets=(archive,), created=None, datetime=at(77), order_id="order")
    (asset,) = assets_of([make_collection(1, 1)], [item])
    assert asset.name is None  # `data` is what every such file is called
    assert asset.title == "SCENE_1"
    assert asset.content_type == "application/gzip"
    assert asset.cnam_status is CnamStatus.NOT_PROCESSED
    assert asset.order_id == "order"
    assert asset.created_at == asset.updated_at == at(77)


def test_the_delivery_may_be_among_an_items_files() -> None:
    files = (StacAsset("b1.tiff", "other"), replace(ORIGINAL, roles=("original",)))
    (asset,) = assets_of([make_collection(1, 1)], [make_item(1, 1, assets=files)])
    assert asset.name == "delivery.zip"
    assert asset.cnam_status is CnamStatus.SUCCESSFUL


def test_a_file_of_its_own_called_data_is_a_transformed_one() -> None:
    item = make_item(1, 1, assets=(StacAsset("data", "another object"),))
    (asset,) = assets_of([make_collection(1, 1)], [item])
    assert (asset.cnam_status, asset.name) == (CnamStatus.SUCCESSFUL, None)


@pytest.mark.parametrize(
    ("collections_title", "items_title", "title"),
    [
        ("mine", "theirs", "mine"),
        (None, "theirs", "theirs"),
        (None, "delivery.zip", "SCENE_1"),  # an item repeats the delivered name there
        (None, None, "SCENE_1"),
    ],
)
def test_whose_title(collections_title, items_title, title) -> None:
    collection = make_collection(1, 1, assets=(ORIGINAL,), user_title=collections_title)
    (asset,) = assets_of([collection], [make_item(1, 1, user_title=items_title)])
    assert asset.title == title


def test_tags_of_the_items_count_where_the_collection_has_none() -> None:
    items = [make_item(1, 1, user_tags=("x", "y")), make_item(2, 1, user_tags=("y", "z"))]
    (asset,) = assets_of([make_collection(1, 1)], items)
    assert asset.tags == ("x", "y", "z")


NO_EXTENTS: list[object] = [[[None, None]], [], [[]], [5], "x"]


@pytest.mark.parametrize(
    ("extent", "created_at"),
    [
        ([["2024-03-01T00:00:00Z", None]], datetime(2024, 3, 1, tzinfo=UTC)),
        ([["2024-03-01T02:00:00+02:00", "2025-01-01T00:00:00Z"]], datetime(2024, 3, 1, tzinfo=UTC)),
        ([["2024-03-01T00:00:00", None]], datetime(2024, 3, 1, tzinfo=UTC)),
        *((odd, datetime(1970, 1, 1, tzinfo=UTC)) for odd in NO_EXTENTS),
        ([["0001-01-01T00:00:00+14:00", None]], datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_without_items_the_extent_tells_the_time(extent, created_at) -> None:
    document = {"extent": {"temporal": {"interval": extent}}}
    (asset,) = assets_of([make_collection(1, 1, document=document)], [])
    assert asset.created_at == asset.updated_at == created_at
    assert asset.created_at.tzinfo is UTC
    (bare,) = assets_of([make_collection(1, 1)], [])
    assert bare.created_at == datetime(1970, 1, 1, tzinfo=UTC)


def test_two_collections_of_an_asset_are_one_asset() -> None:
    collections = [make_collection(1, 1, order_id="order"), make_collection(2, 1, source="USER")]
    items = [make_item(1, 1, files=0), make_item(2, 1, collection_id="collection-2")]
    (asset,) = assets_of(collections, items)
    assert (asset.order_id, asset.source) == ("order", "USER")
    assert asset.cnam_status is CnamStatus.SUCCESSFUL
    assert (asset.created_at, asset.updated_at) == (at(1), at(2))


def test_rows_that_name_nothing_are_left_out() -> None:
    nameless = make_collection(1, None)
    assert assets_of([nameless], [make_item(1, 7, collection_id="elsewhere")]) == []
    assert orders_of([nameless], []) == []
    # An item may name what its collection does not.
    (asset,) = assets_of([nameless], [make_item(1, 7, collection_id=nameless.id)])
    assert asset.id == asset_id(7)


def test_orders() -> None:
    collections = [
        make_collection(1, 1, order_id="new", order_status="BEING_FULFILLED", account_id="me"),
        make_collection(2, 2),
        make_collection(3, 3, order_id="old", order_status="FULFILLED"),
        make_collection(4, 4, order_id="new", product_id="product"),
    ]
    new, old = orders_of(collections, [make_item(9, 1), make_item(5, 4)])
    assert (new.id, new.status, new.account_id) == ("new", "BEING_FULFILLED", "me")
    assert (new.product_id, new.created_at, new.updated_at) == ("product", at(5), at(9))
    assert (old.id, old.status, old.display_name) == ("old", "FULFILLED", None)


catalogues = st.tuples(
    st.lists(
        st.builds(make_collection, st.integers(0, 6), st.none() | st.integers(0, 4)),
        max_size=8,
        unique_by=lambda row: row.id,
    ),
    st.lists(
        st.builds(
            lambda number, of, where, files: make_item(
                number, of, files=files, collection_id=f"collection-{where}"
            ),
            st.integers(0, 30),
            st.integers(0, 4),
            st.integers(0, 7),
            st.integers(0, 2),
        ),
        max_size=8,
        unique_by=lambda row: row.id,
    ),
)


@given(catalogues)
def test_each_asset_once_and_none_invented(catalogue) -> None:
    collections, items = catalogue
    assets = assets_of(collections, items)
    assert len({asset.id for asset in assets}) == len(assets)
    listed = {row.id for row in collections}
    named = {row.asset_id for row in collections} | {
        item.asset_id for item in items if item.collection_id in listed
    }
    assert {row.asset_id for row in collections} - {None} <= {a.id for a in assets} <= named
    for asset in assets:
        assert asset.created_at <= asset.updated_at
        assert asset.size is None


@given(catalogues, st.randoms())
def test_the_order_of_items_does_not_matter(catalogue, random) -> None:
    collections, items = catalogue
    shuffled = list(items)
    random.shuffle(shuffled)
    assert assets_of(collections, shuffled) == assets_of(collections, items)


# -- the listing


def large(count: int) -> Stac:
    """Collections newest first, an item each."""
    return Stac(
        collections=[make_collection(n, n, order_id=f"order-{n // 50}") for n in range(count)][
            ::-1
        ],
        items=[make_item(n, n, files=n % 3) for n in range(count)],
    )


async def rows_of(listing) -> list:
    return [row async for row in listing.everything()]


async def test_a_full_pass_reads_items_by_the_hundred(autojump_clock: MockClock) -> None:
    source = large(250)
    assets = await rows_of(stac_assets(source))
    assert assets == assets_of(source.collections, source.items)
    assert source.asked["collections"] == 1
    assert source.asked["search"] == 3
    orders = await rows_of(stac_orders(source))
    assert [order.id for order in orders] == [f"order-{n}" for n in (4, 3, 2, 1, 0)]
    assert source.asked["search"] == 3


async def test_the_newest_page_of_a_small_storage_is_all_of_it(autojump_clock: MockClock) -> None:
    source = large(BATCH - 1)
    listing = stac_assets(source)
    page = await listing.newest(0)
    assert (page.total, page.total_pages, len(page.items)) == (99, 1, 99)
    assert list(page.items) == await rows_of(listing)


async def test_the_newest_page_of_a_large_storage_reads_no_further(
    autojump_clock: MockClock,
) -> None:
    source = large(250)
    listing = stac_assets(source)
    await rows_of(listing)
    source.asked.clear()
    page = await listing.newest(0)
    assert (page.total, page.total_pages, len(page.items)) == (None, 2, BATCH)
    assert source.asked == {"collections": 1, "search": 1, "rows": BATCH}
    assert page.items[0].id == asset_id(249)


async def test_an_asset_with_collections_near_and_far_does_not_flicker(
    autojump_clock: MockClock,
) -> None:
    source = large(250)
    far = replace(source.collections[-1], asset_id=asset_id(249), source="USER")
    source.collections[-1] = far
    listing = stac_assets(source)
    whole = {row.id: row for row in await rows_of(listing)}[asset_id(249)]
    assert whole.source == "USER"
    assert (await listing.newest(0)).items[0] == whole


async def test_a_failed_pass_leaves_no_generator_behind(autojump_clock: MockClock) -> None:
    source = large(250)
    listing = stac_assets(source)
    with trio.move_on_after(5):
        source.hang = True
        await rows_of(listing)
    source.hang = False
    source.latency_s = 1
    for after_s in (0.5, 1.5, 2.5):
        with trio.move_on_after(after_s):
            await rows_of(listing)
    await listing.newest(0)
    gc.collect()  # trio warns of half-read generators, and warnings are errors
    await trio.lowlevel.checkpoint()


# -- with Sync


class Listed:
    """`/v2/assets` or `/v2/orders` until it is gone."""

    def __init__(self, *rows, gone: Exception | None = None) -> None:
        self.rows, self.gone, self.asked = rows, gone, 0

    async def everything(self) -> AsyncIterator:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.gone is not None:
            raise self.gone
        for row in self.rows:
            yield row

    async def newest(self, page: int):
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.gone is not None:
            raise self.gone
        return Page(tuple(self.rows), len(self.rows), 1)


class Hiccup(Listed):
    """Gone when it is asked first."""

    async def everything(self) -> AsyncIterator:
        if not self.asked:
            self.asked += 1
            raise gone()
        async for row in super().everything():
            yield row


class Page:
    def __init__(self, items: tuple, total: int, total_pages: int) -> None:
        self.items, self.total, self.total_pages = items, total, total_pages


def gone(status: int = 404) -> NotFound:
    error = NotFound("listing assets failed: UP42 answered that")
    error.__cause__ = Refused(status, None, "")
    return error


class World:
    def __init__(self, source: Stac, assets: Listed, orders: Listed) -> None:
        self.source, self.listed = source, assets
        self.index = Index()
        source.assets, source.orders = assets, orders
        self.assets, self.orders = AssetListing(source), OrderListing(source)
        self.sync = Sync(
            self.index,
            assets=self.assets,
            orders=self.orders,
            on_change=lambda delta: None,
            refresh_s=60,
        )


@pytest.fixture
def world() -> World:
    return World(large(5), Listed(gone=gone()), Listed(make_order(1)))


@pytest.mark.claim("S50")
async def test_the_storage_is_built_from_stac_and_says_so_once(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery, caplog
) -> None:
    world.listed.gone = gone(410)
    nursery.start_soon(world.sync.run)
    with caplog.at_level(logging.INFO):
        await world.sync.ready(ListingKind.ASSETS, ListingKind.ORDERS, timeout_s=5)
        await trio.sleep(60 * (FULL_PASS_EVERY + 2))
    assert set(world.index.assets) == {asset_id(n) for n in range(5)}
    assert set(world.index.orders) == {make_order(1).id}
    assert (world.assets.mode, world.orders.mode) == ("stac", "orders")
    assert [record.getMessage() for record in caplog.records] == [
        "UP42 no longer lists /v2/assets (410): building the storage from its STAC catalogue; "
        "sizes are learned when files are looked at; STAC does not list: deliveries that have no "
        "STAC collection, transformations that run or failed"
    ]
    assert world.listed.asked == 3, "asked again before it was believed, and at the full pass"


async def test_a_listing_that_was_gone_for_a_moment_is_read_anew(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(large(5), Hiccup(make_asset(77)), Listed())
    nursery.start_soon(world.sync.run)
    with pytest.raises(Unavailable, match="for a moment"):
        await world.sync.ready(ListingKind.ASSETS, timeout_s=60)
    await trio.sleep(60)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=60)
    assert world.assets.mode == "assets"
    await trio.sleep(60)
    assert set(world.index.assets) == {make_asset(77).id}
    assert "no longer lists" not in caplog.text


async def test_a_listing_that_comes_back_is_found_by_a_full_pass(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    before = world.assets.mode
    world.listed.gone, world.listed.rows = None, (make_asset(77),)
    await trio.sleep(60 * (FULL_PASS_EVERY + 2))
    assert (before, world.assets.mode) == ("stac", "assets")
    assert set(world.index.assets) == {make_asset(77).id}


async def test_refreshes_find_what_comes_changes_and_goes(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    source = world.source
    await trio.sleep(1)
    source.collections.insert(0, make_collection(9, 9))
    source.collections[3] = replace(source.collections[3], user_title="renamed")
    await trio.sleep(60)
    assert asset_id(9) in world.index.assets
    assert "renamed" in {asset.title for asset in world.index.assets.values()}
    del source.collections[1]
    await trio.sleep(60)
    assert len(world.index.assets) == 5
    source.asked.clear()
    await trio.sleep(60)
    assert (source.asked["collections"], source.asked["search"]) == (1, 1)


async def test_a_large_storage_hears_of_arrivals_at_once_and_of_removals_in_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World(large(250), Listed(gone=gone()), Listed())
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    await trio.sleep(1)
    world.source.asked.clear()
    world.source.collections.insert(0, make_collection(999, 999))
    del world.source.collections[-1]
    await trio.sleep(60)
    assert asset_id(999) in world.index.assets
    assert asset_id(0) in world.index.assets
    assert world.source.asked["rows"] == BATCH
    await trio.sleep(60 * FULL_PASS_EVERY)
    assert asset_id(0) not in world.index.assets


async def test_more_news_than_a_page_is_read_by_a_full_pass(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World(large(250), Listed(gone=gone()), Listed())
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    await trio.sleep(1)
    world.source.collections[:0] = [make_collection(n, n) for n in range(1000, 1150)]
    await trio.sleep(60)
    assert len(world.index.assets) == 400


async def test_a_listing_that_goes_while_mounted_is_replaced(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world.listed.gone = None
    world.listed.rows = (make_asset(1), make_asset(77))
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    assert (world.assets.mode, len(world.index.assets)) == ("assets", 2)
    assert not world.source.asked
    world.listed.gone = gone()
    await trio.sleep(61)
    assert world.assets.mode == "stac"
    assert set(world.index.assets) == {asset_id(n) for n in range(5)}


async def test_a_learned_size_survives_refreshes(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(world.sync.run)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    world.index.learn_size(asset_id(2), 4711)
    await trio.sleep(60 * (FULL_PASS_EVERY + 1))
    assert world.index.assets[asset_id(2)].size == 4711


async def test_where_stac_is_gone_too_the_first_answer_is_told(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world.source.fail = NotFound("listing STAC collections failed")
    nursery.start_soon(world.sync.run)
    with pytest.raises(NotFound, match="listing assets failed"):
        await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    assert world.assets.mode == "assets"


async def test_only_a_listing_that_is_gone_is_given_up(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world.listed.gone = Unavailable("UP42 is down")
    nursery.start_soon(world.sync.run)
    with pytest.raises(Unavailable):
        await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    assert world.assets.mode == "assets"
    assert not world.source.asked


async def test_stac_that_fails_for_now_is_tried_again(
    world: World, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world.source.fail = Unavailable("not now")
    nursery.start_soon(world.sync.run)
    with pytest.raises(Unavailable, match="not now"):
        await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    before = world.assets.mode
    world.source.fail = None
    await trio.sleep(6)
    await world.sync.ready(ListingKind.ASSETS, timeout_s=5)
    assert (before, world.assets.mode) == ("assets", "stac")


async def test_orders_too(world: World, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    world.source.orders = Listed(gone=gone())
    orders = OrderListing(world.source)
    assert [order.id for order in await rows_of(orders)] == ["order-0"]
    assert orders.mode == "stac"
    page = await orders.newest(0)
    assert (len(page.items), page.total) == (1, 1)
