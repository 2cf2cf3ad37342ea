"""The storage's STAC collections and the items of each, as the directory `stac/` shows them.

Sends no request before a listing is opened; a known answer, also of an earlier mount, is returned
at once and refreshed behind (see `cached_answers`). Items that a crawl returns are also passed to
`Items`.
"""

from __future__ import annotations

import trio

from up42fs.api.client import Client
from up42fs.catalog.cached_answers import Answers
from up42fs.catalog.items import MOST_KEPT, Items, weight
from up42fs.catalog.stored_items import Shelf
from up42fs.errors import DeadlineExceeded, Offline, Unavailable
from up42fs.flights import Flights
from up42fs.metrics import Metrics
from up42fs.model.stac import StacCollection, StacItem, in_order

#: Age of an answer that makes the next use start a refresh, seconds.
REFRESH_S = 60.0
#: Timeout of a whole crawl, seconds: it sends a request per hundred rows, one after another.
CRAWL_TIMEOUT_S = 600.0


class Collections:
    """The collections; each answer is crawled once and then refreshed by age.

    Flights run in `nursery`. `items` receives the items that a crawl returns. Answers on the
    `shelf` are returned before the first request.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        client: Client,
        *,
        metrics: Metrics,
        items: Items | None = None,
        shelf: Shelf | None = None,
        most_kept: int = MOST_KEPT,
        shows_stale: bool = True,
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._told = items
        self._all: Answers[None, tuple[StacCollection, ...]] = Answers(
            Flights(nursery, "listing the STAC collections", timeout_s=CRAWL_TIMEOUT_S),
            self._crawl,
            fresh_s=REFRESH_S,
            most=1,
            weigh=lambda _: 1,
            keeper=shelf.collections if shelf else None,
            shows_stale=shows_stale,
        )
        self._items: Answers[str, tuple[StacItem, ...]] = Answers(
            Flights(nursery, "listing the items of a STAC collection", timeout_s=CRAWL_TIMEOUT_S),
            self._crawl_items,
            fresh_s=REFRESH_S,
            most=most_kept,
            weigh=weight,
            keeper=shelf.items_of_collections if shelf else None,
            shows_stale=shows_stale,
        )

    async def all(self) -> tuple[StacCollection, ...]:
        """Every collection, newest first; raises an `Up42fsError`."""
        return await self._all.get(None)

    async def recall_all(self) -> tuple[StacCollection, ...] | None:
        """Every collection as last known, also by an earlier mount; sends no request."""
        return await self._all.recall(None)

    def all_known(self) -> tuple[StacCollection, ...] | None:
        """Every collection as far as in memory; sends no request."""
        return self._all.known(None)

    async def items(self, collection_id: str) -> tuple[StacItem, ...]:
        """Every item of a collection, oldest first; raises an `Up42fsError`."""
        try:
            return await self._items.get(collection_id)
        except (Offline, Unavailable, DeadlineExceeded):
            shelved = await self._shelved(collection_id)
            if not shelved:
                raise
            return shelved

    async def _shelved(self, collection_id: str) -> tuple[StacItem, ...]:
        """The shelved items of a collection's delivery, for use while UP42 is unreachable."""
        found = (c.asset_id for c in self._all.known(None) or () if c.id == collection_id)
        asset_id = next(found, None)
        if asset_id is None or self._told is None:
            return ()
        items = await self._told.shelved(asset_id)
        return tuple(item for item in items if item.collection_id == collection_id)

    async def items_of_asset(self, asset_id: str) -> tuple[StacItem, ...]:
        """The items of collections that came from an asset; as current as `all` and `items`."""
        found: list[StacItem] = []
        for collection in await self.all():
            if collection.asset_id == asset_id:
                found += await self.items(collection.id)
        return tuple(found)

    async def _crawl(self, _: None) -> tuple[StacCollection, ...]:
        self._metrics.count("catalog.collection_crawls")
        before = self._all.known(None)
        found = tuple([collection async for collection in self._client.all_collections()])
        if before is not None and self._told is not None:
            known = {collection.id for collection in before}
            arrived = {c.asset_id for c in found if c.id not in known and c.asset_id is not None}
            self._told.forget_lent(arrived)
        return found

    async def _crawl_items(self, collection_id: str) -> tuple[StacItem, ...]:
        self._metrics.count("catalog.item_crawls")
        found = in_order([item async for item in self._client.all_items(collection_id)])
        self._tell(collection_id, found)
        return found

    def _tell(self, collection_id: str, found: tuple[StacItem, ...]) -> None:
        """Pass on the items of an asset, unless another collection may have more of them."""
        collections = self._all.known(None)
        if self._told is None or collections is None:
            return
        sources = {c.asset_id for c in collections if c.id == collection_id}
        others = {c.asset_id for c in collections if c.id != collection_id}
        self._told.remember(item for item in found if item.asset_id in sources - others)
