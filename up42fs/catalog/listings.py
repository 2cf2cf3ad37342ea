"""The two listings of the storage: UP42's own, or made from STAC once UP42 lists no more.

Knows when to send which request; `stac_only` interprets STAC's answers, and `sync` decides when a
listing is read.

Theory. From STAC, a full pass reads all collections and, in batches, their items: two requests per
hundred. STAC sorts by arrival only (contract §5.2), so the newest page is the newest hundred
collections: new arrivals, and changes to recent deliveries. A total is reported only if these are
all collections, so that removals show; in larger storages removals and late edits wait for the next
full pass. Newest pages beyond the first are not offered: a full pass reads so many changes.

A listing counts as gone if it answers 404 or 410 *and* STAC can be read instead. If both are gone,
the address is wrong, and the first error is raised. The listing is requested again before the error
is believed, and at every full pass after that: one 404 of a gateway must not make a mount show less
for good.

`updatedAt` is only inferred to move when a transformation ends or an order is fulfilled (contract
§2.2), so *unsettled* rows, which are in those states, are requested again (`looks`). Only UP42's
own listings support this; a storage that STAC alone lists is read whole.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from up42fs.api.client import Client
from up42fs.api.pages import Memo, Page, in_batches
from up42fs.api.transport import Refused
from up42fs.catalog.index import ListingKind
from up42fs.catalog.looks import MOST_ONE_BY_ONE, left, page_of, page_with, size_of
from up42fs.catalog.stac_only import Scenes, asset_part, merged, order_part, scenes_of
from up42fs.errors import NotFound, Unavailable
from up42fs.model.stac import StacCollection
from up42fs.types import Asset, CnamStatus, Order

log = logging.getLogger(__name__)

Row = TypeVar("Row", bound=Asset | Order)

#: Collections read together: a page, and the items of all of them by one search.
BATCH = 100
#: Rows per page of a refresh: enough to meet known rows in one page, and quick to send.
_NEWEST_ROWS = 100
BEING_FULFILLED = "BEING_FULFILLED"
#: States in which UP42 works on an order. Those without assets matter only where they are shown.
#: Others are not requested by: a server may refuse names that it does not know.
UNFINISHED = ("CREATED", "BEING_PLACED", "PLACED", "PLACEMENT_FAILED", BEING_FULFILLED)


class OwnListing(Generic[Row]):
    """`/v2/assets` or `/v2/orders`; every method raises an `Up42fsError`."""

    def __init__(
        self,
        rows: Callable[..., AsyncGenerator[Row, None]],
        page: Callable[..., Awaitable[Page[Row]]],
        one: Callable[[str], Awaitable[Row]],
        *,
        by_name: str,
        **unsettled: object,
    ) -> None:
        """The methods of a `Client`; `unsettled` is the filter for rows that UP42 works on.

        `by_name` is the filter for a part of a name.
        """
        self._rows, self._page, self._one = rows, page, one
        self._by_name = by_name
        self._unsettled = unsettled
        self._memo = Memo()
        self._looks, self._pages = 0, 1

    def everything(self) -> AsyncGenerator[Row, None]:
        """Every row once, in any order."""
        return self._rows(memo=self._memo)

    def told(self) -> int | None:
        """The total that came with the last `everything`; None if UP42 sent none, or two."""
        return self._memo.total

    async def newest(self, page: int) -> Page[Row]:
        """Page `page` (from 0) of the rows that changed last."""
        return await self._page(page, size=_NEWEST_ROWS, sort="updatedAt,desc")

    async def one(self, row_id: str) -> Row:
        """The row with this ID; raises NotFound if there is none."""
        return await self._one(row_id)

    async def called(self, part: str) -> Sequence[Row] | None:
        """The rows with `part` in their names, by one request; None if there are too many."""
        narrow = {self._by_name: part}
        page = await self._page(0, size=_NEWEST_ROWS, sort="createdAt,desc", **narrow)
        return page.items if page.total_pages <= 1 else None

    async def look_again(
        self, unsettled: Collection[Row], known: Collection[Row]
    ) -> tuple[list[Row], frozenset[str]]:
        """Unsettled rows as they are now, and the IDs of those that are gone.

        `known` are all rows that the caller knows; `looks` tells which requests this takes.
        """
        number = page_of(self._looks, self._pages)
        size = size_of(self._looks, self._pages, _NEWEST_ROWS)
        self._looks += 1
        page = await self._page(number, size=size, sort="createdAt,desc", **self._unsettled)
        self._pages = page.total_pages
        rows = list(page.items)
        settled = left(unsettled, rows, number, page.total_pages)
        most = MOST_ONE_BY_ONE
        if len(settled) > most:
            near = page_with(settled[0], known, _NEWEST_ROWS)
            found = (await self._page(near, size=_NEWEST_ROWS, sort="createdAt,desc")).items
            rows += found
            here = {row.id for row in found}
            settled = [row for row in settled if row.id not in here]
            most -= 1
        gone: set[str] = set()
        for row in settled[:most]:
            try:
                rows.append(await self._one(row.id))
            except NotFound:
                gone.add(row.id)
        return rows, frozenset(gone)


class OwnAssets(OwnListing[Asset]):
    """`/v2/assets`."""

    def __init__(self, client: Client) -> None:
        super().__init__(
            client.all_assets,
            client.assets_page,
            client.asset,
            by_name="search",
            cnam_status=CnamStatus.IN_PROGRESS,
        )

    def older_than(self, moment: datetime) -> AsyncGenerator[Asset, None]:
        """Assets created before `moment`, newest first; a few of its second may follow."""
        return self._rows(created_before=moment + timedelta(seconds=1))

    async def first(self, **narrow: str) -> Page[Asset]:
        """The newest asset with `source` or in `workspace`; the page says how many there are."""
        return await self._page(0, size=1, sort="createdAt,desc", **narrow)

    async def of_order(self, order_id: str) -> list[Asset]:
        # `search` matches names and titles, too (contract §2).
        return [row async for row in self._rows(search=order_id) if row.order_id == order_id]


def _only_a_full_pass_can_tell() -> Page[Any]:
    """A page with an impossible total, which makes `Sync` run a full pass."""
    return Page((), 0, total_pages=0, total=-1, size=None)


class StacListing(Generic[Row]):
    """Assets or orders made from STAC by `part_of`; `reads_items` costs a request per hundred."""

    def __init__(
        self, client: Client, part_of: Callable[[Scenes], Row | None], *, reads_items: bool
    ) -> None:
        self._client = client
        self._part_of = part_of
        self._reads_items = reads_items
        #: By collection ID, as last read.
        self._parts: dict[str, Row | None] = {}

    async def everything(self) -> AsyncGenerator[Row, None]:
        parts: dict[str, Row | None] = {}
        async with aclosing(in_batches(self._client.all_collections(), BATCH)) as batches:
            async for batch in batches:
                parts |= await self._parts_of(batch)
        self._parts = parts
        for row in merged(parts.values()).values():
            yield row

    async def newest(self, page: int) -> Page[Row]:
        """The rows of the collections that arrived last."""
        if page > 0:
            return _only_a_full_pass_can_tell()
        async with aclosing(in_batches(self._client.all_collections(), BATCH)) as batches:
            batch: list[StacCollection] = await anext(batches, [])
        parts = await self._parts_of(batch)
        is_all = len(batch) < BATCH
        # All known parts are merged, not only those of the page: an asset may have collections on
        # both sides of the hundredth, and would flicker between two states.
        self._parts = parts if is_all else self._parts | parts
        rows = merged(self._parts.values())
        if is_all:
            return Page(tuple(rows.values()), 0, total_pages=1, total=len(rows), size=None)
        recent = dict.fromkeys(part.id for part in parts.values() if part is not None)
        found = tuple(rows[row_id] for row_id in recent)
        return Page(found, 0, total_pages=2, total=None, size=None)

    @property
    def unplaced(self) -> int:
        """How many collections name no row and so cannot be shown."""
        return sum(part is None for part in self._parts.values())

    def told(self) -> int | None:
        """The number of rows: STAC reports no total."""
        return len(merged(self._parts.values()))

    async def _parts_of(self, batch: Sequence[StacCollection]) -> dict[str, Row | None]:
        # Keeps parts and not scenes: a scene is tens of kB with its documents.
        items = []
        if self._reads_items and batch:
            question = {"collections": [collection.id for collection in batch]}
            items = [item async for item in self._client.search(question)]
        found = scenes_of(batch, items)
        return {scenes.collection.id: self._part_of(scenes) for scenes in found}


class StorageListing(Generic[Row]):
    """UP42's own listing, or STAC once that is gone, until a full pass finds it again."""

    def __init__(
        self,
        kind: ListingKind,
        listed: OwnListing[Row],
        stac: StacListing[Row],
        *,
        told: str,
        lacking: str,
    ) -> None:
        self._kind = kind
        self._listed = listed
        self._stac = stac
        self._told = told
        self._lacking = lacking
        self._is_stac = False

    @property
    def mode(self) -> str:
        """The source of the rows, for `status.json`: "assets", "orders" or "stac"."""
        return "stac" if self._is_stac else self._kind.value

    @property
    def own(self) -> OwnListing[Row] | None:
        """UP42's own listing, which answers narrower requests; None while STAC is read."""
        return None if self._is_stac else self._listed

    async def everything(self) -> AsyncGenerator[Row, None]:
        """Every row once; raises an `Up42fsError`."""
        try:
            async with aclosing(self._listed.everything()) as rows:
                async for row in rows:
                    yield row
        except NotFound as error:
            gone = error
        else:
            if self._is_stac:
                self._is_stac = False
                log.info("UP42 lists its storage again")
            return
        try:
            async with aclosing(self._stac.everything()) as rows:
                async for row in rows:
                    yield row
        except NotFound:
            raise gone from None
        if not self._is_stac:
            await self._ask_again()
            self._is_stac = True
            status = gone.__cause__.status if isinstance(gone.__cause__, Refused) else 404
            log.warning(self._told, status, self.missing)

    async def newest(self, page: int) -> Page[Row]:
        """Page `page` by time of change, newest first; raises an `Up42fsError`."""
        if self._is_stac:
            return await self._stac.newest(page)
        try:
            return await self._listed.newest(page)
        except NotFound:
            return _only_a_full_pass_can_tell()

    def told(self) -> int | None:
        """The total of the last `everything`; None if it is unknown."""
        return (self._stac if self._is_stac else self._listed).told()

    async def _ask_again(self) -> None:
        """Raise Unavailable if the listing answers after all: one 404 may be a gateway's error."""
        with suppress(NotFound):
            await self._listed.newest(0)
            raise Unavailable("UP42's listing was gone for a moment, and is read anew")

    @property
    def missing(self) -> str:
        """The rows that STAC cannot list, in words; empty while UP42's own listing is read."""
        if not self._is_stac:
            return ""
        unplaced = self._stac.unplaced
        return self._lacking + (f"; {unplaced} collections that name none" if unplaced else "")


class AssetListing(StorageListing[Asset]):
    """`/v2/assets`, or the assets that STAC lists, without sizes."""

    def __init__(self, client: Client) -> None:
        self._assets = OwnAssets(client)
        super().__init__(
            ListingKind.ASSETS,
            self._assets,
            StacListing(client, asset_part, reads_items=True),
            told="UP42 no longer lists /v2/assets (%s): building the storage from its STAC "
            "catalogue; sizes are learned when files are looked at; STAC does not list: %s",
            lacking="deliveries that have no STAC collection, transformations that run or failed",
        )

    @property
    def own(self) -> OwnAssets | None:
        """UP42's own listing; None while STAC is read."""
        return None if self._is_stac else self._assets


class OrderListing(StorageListing[Order]):
    """`/v2/orders`, or the orders that STAC collections name; one request per hundred.

    Orders in the states `watched` are requested again.
    """

    def __init__(self, client: Client, watched: Sequence[str] = (BEING_FULFILLED,)) -> None:
        super().__init__(
            ListingKind.ORDERS,
            OwnListing(
                client.all_orders,
                client.orders_page,
                client.order,
                by_name="display_name",
                status=list(watched),
            ),
            StacListing(client, order_part, reads_items=False),
            told="UP42 no longer lists /v2/orders (%s): showing the orders of its STAC "
            "catalogue, under their IDs; STAC does not list: %s",
            lacking="orders that have no delivery, names and tags of orders",
        )
