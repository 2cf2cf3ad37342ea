"""What `/v2/assets` and `/v2/orders` would say, worked out from STAC collections and items.

Pure; knows nothing of requests. For the day UP42 lists assets no longer (contract fact 6).

Theory. A collection is one delivery and names its asset. What it and its items say makes a *part*;
an asset or order is its parts merged, almost always one. What STAC does not have, and what stands
for it:
* *size*: nothing; it is learned when the file is looked at.
* *storage times*: STAC has none. `created_at` is the earliest `created` of the items (a time of the
  provider), else their acquisition, else the start of the collection's extent. `updated_at` is the
  latest such time: it moves when items come, not when a title changes. Nobody may rely on it to
  notice edits; comparing whole assets does.
* *name*: the key of the file that is the delivery, "Original Delivery" of the collection or among
  an item's files. In items that were not transformed that key is `data`, which is no name: then
  the asset has none, and is called by its title.
* *title*: the user's; an item repeats the delivered name there (contract §5.4), which is not one.
  Else the collection's, the provider's scene name.
* *CNAM status*: SUCCESSFUL where an item has files beside the delivery, else NOT_PROCESSED;
  IN_PROGRESS and FAILED do not show. `metadata_version` is not asked: which versions mean what is
  not documented, and without files there is nothing to show.
* *producer*: nothing; STAC names providers by other names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from up42fs.catalog.items import in_order, transformed_files
from up42fs.model.stac import StacAsset, StacCollection, StacItem
from up42fs.types import Asset, CnamStatus, Order

T = TypeVar("T")
Row = TypeVar("Row", Asset, Order)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The key of a delivery that was given no name of its own.
_NAMELESS_KEY = "data"


@dataclass(frozen=True, slots=True)
class Scenes:
    """A collection and its items."""

    collection: StacCollection
    items: tuple[StacItem, ...] = ()


def scenes_of(
    collections: Iterable[StacCollection], items: Iterable[StacItem]
) -> tuple[Scenes, ...]:
    """Bring items to their collections, in the collections' order; others are left out."""
    found: dict[str, list[StacItem]] = {}
    for item in items:
        if item.collection_id is not None:
            found.setdefault(item.collection_id, []).append(item)
    return tuple(Scenes(row, in_order(found.get(row.id, ()))) for row in collections)


def assets_of(collections: Iterable[StacCollection], items: Iterable[StacItem]) -> list[Asset]:
    """Every asset that has a collection, in the collections' order."""
    parts = map(asset_part, scenes_of(collections, items))
    return list(merged((part for part in parts if part is not None), merge_assets).values())


def orders_of(collections: Iterable[StacCollection], items: Iterable[StacItem]) -> list[Order]:
    """Every order that a collection names, in the collections' order."""
    parts = map(order_part, scenes_of(collections, items))
    return list(merged((part for part in parts if part is not None), merge_orders).values())


def asset_part(scenes: Scenes) -> Asset | None:
    """The asset as one collection tells it; None where none is named."""
    collection, items = scenes.collection, scenes.items
    asset_id = _first([collection.asset_id, *(item.asset_id for item in items)])
    if asset_id is None:
        return None
    original = _original(scenes, asset_id)
    name = original.key if original and original.key != _NAMELESS_KEY else None
    created_at, updated_at = _times(scenes)
    return Asset(
        id=asset_id,
        name=name,
        title=_title(scenes, name),
        size=None,
        created_at=created_at,
        updated_at=updated_at,
        tags=collection.user_tags or _joined(item.user_tags for item in items),
        cnam_status=_status(items),
        content_type=original.media_type if original else None,
        order_id=_first([collection.order_id, *(item.order_id for item in items)]),
        account_id=_first([collection.account_id, *(item.account_id for item in items)]),
        workspace_id=_first([collection.workspace_id, *(item.workspace_id for item in items)]),
        product_id=collection.product_id,
        collection=_first(
            [collection.product_collection, *(item.product_collection for item in items)]
        ),
        source=collection.source,
    )


def order_part(scenes: Scenes) -> Order | None:
    """The order as one collection tells it; None where none is named."""
    collection, items = scenes.collection, scenes.items
    order_id = _first([collection.order_id, *(item.order_id for item in items)])
    if order_id is None:
        return None
    created_at, updated_at = _times(scenes)
    return Order(
        id=order_id,
        display_name=None,
        status=collection.order_status,
        type=None,
        created_at=created_at,
        updated_at=updated_at,
        account_id=collection.account_id,
        workspace_id=collection.workspace_id,
        product_id=collection.product_id,
    )


def merged(parts: Iterable[Row], merge: Callable[[Row, Row], Row]) -> dict[str, Row]:
    """Parts of the same ID as one, by ID, in order of appearance."""
    rows: dict[str, Row] = {}
    for part in parts:
        known = rows.get(part.id)
        rows[part.id] = part if known is None else merge(known, part)
    return rows


def merge_assets(one: Asset, two: Asset) -> Asset:
    """Two parts of an asset as one; what only one tells is taken from it, else from `one`."""
    return Asset(
        id=one.id,
        name=_first([one.name, two.name]),
        title=_first([one.title, two.title]),
        size=None,
        created_at=min(one.created_at, two.created_at),
        updated_at=max(one.updated_at, two.updated_at),
        tags=_joined([one.tags, two.tags]),
        cnam_status=(
            CnamStatus.SUCCESSFUL
            if CnamStatus.SUCCESSFUL in (one.cnam_status, two.cnam_status)
            else one.cnam_status
        ),
        content_type=_first([one.content_type, two.content_type]),
        order_id=_first([one.order_id, two.order_id]),
        account_id=_first([one.account_id, two.account_id]),
        workspace_id=_first([one.workspace_id, two.workspace_id]),
        product_id=_first([one.product_id, two.product_id]),
        collection=_first([one.collection, two.collection]),
        source=_first([one.source, two.source]),
    )


def merge_orders(one: Order, two: Order) -> Order:
    """Two parts of an order as one; what only one tells is taken from it, else from `one`."""
    return Order(
        id=one.id,
        display_name=None,
        status=_first([one.status, two.status]),
        type=None,
        created_at=min(one.created_at, two.created_at),
        updated_at=max(one.updated_at, two.updated_at),
        account_id=_first([one.account_id, two.account_id]),
        workspace_id=_first([one.workspace_id, two.workspace_id]),
        product_id=_first([one.product_id, two.product_id]),
    )


def _original(scenes: Scenes, asset_id: str) -> StacAsset | None:
    """The file that is the delivery: the collection's, or else an item's (contract §5.2)."""
    files = [*scenes.collection.assets, *(file for item in scenes.items for file in item.assets)]
    return next((file for file in files if file.asset_id == asset_id), None)


def _title(scenes: Scenes, name: str | None) -> str | None:
    said = (item.user_title for item in scenes.items if item.user_title != name)
    theirs = [scenes.collection.user_title, *said]
    return _first([*theirs, scenes.collection.title, *(item.title for item in scenes.items)])


def _status(items: Iterable[StacItem]) -> CnamStatus:
    transformed = any(map(transformed_files, items))
    return CnamStatus.SUCCESSFUL if transformed else CnamStatus.NOT_PROCESSED


def _times(scenes: Scenes) -> tuple[datetime, datetime]:
    born = [t for item in scenes.items if (t := item.created or item.datetime)]
    born = born or list(_extent_start(scenes.collection)) or [_EPOCH]
    moved = [t for item in scenes.items if (t := item.updated)]
    return min(born), max(born + moved)


def _extent_start(collection: StacCollection) -> Iterator[datetime]:
    """The start of the temporal extent, if there is one that can be read."""
    try:
        moment = datetime.fromisoformat(collection.document["extent"]["temporal"]["interval"][0][0])
        yield (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (LookupError, TypeError, ValueError, OverflowError):
        return


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _joined(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for group in groups for word in group))
