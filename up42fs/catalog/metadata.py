"""Reads and writes the title and tags of one asset at UP42.

Knows the two places: `/v2/assets/{id}/metadata`, and the items of the asset for accounts listed by
STAC alone (contract §3.2, §5.7). `model.intentions` decides the values to write.

A write is sent once. If it raises Unavailable or VersionChanged it may have taken effect: read
again before you write again. In STAC the displayed title of an asset may be the provider's; only
the user's can be edited. If an item repeats the delivered name as its user title, there is none
(contract §5.4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from up42fs.api.client import Client
from up42fs.catalog.stac_only import asset_part, merged, scenes_of
from up42fs.catalog.together import equal
from up42fs.errors import NotFound
from up42fs.model.intentions import Metadata
from up42fs.model.stac import StacItem
from up42fs.types import Asset


@dataclass(frozen=True, slots=True)
class Fresh:
    """An asset as UP42 just returned it; `timed`: its `updated_at` moves with edits."""

    asset: Asset
    metadata: Metadata
    timed: bool = True
    items: tuple[StacItem, ...] = ()


@dataclass(frozen=True, slots=True)
class AssetMetadata:
    """Reads and writes at the one of the two places that the account has."""

    client: Client
    is_stac: Callable[[], bool]

    async def read(self, asset_id: str) -> Fresh:
        """The asset as it is now; in STAC its items and collections: two requests for one item."""
        if self.is_stac():
            return await self._read_items(asset_id, None)
        return _listed(await self.client.asset(asset_id))

    async def write(self, fresh: Fresh, wanted: Metadata) -> Fresh:
        """Set the fields that differ from `fresh`, once, at its source; raises an `Up42fsError`.

        In STAC that is every item, as in UP42's SDK; a field that equals that of `fresh` is left in
        each item as it is.
        """
        before, asset_id = fresh.metadata, fresh.asset.id
        if fresh.timed:
            # Both: a server may require both, or clear one that is left out.
            return _listed(
                await self.client.update_asset(asset_id, title=wanted.title, tags=wanted.tags)
            )
        for item in fresh.items:
            if item.collection_id is not None:
                title = item.user_title if wanted.title == before.title else wanted.title
                tags = item.user_tags if wanted.tags == before.tags else wanted.tags
                await self.client.update_item(item.collection_id, item.id, title=title, tags=tags)
        after = await self._read_items(asset_id, wanted.title)
        # STAC has no time of an edit (`stac_only`), and `ctime` has to move.
        updated_at = max(datetime.now(UTC), after.asset.updated_at)
        return replace(after, asset=replace(after.asset, updated_at=updated_at))

    async def _read_items(self, asset_id: str, title: str | None) -> Fresh:
        found = [item async for item in self.client.search({"filter": equal(asset_id)})]
        items = [item for item in found if item.asset_id == asset_id and item.collection_id]
        names = dict.fromkeys(item.collection_id for item in items if item.collection_id)
        collections = [await self.client.collection(name) for name in names]
        asset = merged(map(asset_part, scenes_of(collections, items))).get(asset_id)
        if asset is None:
            raise NotFound(
                f"STAC lists no item of asset {asset_id}, so its title and tags cannot be edited; "
                "it may have been deleted"
            )
        titles = [row.user_title for row in collections] + [item.user_title for item in items]
        theirs = next((text for text in titles if text and text != asset.name), None)
        if theirs is None and title is not None and title in titles:
            theirs = title  # was just set to the delivered name
        return Fresh(asset, Metadata(theirs, asset.tags), timed=False, items=tuple(items))


def _listed(asset: Asset) -> Fresh:
    return Fresh(asset, Metadata(asset.title, asset.tags))
