"""Listings for `Sync` made from STAC, used when UP42 no longer lists assets (or orders).

Knows when to send which request; `stac_only` interprets the answers. The chooser uses UP42's own
listing until that is gone.

Theory. A full pass reads all collections and, in batches, their items: two requests per hundred.
STAC sorts by arrival only (contract §5.2), so the newest page is the newest hundred collections:
new arrivals, and changes to recent deliveries. A total is reported only if these are all
collections, so that removals show; in larger storages removals and late edits wait for the next
full pass. Newest pages beyond the first are not offered: a full pass reads so many changes.

A listing counts as gone if it answers 404 or 410 *and* STAC can be read instead. If both are gone,
the address is wrong, and the first error is raised. The listing is requested again before the error
is believed, and at every full pass after that: one 404 of a gateway must not make a mount show less
for good.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, Protocol, TypeVar

from up42fs.catalog.rows import closing, take
from up42fs.catalog.stac_only import (
    Scenes,
    asset_part,
    merge_assets,
    merge_orders,
    merged,
    order_part,
    scenes_of,
)
from up42fs.catalog.sync import Listing, Rows
from up42fs.errors import NotFound, Unavailable
from up42fs.model.stac import StacCollection, StacItem
from up42fs.types import Asset, Order

log = logging.getLogger(__name__)

Row = TypeVar("Row", Asset, Order)

#: Collections read together: a page, and the items of all of them by one search.
BATCH = 100

Mode = Literal["listed", "stac"]


class StacSource(Protocol):
    """The STAC side of the service, as `api.client.Client` provides it."""

    def all_collections(self) -> AsyncIterator[StacCollection]:
        """Every collection once, newest first; raises an `Up42fsError`."""
        ...

    def search(self, body: Mapping[str, Any]) -> AsyncIterator[StacItem]:
        """Every item that `body` (without `limit`) finds, once; raises an `Up42fsError`."""
        ...


@dataclass(frozen=True, slots=True)
class _Page(Generic[Row]):
    items: tuple[Row, ...]
    total: int | None
    total_pages: int


def _only_a_full_pass_can_tell() -> _Page[Any]:
    """A page with an impossible total, which makes `Sync` run a full pass."""
    return _Page((), total=-1, total_pages=0)


class StacListing(Generic[Row]):
    """Assets or orders made from STAC; use `stac_assets` or `stac_orders`."""

    def __init__(
        self,
        source: StacSource,
        read: Callable[[Sequence[StacCollection]], Awaitable[Sequence[Scenes]]],
        part_of: Callable[[Scenes], Row | None],
        merge: Callable[[Row, Row], Row],
    ) -> None:
        self._source = source
        self._read = read
        self._part_of: Callable[[Scenes], Row | None] = part_of
        self._merge: Callable[[Row, Row], Row] = merge
        #: By collection ID, as last read.
        self._parts: dict[str, Row | None] = {}

    async def everything(self) -> AsyncIterator[Row]:
        """Every row once; raises an `Up42fsError`."""
        parts: dict[str, Row | None] = {}
        async with closing(self._source.all_collections()) as collections:
            while batch := await take(collections, BATCH):
                parts |= await self._parts_of(batch)
        self._parts = parts
        for row in self._rows().values():
            yield row

    async def newest(self, page: int) -> Rows[Row]:
        """The rows of the collections that arrived last; raises an `Up42fsError`."""
        if page > 0:
            return _only_a_full_pass_can_tell()
        async with closing(self._source.all_collections()) as collections:
            batch = await take(collections, BATCH)
        parts = await self._parts_of(batch)
        is_all = len(batch) < BATCH
        # All known parts are merged, not only those of the page: an asset may have collections on
        # both sides of the hundredth, and would flicker between two states.
        self._parts = parts if is_all else self._parts | parts
        rows = self._rows()
        if is_all:
            return _Page(tuple(rows.values()), total=len(rows), total_pages=1)
        recent = dict.fromkeys(part.id for part in parts.values() if part is not None)
        return _Page(tuple(rows[row_id] for row_id in recent), total=None, total_pages=2)

    @property
    def unplaced(self) -> int:
        """How many collections name no row and so cannot be shown."""
        return sum(part is None for part in self._parts.values())

    def told(self) -> int | None:
        """The number of rows: STAC reports no total."""
        return len(self._rows())

    async def _parts_of(self, batch: Sequence[StacCollection]) -> dict[str, Row | None]:
        # Keeps parts and not scenes: a scene is tens of kB with its documents.
        scenes = await self._read(batch)
        return {scene.collection.id: self._part_of(scene) for scene in scenes}

    def _rows(self) -> dict[str, Row]:
        return merged((part for part in self._parts.values() if part is not None), self._merge)


def stac_assets(source: StacSource) -> StacListing[Asset]:
    """The assets as STAC knows them, without sizes."""
    return StacListing(source, partial(_with_items, source), asset_part, merge_assets)


def stac_orders(source: StacSource) -> StacListing[Order]:
    """The orders that STAC collections name; one request per hundred."""
    return StacListing(source, _without_items, order_part, merge_orders)


class _Chooser(Generic[Row]):
    """UP42's own listing, or STAC once that is gone, until a full pass finds it again."""

    def __init__(
        self, listed: Listing[Row], stac: StacListing[Row], told: str, lacking: str
    ) -> None:
        self._lacking = lacking
        self._listed: Listing[Row] = listed
        self._stac: StacListing[Row] = stac
        self._told = told
        self._mode: Mode = "listed"

    async def everything(self) -> AsyncIterator[Row]:
        """Every row once; raises an `Up42fsError`."""
        try:
            async with closing(self._listed.everything()) as rows:
                async for row in rows:
                    yield row
        except NotFound as error:
            gone = error
        else:
            self._switch_back()
            return
        try:
            async with closing(self._stac.everything()) as rows:
                async for row in rows:
                    yield row
        except NotFound:
            raise gone from None
        if self._mode == "listed":
            await self._ask_again()
            self._switch(gone)

    async def newest(self, page: int) -> Rows[Row]:
        """Page `page` by time of change, newest first; raises an `Up42fsError`."""
        if self._mode == "stac":
            return await self._stac.newest(page)
        try:
            return await self._listed.newest(page)
        except NotFound:
            return _only_a_full_pass_can_tell()

    def told(self) -> int | None:
        """The total of the last `everything`."""
        return (self._listed if self._mode == "listed" else self._stac).told()

    async def _ask_again(self) -> None:
        """Raise Unavailable if the listing answers after all: one 404 may be a gateway's error."""
        with suppress(NotFound):
            await self._listed.newest(0)
            raise Unavailable("UP42's listing was gone for a moment, and is read anew")

    def _switch_back(self) -> None:
        if self._mode == "stac":
            self._mode = "listed"
            log.info("UP42 lists its storage again")

    def _switch(self, gone: NotFound) -> None:
        self._mode = "stac"
        # The response behind the error, if the API layer left it; importing its type is not allowed
        # here.
        status = getattr(gone.__cause__, "status", 404)
        log.warning(self._told, status, self.missing)

    @property
    def missing(self) -> str:
        """The rows that STAC cannot list, in words; empty while UP42's own listing is read."""
        if self._mode == "listed":
            return ""
        unplaced = (
            f"; {self._stac.unplaced} collections that name none" if self._stac.unplaced else ""
        )
        return self._lacking + unplaced


class AssetListing(_Chooser[Asset]):
    """`/v2/assets`, or the assets that STAC lists once UP42 answers 404 or 410 there."""

    def __init__(self, listed: Listing[Asset], source: StacSource) -> None:
        super().__init__(
            listed,
            stac_assets(source),
            "UP42 no longer lists /v2/assets (%s): building the storage from its STAC catalogue; "
            "sizes are learned when files are looked at; STAC does not list: %s",
            "deliveries that have no STAC collection, transformations that run or failed",
        )

    @property
    def mode(self) -> Literal["assets", "stac"]:
        """The source of the assets, for `status.json`."""
        return "assets" if self._mode == "listed" else "stac"


class OrderListing(_Chooser[Order]):
    """`/v2/orders`, or the orders that STAC names once UP42 answers 404 or 410 there."""

    def __init__(self, listed: Listing[Order], source: StacSource) -> None:
        super().__init__(
            listed,
            stac_orders(source),
            "UP42 no longer lists /v2/orders (%s): showing the orders of its STAC catalogue, "
            "under their IDs; STAC does not list: %s",
            "orders that have no delivery, names and tags of orders",
        )

    @property
    def mode(self) -> Literal["orders", "stac"]:
        """The source of the orders, for `status.json`."""
        return "orders" if self._mode == "listed" else "stac"


async def _with_items(
    source: StacSource, collections: Sequence[StacCollection]
) -> tuple[Scenes, ...]:
    question = {"collections": [collection.id for collection in collections]}
    async with closing(source.search(question)) as items:
        return scenes_of(collections, [item async for item in items])


async def _without_items(collections: Sequence[StacCollection]) -> tuple[Scenes, ...]:
    return scenes_of(collections, ())
