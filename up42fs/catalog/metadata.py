"""Reads and writes the title and tags of one asset at UP42.

Knows the two places: `/v2/assets/{id}/metadata`, and the items of the asset for accounts listed by
STAC alone (contract §3.2, §5.7). `model.intentions` decides the values to write.

A write is sent once. If it raises Unavailable or VersionChanged it may have taken effect: read
again before you write again. In STAC the displayed title of an asset may be the provider's; only
the user's can be edited. If an item repeats the delivered name as its user title, there is none
(contract §5.4).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from up42fs.catalog.stac_only import asset_part, merge_assets, merged, scenes_of
from up42fs.errors import NotFound
from up42fs.model.intentions import Metadata
from up42fs.model.stac import StacCollection, StacItem
from up42fs.types import Asset


@dataclass(frozen=True, slots=True)
class Fresh:
    """An asset as UP42 just returned it; `timed`: its `updated_at` moves with edits."""

    asset: Asset
    metadata: Metadata
    timed: bool = True
    items: tuple[StacItem, ...] = ()


class ListedSource(Protocol):
    """`/v2/assets/{id}/metadata`, as `api.client.Client` provides it."""

    async def asset(self, asset_id: str) -> Asset:
        """The asset as it is now; raises an `Up42fsError`."""
        ...

    async def update_asset(
        self, asset_id: str, *, title: str | None = ..., tags: Sequence[str] = ...
    ) -> Asset:
        """Set the given fields, once; raises an `Up42fsError`."""
        ...


class StacSource(Protocol):
    """Collections and items, as `api.client.Client` provides them."""

    def search(self, body: Mapping[str, Any]) -> AsyncIterator[StacItem]:
        """Every item that `body` finds, once; raises an `Up42fsError`."""
        ...

    async def collection(self, collection_id: str) -> StacCollection:
        """One collection; raises an `Up42fsError`."""
        ...

    async def update_item(
        self,
        collection_id: str,
        item_id: str,
        *,
        title: str | None = ...,
        tags: Sequence[str] = ...,
    ) -> StacItem:
        """Set the given fields, once; raises an `Up42fsError`."""
        ...


class ListedMetadata:
    """Assets that `/v2/assets` lists."""

    def __init__(self, source: ListedSource) -> None:
        self._source = source

    async def read(self, asset_id: str) -> Fresh:
        """The asset as it is now."""
        return _listed(await self._source.asset(asset_id))

    async def write(self, fresh: Fresh, wanted: Metadata) -> Fresh:
        """Set both, as UP42's SDK does; returns the asset of UP42's response."""
        # A server may require both, or clear one that is left out.
        both = await self._source.update_asset(fresh.asset.id, title=wanted.title, tags=wanted.tags)
        return _listed(both)


class StacMetadata:
    """Assets that only STAC knows; every item of an asset holds its title and tags."""

    def __init__(
        self, source: StacSource, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._source = source
        self._now = now

    async def read(self, asset_id: str) -> Fresh:
        """The asset as its items and collections are now: two requests for one item."""
        return await self._read(asset_id, None)

    async def write(self, fresh: Fresh, wanted: Metadata) -> Fresh:
        """Set both in every item, as UP42's SDK does; returns the asset read anew.

        A field that equals that of `fresh` is left in each item as it is.
        """
        before = fresh.metadata
        for item in fresh.items:
            if item.collection_id is not None:
                title = item.user_title if wanted.title == before.title else wanted.title
                tags = item.user_tags if wanted.tags == before.tags else wanted.tags
                await self._source.update_item(item.collection_id, item.id, title=title, tags=tags)
        after = await self._read(fresh.asset.id, wanted.title)
        # STAC has no time of an edit (`stac_only`), and `ctime` has to move.
        updated_at = max(self._now(), after.asset.updated_at)
        return replace(after, asset=replace(after.asset, updated_at=updated_at))

    async def _read(self, asset_id: str, title: str | None) -> Fresh:
        question = {"filter": {"op": "=", "args": [{"property": "asset_id"}, asset_id]}}
        found = [item async for item in self._source.search(question)]
        items = [item for item in found if item.asset_id == asset_id and item.collection_id]
        names = dict.fromkeys(item.collection_id for item in items if item.collection_id)
        collections = [await self._source.collection(name) for name in names]
        parts = [asset_part(scenes) for scenes in scenes_of(collections, items)]
        asset = merged((part for part in parts if part is not None), merge_assets).get(asset_id)
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


class AssetMetadata:
    """Uses whichever of the two places the account has."""

    def __init__(
        self, listed: ListedMetadata, stac: StacMetadata, is_stac: Callable[[], bool]
    ) -> None:
        self._listed = listed
        self._stac = stac
        self._is_stac = is_stac

    async def read(self, asset_id: str) -> Fresh:
        """The asset as it is now; raises an `Up42fsError`."""
        place = self._stac if self._is_stac() else self._listed
        return await place.read(asset_id)

    async def write(self, fresh: Fresh, wanted: Metadata) -> Fresh:
        """Set the fields that differ from `fresh`, once, at its source; raises an `Up42fsError`."""
        place = self._listed if fresh.timed else self._stac
        return await place.write(fresh, wanted)


def _listed(asset: Asset) -> Fresh:
    return Fresh(asset, Metadata(asset.title, asset.tags))
