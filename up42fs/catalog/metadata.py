"""Title and tags of one asset, read afresh and written, where UP42 keeps them.

Knows the two places: `/v2/assets/{id}/metadata`, and for accounts listed by STAC alone the items of
the asset (contract §3.2, §5.7). Decides nothing: what to write is `model.intentions`' to say.

A write is made once. Where it raises Unavailable or VersionChanged it may have been carried out:
read again before you write again.
In STAC the title that an asset is called by may be the provider's; the one that can be edited is
the user's. An item that repeats the delivered name there has none (contract §5.4).
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
    """An asset as UP42 just told it; `timed` says that its `updated_at` moves with edits."""

    asset: Asset
    metadata: Metadata
    timed: bool = True
    items: tuple[StacItem, ...] = ()


class ListedSource(Protocol):
    """`/v2/assets/{id}/metadata`, as `api.client.Client` has it."""

    async def asset(self, asset_id: str) -> Asset:
        """The asset as it is now; raises an `Up42fsError`."""
        ...

    async def update_asset(
        self, asset_id: str, *, title: str | None = ..., tags: Sequence[str] = ...
    ) -> Asset:
        """Set what is given, once; raises an `Up42fsError`."""
        ...


class StacSource(Protocol):
    """Collections and items, as `api.client.Client` has them."""

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
        """Set what is given, once; raises an `Up42fsError`."""
        ...


class ListedMetadata:
    """Assets that `/v2/assets` lists."""

    def __init__(self, source: ListedSource) -> None:
        self._source = source

    async def read(self, asset_id: str) -> Fresh:
        """The asset as it is now."""
        return _listed(await self._source.asset(asset_id))

    async def write(self, fresh: Fresh, wanted: Metadata) -> Fresh:
        """Set both, as UP42's SDK does; returns the asset as UP42 answers it."""
        # A server may want both, or take one that is left out for one to be cleared.
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
        """The asset as its items and collections tell it now: two requests for one item."""
        return await self._read(asset_id, None)

    async def write(self, fresh: Fresh, wanted: Metadata) -> Fresh:
        """Set both in every item, as UP42's SDK does; returns the asset read anew.

        What does not differ from `fresh` each item keeps as it has it.
        """
        before = fresh.metadata
        for item in fresh.items:
            if item.collection_id is not None:
                title = item.user_title if wanted.title == before.title else wanted.title
                tags = item.user_tags if wanted.tags == before.tags else wanted.tags
                await self._source.update_item(item.collection_id, item.id, title=title, tags=tags)
        after = await self._read(fresh.asset.id, wanted.title)
        # STAC tells no time of an edit (`stac_only`), and `ctime` has to move.
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
            theirs = title  # just set to the delivered name
        return Fresh(asset, Metadata(theirs, asset.tags), timed=False, items=tuple(items))


class AssetMetadata:
    """Whichever of the two places the account has."""

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
        """Set what differs from `fresh`, once, where it was read; raises an `Up42fsError`."""
        place = self._listed if fresh.timed else self._stac
        return await place.write(fresh, wanted)


def _listed(asset: Asset) -> Fresh:
    return Fresh(asset, Metadata(asset.title, asset.tags))
