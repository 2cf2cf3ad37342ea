"""STAC's facts about a delivery as a whole: where and when it was taken, through how many clouds.

Theory. A delivery's items say it, also if UP42 did not transform it. If it has several, they are
`merged`. A delivery without items may have a collection, whose extent says less. The crawl learns
both, so that attributes are answered from memory and from the snapshot; `ask` sends a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from up42fs.catalog.collections import Collections
from up42fs.catalog.index import Index
from up42fs.catalog.items import Items
from up42fs.catalog.stored_items import Shelf
from up42fs.model.query import Query
from up42fs.model.stac import StacCollection, StacItem, described_by, merged
from up42fs.types import Asset


class Descriptions:
    """The descriptions of all deliveries of a storage."""

    def __init__(
        self,
        index: Index,
        items: Items | None,
        collections: Collections | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self._index = index
        self._items = items
        self._collections = collections
        self._shelf = shelf
        self._listed: tuple[StacCollection, ...] | None = None
        self._by_asset: Mapping[str, StacCollection] = {}
        #: Assets that are known to have no items.
        self._itemless: frozenset[str] = frozenset()

    def known(self, asset_id: str) -> StacItem | None:
        """The description in memory; None if there is none, or none is known."""
        found = self._items.known(asset_id) if self._items is not None else None
        if found:
            return merged(found)
        return self.of_collection(asset_id)

    def of_collection(self, asset_id: str) -> StacItem | None:
        """What the delivery's collection says, as far as known."""
        collection = self.collection(asset_id)
        return None if collection is None else described_by(collection)

    def collection(self, asset_id: str) -> StacCollection | None:
        """The delivery's collection, as far as known."""
        return self._collected().get(asset_id)

    async def recall(self, assets: Iterable[Asset]) -> None:
        """Load descriptions from the snapshot; sends no request."""
        if self._items is not None:
            await self._items.recall(assets)

    async def ask(self, asset: Asset) -> StacItem | None:
        """The description, requested if it is unknown; raises an `Up42fsError`."""
        if self._items is None:
            return None
        items = await self._items.of_asset(asset)
        if not items and self._collections is not None and not self.of_collection(asset.id):
            await self._collections.all()
        return self.known(asset.id)

    async def complete(self) -> None:
        """List the collections if deliveries are left that no item describes."""
        if self._shelf is None or self._collections is None:
            return
        assets = self._index.assets
        self._itemless = frozenset(i for i in await self._shelf.without_items() if i in assets)
        if not self._itemless:
            return
        await self._collections.recall_all()
        if any(asset_id not in self._collected() for asset_id in self._itemless):
            await self._collections.all()

    def matching(self, query: Query) -> frozenset[str]:
        """Deliveries that no item describes, so that UP42's search cannot find them."""
        described = self._collected()
        return frozenset(
            asset_id
            for asset_id in self._itemless
            if asset_id in described and query.holds_of(described_by(described[asset_id]))
        )

    def _collected(self) -> Mapping[str, StacCollection]:
        listed = self._collections.all_known() if self._collections is not None else None
        if listed is not self._listed:
            self._listed = listed
            self._by_asset = {c.asset_id: c for c in listed or () if c.asset_id is not None}
        return self._by_asset
