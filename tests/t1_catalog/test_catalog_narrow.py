"""The first pass over a large storage, orders asked for alone, rows in the making."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

import pytest
import trio
from listing_support import Page, Service, sync_of
from strategies import at, make_asset, make_order
from trio.testing import MockClock

from up42fs.catalog.index import Delta, Index, ListingKind
from up42fs.catalog.listings import OrderListing, OwnAssets
from up42fs.catalog.passes import BATCH
from up42fs.errors import NotFound, Unavailable
from up42fs.types import Asset, CnamStatus, Order

ORDER_ID = make_order(1).id
IN_PROGRESS = CnamStatus.IN_PROGRESS


@dataclass
class Newest(Service):
    """A listing that hands out the newest first, and may break off after so many rows."""

    breaks_after: int | None = None

    async def everything(self) -> AsyncIterator:
        self.full_passes += 1
        rows = sorted(self.rows.values(), key=lambda row: (row.created_at, row.id), reverse=True)
        for number, row in enumerate(rows):
            await trio.lowlevel.checkpoint()
            if self.breaks_after is not None and number >= self.breaks_after:
                raise Unavailable("cut off")
            if self.hang:
                await trio.sleep_forever()
            yield row


class Client:
    """What `OwnListing` asks of `api.client.Client`, counted."""

    def __init__(self, assets: Newest, orders: Newest) -> None:
        self.assets, self.orders, self.asked = assets, orders, Counter[str]()
        self.gone = self.finds_nothing = False

    async def assets_page(self, page: int, *, cnam_status: CnamStatus, **_order) -> Page:
        self.asked["unsettled assets"] += 1
        rows = [row for row in self.assets.rows.values() if row.cnam_status is cnam_status]
        return Page(tuple(rows), len(rows), 1)

    async def orders_page(self, page: int, *, status: list[str], **_order) -> Page:
        self.asked["unsettled orders"] += 1
        rows = [row for row in self.orders.rows.values() if row.status in status]
        return Page(tuple(rows), len(rows), 1)

    async def asset(self, asset_id: str) -> Asset:
        self.asked["asset"] += 1
        if asset_id not in self.assets.rows:
            raise NotFound(asset_id)
        return self.assets.rows[asset_id]

    async def order(self, order_id: str) -> Order:
        self.asked["one order"] += 1
        return self.orders.rows[order_id]

    async def all_assets(self, *, search=None, created_before=None) -> AsyncIterator[Asset]:
        self.asked["order" if search else "older"] += 1
        await trio.sleep(0.01)
        if self.gone:
            raise NotFound("no such listing")
        rows = [] if self.finds_nothing else list(self.assets.rows.values())
        if search:
            rows = [row for row in rows if row.order_id == search]
        else:
            # The second that is added for servers that know no fractions is left out.
            moment = created_before - timedelta(seconds=1)
            rows = [row for row in rows if row.created_at <= moment]
            self.asked["older rows"] += len(rows)
        for row in sorted(rows, key=lambda row: row.created_at, reverse=True):
            await trio.lowlevel.checkpoint()
            yield row

    def all_orders(self) -> AsyncIterator[Order]:
        raise NotImplementedError


class Place:
    def __init__(self, count: int, index: Index | None = None, **settings) -> None:
        self.assets, self.orders = Newest(page_size=100), Newest(page_size=1)
        of = dict.fromkeys(range(3), ORDER_ID)
        self.assets.put(*(make_asset(n, order_id=of.get(n)) for n in range(count)))
        self.orders.put(make_order(1), make_order(2, updated_at=at(5000)))
        self.narrow = Client(self.assets, self.orders)
        client = cast("Any", self.narrow)
        self.assets.own, self.orders.own = OwnAssets(client), OrderListing(client).own
        self.index = index or Index()
        self.deltas: list[Delta] = []
        self.sync = sync_of(
            self.index,
            assets=self.assets,
            orders=self.orders,
            on_change=self.deltas.append,
            refresh_s=60,
            **settings,
        )


async def test_an_order_is_asked_for_alone_while_all_are_listed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    place = Place(10)
    place.assets.hang = True
    nursery.start_soon(place.sync.run)
    async with trio.open_nursery() as readers:
        for _ in range(5):
            readers.start_soon(lambda: place.sync.ready_order(ORDER_ID, timeout_s=5))
    assert len(place.index.ids_of_order(ORDER_ID)) == 3
    assert place.narrow.asked == {"order": 1}
    await place.sync.ready(ListingKind.ORDERS, timeout_s=5)
    assert set(place.index.order_ids()) == {make_order(1).id, make_order(2).id}


async def test_orders_without_assets_go_when_all_assets_are_known(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    place = Place(10)
    nursery.start_soon(place.sync.run)
    await place.sync.ready(ListingKind.ASSETS, ListingKind.ORDERS, timeout_s=5)
    assert set(place.index.order_ids()) == {ORDER_ID}
    await place.sync.ready_order(ORDER_ID, timeout_s=5)
    assert place.narrow.asked == {}


async def test_where_orders_cannot_be_asked_for_the_whole_is_waited_for(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    place = Place(10)
    place.narrow.gone = True
    nursery.start_soon(place.sync.run)
    await place.sync.ready_order(ORDER_ID, timeout_s=5)
    assert len(place.index.assets) == 10


@pytest.mark.claim("S160")
async def test_an_order_of_which_a_search_finds_nothing_waits_for_the_whole(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    place = Place(10)
    place.narrow.finds_nothing = True  # a server that looks at names and titles only
    nursery.start_soon(place.sync.run)
    await place.sync.ready_order(ORDER_ID, timeout_s=5)
    assert len(place.index.ids_of_order(ORDER_ID)) == 3


async def test_a_pass_that_was_cut_off_goes_on_from_there(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    count = 3 * BATCH
    first = Place(count)
    first.assets.breaks_after = 2 * BATCH + 7
    with trio.move_on_after(1):
        await first.sync.run()
    assert len(first.index.assets) == 2 * BATCH
    assert not first.index.is_complete
    later = Place(count, first.index, reached=first.sync.reached)
    new = make_asset(count + 1, updated_at=at(count + 1))
    later.assets.put(new)
    nursery.start_soon(later.sync.run)
    await later.sync.ready(ListingKind.ASSETS, timeout_s=5)
    assert dict(later.index.assets) == later.assets.rows
    assert later.assets.full_passes == 0
    assert later.narrow.asked["older rows"] <= BATCH + 1


async def test_what_left_meanwhile_is_found_by_a_full_pass(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    first = Place(3 * BATCH)
    first.assets.breaks_after = 2 * BATCH + 7
    with trio.move_on_after(1):
        await first.sync.run()
    later = Place(3 * BATCH, first.index, reached=first.sync.reached)
    del later.assets.rows[make_asset(3 * BATCH - 1).id]
    nursery.start_soon(later.sync.run)
    await later.sync.ready(ListingKind.ASSETS, timeout_s=5)
    assert dict(later.index.assets) == later.assets.rows
    assert later.assets.full_passes == 1


async def test_rows_in_the_making_are_looked_at_although_no_date_moves(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    place = Place(10)
    place.assets.page_size = 2
    making = [replace(make_asset(n), cnam_status=IN_PROGRESS) for n in (20, 21, 22)]
    place.assets.put(*making)
    place.orders.put(make_order(3, status="BEING_FULFILLED"))
    nursery.start_soon(place.sync.run)
    await place.sync.ready(ListingKind.ASSETS, ListingKind.ORDERS, timeout_s=5)
    place.assets.put(replace(making[0], cnam_status=CnamStatus.SUCCESSFUL))
    place.orders.put(make_order(3, status="FULFILLED"))
    await trio.sleep(130)
    assert place.index.assets[making[0].id].cnam_status is CnamStatus.SUCCESSFUL
    assert place.index.orders[make_order(3).id].status == "FULFILLED"
    asked = place.narrow.asked
    assert (asked["unsettled assets"], asked["unsettled orders"]) == (1, 1)
    assert (asked["asset"], asked["one order"]) == (1, 1)


@pytest.mark.parametrize("making", [0, 3])
async def test_a_refresh_with_nothing_new_is_three_requests_at_most(
    autojump_clock: MockClock, nursery: trio.Nursery, making: int
) -> None:
    place = Place(50)
    place.assets.put(*(replace(make_asset(n), cnam_status=IN_PROGRESS) for n in range(making)))
    if making:
        place.orders.put(make_order(3, status="BEING_FULFILLED"))
    nursery.start_soon(place.sync.run)
    await place.sync.ready(ListingKind.ASSETS, ListingKind.ORDERS, timeout_s=5)
    await trio.sleep(1)
    for _ in range(5):
        before = place.assets.newest_pages + place.orders.newest_pages + place.narrow.asked.total()
        await trio.sleep(60)
        after = place.assets.newest_pages + place.orders.newest_pages + place.narrow.asked.total()
        assert after - before == (3 if making else 2)
