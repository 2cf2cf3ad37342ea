"""The STAC items of assets, and so their transformed files; searched when first used.

Theory. One search on `asset_id` returns the items of one asset (contract §5.6), however many tasks
wait for it. The answer holds until the asset's `updated_at` moves. Two states are *unsettled*:
IN_PROGRESS, and SUCCESSFUL without a single transformed file, because the status and the items do
not change in one moment (contract §8). Unsettled assets are searched again after a while.

Settled answers are *shelved* in the snapshot, if there is one: also those about assets that UP42
did not transform, whose items describe the delivery. A later lookup, in this mount or another one,
uses the shelved items if the asset has not changed. They are held in memory without their
documents; `whole` loads those.

Several assets are requested together (`together`); there an asset without files counts as unknown,
since only its own search may say that it has none. Searches use no other property: of the items
with an `order_id`, say, some of an asset's may be missing (contract §5.4). A failed search raises
for all waiting tasks and is not cached; but if a *repeated* search fails, the earlier items stay,
as after a failed refresh of the catalogue.

Rejected: looking through the collections for an asset that the search does not find. That costs one
request per hundred collections to learn what the next search returns anyway. Only if UP42 refuses
searches by asset altogether (400) are the collections used, if a `fallback` is given.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import trio
from cachetools import LRUCache

from up42fs.api.client import Client
from up42fs.catalog.snapshot.item_rows import version
from up42fs.catalog.stored_items import Shelf
from up42fs.catalog.together import Together, equal
from up42fs.errors import InvalidArgument, Up42fsError
from up42fs.flights import Flights
from up42fs.metrics import Metrics
from up42fs.model.outlines import Drawn, draw
from up42fs.model.stac import StacItem, in_order, transformed_files
from up42fs.types import Asset, CnamStatus

log = logging.getLogger(__name__)

#: Unsettled assets are searched again after this many seconds.
ASK_AGAIN_S = 30.0
#: Timeout of one search, all its pages together, seconds.
SEARCH_TIMEOUT_S = 60.0
#: Limit of cached items and files, about 2 kB each (`weight`).
MOST_KEPT = 4_000
#: An asset of this age that has no items will not get any, as long as it does not change.
SETTLES_AFTER = timedelta(days=1)
#: Assets in these states have no directory beside them, so an empty answer empties none.
_WITHOUT_DIRECTORY = (CnamStatus.NOT_PROCESSED, CnamStatus.FAILED, CnamStatus.UNTOLD)


#: The items of an asset ID, found without a search by asset.
Fallback = Callable[[str], Awaitable[Iterable[StacItem]]]


@dataclass(frozen=True, slots=True)
class _Known:
    items: tuple[StacItem, ...]
    updated_at: datetime | None
    asked_at_s: float
    #: From `remember`: the contents of one listing, not of a search.
    is_lent: bool = False
    #: By file ID, as far as they were shelved; in bytes.
    sizes: Mapping[str, int] = field(default_factory=dict)


class Items:
    """The items of assets. Flights run in `nursery`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        client: Client,
        *,
        metrics: Metrics,
        fallback: Fallback | None = None,
        shelf: Shelf | None = None,
        ask_again_s: float = ASK_AGAIN_S,
        most_kept: int = MOST_KEPT,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._fallback = fallback
        #: The searches for several assets.
        self.together = Together(client, metrics)
        self._shelf = shelf
        self._ask_again_s = ask_again_s
        self._now = now
        #: Assets that were looked up on the shelf in vain, with their versions.
        self._unshelved: LRUCache[tuple[str, datetime], None] = LRUCache(most_kept)
        #: How often items were shelved.
        self._shelvings = 0
        self._kept: LRUCache[str, _Known] = LRUCache(most_kept, lambda a: weight(a.items))
        self._flights: Flights[tuple[str, datetime], tuple[StacItem, ...]] = Flights(
            nursery, "searching the STAC items of an asset", timeout_s=SEARCH_TIMEOUT_S
        )

    async def of_asset(self, asset: Asset) -> tuple[StacItem, ...]:
        """All items of `asset`, oldest first, from memory if valid; raises an `Up42fsError`."""
        await self.recall([asset])
        answer = self._valid(asset)
        if answer is not None and not self._is_due(asset, answer):
            return answer.items
        try:
            # The key has the version: a search for an older version must not answer for this one.
            key = (asset.id, asset.updated_at)
            return await self._flights.join(key, partial(self._search, asset))
        except Up42fsError as error:
            if answer is None or not answer.items:
                raise
            log.debug("asset %s: the items known before stay: %s", asset.id, error)
            self._keep(asset.id, replace(answer, asked_at_s=trio.current_time()))
            return answer.items

    async def whole(self, asset: Asset) -> tuple[StacItem, ...]:
        """Like `of_asset`, but each item has its document."""
        items = await self.of_asset(asset)
        if self._shelf is None or all(item.document for item in items):
            return items
        documents = await self._shelf.documents(asset.id)
        if documents.keys() >= {item.id for item in items}:
            return tuple(replace(item, document=documents[item.id]) for item in items)
        key = (asset.id, asset.updated_at)
        return await self._flights.join(key, partial(self._search, asset))

    async def drawn(self, assets: Iterable[Asset]) -> dict[str, tuple[Drawn, ...]]:
        """The outlines of those assets whose items are known; by asset ID.

        Looks in memory and on the shelf; sends no request.
        """
        found: dict[str, tuple[Drawn, ...]] = {}
        wanted: dict[str, Asset] = {}
        for asset in assets:
            answer = self._valid(asset)
            if answer is None or not all(item.document for item in answer.items):
                wanted[asset.id] = asset
            elif answer.items or asset.cnam_status in _WITHOUT_DIRECTORY:
                found[asset.id] = tuple(map(draw, answer.items))
        if self._shelf is None or not wanted:
            return found
        versions = {asset.id: version(asset) for asset in wanted.values()}
        found |= await self._shelf.outlines(versions)
        undrawn = {id_: kept for id_, kept in versions.items() if id_ not in found}
        for asset_id, items in (await self._shelf.whole(undrawn) if undrawn else {}).items():
            found[asset_id] = tuple(map(draw, items))
            self._shelf.put_outlines(wanted[asset_id], items)
        return found

    async def shelved(self, asset_id: str) -> tuple[StacItem, ...]:
        """The last shelved items of an asset, with their documents; sends no request."""
        held = (await self._shelf.load([asset_id])).get(asset_id) if self._shelf else None
        if self._shelf is None or held is None:
            return ()
        documents = await self._shelf.documents(asset_id)
        return tuple(
            replace(item, document=documents[item.id])
            for item in held.items
            if item.id in documents
        )

    def sizes(self, asset_id: str) -> Mapping[str, int]:
        """The known sizes of an asset's files in bytes, by file ID; sends no request."""
        answer = self._kept.get(asset_id)
        return {} if answer is None else answer.sizes

    def learn_size(self, object_id: str, asset_id: str, stamp: str | None, size: int) -> None:
        """Keep a file's size in bytes, also for later mounts; `stamp` is its item's version."""
        if self._shelf is not None:
            self._shelf.put_size(object_id, asset_id, stamp, size)
        answer = self._kept.get(asset_id)
        if answer is not None:
            self._keep(asset_id, replace(answer, sizes={**answer.sizes, object_id: size}))

    async def learn_many(self, assets: Iterable[Asset]) -> None:
        """Put the items of all `assets` (a page of them) on the shelf; raises `Up42fsError`."""
        asked = {asset.id: asset for asset in assets}
        asked_at_s = trio.current_time()
        found = await self.together.search(list(asked))
        for asset in asked.values():
            self._shelve(asset, _Known(in_order(found.get(asset.id, ())), None, asked_at_s))

    async def learn(self, assets: Iterable[Asset]) -> None:
        """Learn the items of a page of `assets` by one search, if several are unknown."""
        assets = tuple(assets)
        await self.recall(assets)
        unknown = [asset for asset in assets if self._valid(asset) is None]
        if len(unknown) < 2 or not self.together.is_possible:
            return
        asked_at_s = trio.current_time()
        found = await self.together.search([asset.id for asset in unknown])
        for asset in unknown:
            items = in_order(found.get(asset.id, ()))
            if asset.cnam_status in _WITHOUT_DIRECTORY or any(map(transformed_files, items)):
                self._learn(asset, _Known(items, asset.updated_at, asked_at_s))

    def known(self, asset_id: str) -> tuple[StacItem, ...] | None:
        """The last known items, however old, or None; sends no request."""
        answer = self._kept.get(asset_id)
        return None if answer is None else answer.items

    def remember(self, items: Iterable[StacItem]) -> None:
        """Cache items learned elsewhere, which must be all the items of every asset they name."""
        by_asset: dict[str, list[StacItem]] = {}
        for item in items:
            if item.asset_id is not None:
                by_asset.setdefault(item.asset_id, []).append(item)
        for asset_id, found in by_asset.items():
            self._keep(asset_id, _Known(in_order(found), None, trio.current_time(), is_lent=True))

    def forget_lent(self, asset_ids: Collection[str]) -> None:
        """Drop the items that `remember` cached for these assets; answers of searches stay."""
        for asset_id in asset_ids:
            answer = self._kept.get(asset_id)
            if answer is not None and answer.is_lent:
                del self._kept[asset_id]

    def _valid(self, asset: Asset) -> _Known | None:
        answer = self._kept.get(asset.id)
        if answer is None or answer.updated_at == asset.updated_at:
            return answer
        if answer.updated_at is not None:
            del self._kept[asset.id]
            return None
        # Items from `remember` have no `updated_at` and adopt that of the first `of_asset`. If a
        # transformation finished in between, they are stale; unsettled answers are searched again.
        # They are not shelved: another collection may turn up that has more of the asset's items.
        adopted = replace(answer, updated_at=asset.updated_at)
        self._keep(asset.id, adopted)
        return adopted

    def _is_due(self, asset: Asset, answer: _Known) -> bool:
        unsettled = asset.cnam_status is CnamStatus.IN_PROGRESS or (
            asset.cnam_status is CnamStatus.SUCCESSFUL
            and not any(map(transformed_files, answer.items))
        )
        return unsettled and trio.current_time() - answer.asked_at_s >= self._ask_again_s

    async def _search(self, asset: Asset) -> tuple[StacItem, ...]:
        asked_at_s = trio.current_time()
        try:
            self._metrics.count("catalog.item_searches")
            found = [item async for item in self._client.search({"filter": equal(asset.id)})]
        except InvalidArgument:
            if self._fallback is None:
                raise
            self._metrics.count("catalog.item_searches_refused")
            found = list(await self._fallback(asset.id))
        items = in_order(item for item in found if item.asset_id == asset.id)
        self._learn(asset, _Known(items, asset.updated_at, asked_at_s))
        return items

    async def recall(self, assets: Iterable[Asset]) -> None:
        """Load the items of assets that will soon be used from the shelf; sends no request."""
        wanted = {
            asset.id: asset
            for asset in assets
            if (asset.id, asset.updated_at) not in self._unshelved and self._valid(asset) is None
        }
        if self._shelf is None or not wanted:
            return
        shelvings = self._shelvings
        held_by_id = await self._shelf.load(list(wanted))
        # What was shelved meanwhile may be what this looked for: then look again next time.
        is_certain = shelvings == self._shelvings
        for asset_id, asset in wanted.items():
            held = held_by_id.get(asset_id)
            if held is None or held.version != version(asset):
                if is_certain:
                    self._unshelved[asset_id, asset.updated_at] = None
            elif self._valid(asset) is None:
                answer = _Known(held.items, asset.updated_at, trio.current_time(), sizes=held.sizes)
                self._keep(asset_id, answer)

    def _learn(self, asset: Asset, answer: _Known) -> None:
        """Cache an answer in memory, and on the shelf if it is settled."""
        before = self._kept.get(asset.id)
        self._keep(asset.id, replace(answer, sizes=before.sizes if before else {}))
        self._shelve(asset, answer)

    def _shelve(self, asset: Asset, answer: _Known) -> None:
        if self._shelf is not None and self._is_settled(asset, answer.items):
            self._shelvings += 1
            self._shelf.put(asset, answer.items)
            self._unshelved.pop((asset.id, asset.updated_at), None)

    def _is_settled(self, asset: Asset, items: tuple[StacItem, ...]) -> bool:
        if asset.cnam_status is CnamStatus.SUCCESSFUL:
            return any(map(transformed_files, items))
        if items or asset.cnam_status is CnamStatus.IN_PROGRESS:
            return bool(items)
        # The item of a delivery that has just come may follow it.
        return self._now() - asset.created_at > SETTLES_AFTER

    def _keep(self, asset_id: str, answer: _Known) -> None:
        self._kept.pop(asset_id, None)
        if weight(answer.items) <= self._kept.maxsize:
            self._kept[asset_id] = answer


def weight(items: Iterable[StacItem]) -> int:
    """The weight of items against the limit on memory, at least 1: about 2 kB each.

    Counts items and their files; without documents they weigh a sixth. An item with 21 files is 45
    kB of Python objects (the live Sentinel-2 item of the contract), so a limit on items alone would
    not bound memory.
    """
    return 1 + sum((1 + len(item.assets)) // (1 if item.document else 6) for item in items)
