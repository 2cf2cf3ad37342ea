"""Learns the STAC items of all transformed assets, behind everything else.

Knows which assets' items are on the shelf and which are not; asking and keeping is `Items`'.

Theory. Where nothing is on the shelf yet, walking through the directories of transformed files is a
request each. So once the assets are listed, those whose items are missing, or of another version
of the asset, are asked for a batch at a time, newest first, one request after another; later, those
that a refresh changed. A directory that is opened meanwhile asks for itself at once. A service that
does not take a list of assets (400) is asked for one asset at a time.
Rejected: reading all items of the storage; most assets may be untransformed, and an item's asset
is complete only when the last page is read.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

import trio

from up42fs.catalog.index import Delta, Index
from up42fs.catalog.item_rows import to_us
from up42fs.errors import InvalidArgument, Up42fsError
from up42fs.types import Asset, CnamStatus

log = logging.getLogger(__name__)

#: Assets asked for together: with one item each, one page.
BATCH = 100
#: Pause after a failure, and before the batch after it, seconds.
PAUSE_AFTER_FAILURE_S = 30.0


class Learner(Protocol):
    """Where items are asked for (see `catalog.items.Items`)."""

    async def of_asset(self, asset: Asset) -> object:
        """Learn the items of an asset."""
        ...

    async def learn_many(self, assets: Iterable[Asset]) -> None:
        """Learn the items of several assets by one search."""
        ...


class ItemCrawl:
    """Keeps the shelf complete. `versions` tells what is on it: `updated_us` by asset ID."""

    def __init__(
        self,
        index: Index,
        items: Learner,
        versions: Callable[[], Awaitable[Mapping[str, int]]],
    ) -> None:
        self._index = index
        self._items = items
        self._versions = versions
        #: A dict for its order; the next to ask for is the last.
        self._missing: dict[str, None] = {}
        self._changed = trio.Event()
        self._batch = BATCH
        self._started = False

    def note(self, delta: Delta) -> None:
        """Assets changed: their items may have, too."""
        if not self._started:
            return
        for asset_id in delta.assets:
            self._missing.pop(asset_id, None)
            if self._is_transformed(asset_id):
                self._missing[asset_id] = None
        self._changed.set()

    def status(self) -> dict[str, object]:
        """For `status.json`: how many transformed assets there are, and are still to be asked."""
        return {
            "transformed": self._index.count(CnamStatus.SUCCESSFUL),
            "missing": len(self._missing) if self._started else None,
        }

    async def run(self) -> None:
        """Crawl for ever; started once the assets are listed, cancelled at unmount."""
        held = await self._versions()
        transformed = self._index.with_status(CnamStatus.SUCCESSFUL)
        missing = [a for a in transformed if held.get(a.id) != to_us(a.updated_at)]
        missing.sort(key=lambda asset: asset.created_at)
        self._missing = dict.fromkeys(asset.id for asset in missing)
        self._started = True
        while True:
            if not self._missing:
                self._changed = trio.Event()
                await self._changed.wait()
            await self._next()

    async def _next(self) -> None:
        batch = list(reversed(self._missing))[: self._batch]
        for asset_id in [id_ for id_ in batch if not self._is_transformed(id_)]:
            self._missing.pop(asset_id, None)
            batch.remove(asset_id)
        assets = [self._index.assets[asset_id] for asset_id in batch]
        try:
            if self._batch > 1 and assets:
                await self._items.learn_many(assets)
            elif assets:
                await self._items.of_asset(assets[0])
        except InvalidArgument as error:
            if self._batch > 1:
                log.info("items are asked for one asset at a time: %s", error)
                self._batch = 1
                return
            log.debug("the items of asset %s stay unknown: %s", batch[0], error)
        except Up42fsError as error:
            log.debug("asking for items failed, trying again later: %s", error)
            await trio.sleep(PAUSE_AFTER_FAILURE_S)
            return
        asked = {asset.id: asset for asset in assets}
        for asset_id in batch:
            if self._index.assets.get(asset_id) is asked.get(asset_id):  # else it changed meanwhile
                self._missing.pop(asset_id, None)

    def _is_transformed(self, asset_id: str) -> bool:
        asset = self._index.assets.get(asset_id)
        return asset is not None and asset.cnam_status is CnamStatus.SUCCESSFUL
