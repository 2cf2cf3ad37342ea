"""Makes the rows of `/v2/assets` and `/v2/orders` from STAC collections and items.

Pure; knows nothing of requests. Prepared for the day UP42 no longer lists assets (contract fact 6).

Theory. A collection is one delivery and names its asset. It makes a *part* together with its items;
an asset or order is its parts merged, almost always one. The fields that STAC lacks, and their
substitutes:

* *size*: none; it is learned when you stat or open the file.
* *storage times*: STAC has none. `created_at` is the earliest `created` of the items (a time of the
  provider), else their acquisition, else the start of the collection's extent. `updated_at` is the
  latest such time: it moves when items come, not when a title changes. Do not rely on it to notice
  edits; compare whole assets instead.
* *name*: the key of the file that is the delivery, "Original Delivery" of the collection or among
  an item's files. In untransformed items that key is `data`, which is no name: then the asset has
  none, and its title is shown.
* *title*: the user's; an item's user title that repeats the delivered name (contract §5.4) does not
  count. Else the collection's, the provider's scene name.
* *CNAM status*: SUCCESSFUL if an item has files besides the delivery, else NOT_PROCESSED;
  IN_PROGRESS and FAILED cannot be seen. `metadata_version` is ignored: the meaning of its values is
  not documented, and without files there is nothing to show.
* *producer*: none; STAC names providers by other names.
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
#: The key of a delivery without a name of its own.
_NAMELESS_KEY = "data"


@dataclass(frozen=True, slots=True)
class Scenes:
    """A collection and its items."""

    collection: StacCollection
    items: tuple[StacItem, ...] = ()


def scenes_of(
    collections: Iterable[StacCollection], items: Iterable[StacItem]
) -> tuple[Scenes, ...]:
    """Group items by collection, in the collections' order; other items are left out."""
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
    """The asset by one collection's data; None if none is named."""
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
    """The order by one collection's data; None if none is named."""
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
    """Merge parts of the same ID; returns rows by ID, in order of appearance."""
    rows: dict[str, Row] = {}
    for part in parts:
        known = rows.get(part.id)
        rows[part.id] = part if known is None else merge(known, part)
    return rows


def merge_assets(one: Asset, two: Asset) -> Asset:
    """Merge two parts of an asset; a field that both have is taken from `one`."""
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
    """Merge two parts of an order; a field that both have is taken from `one`."""
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
    """The file that is the delivery: the collection's, else an item's (contract §5.2)."""
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
    """Yield the start of the temporal extent, if it can be parsed."""
    try:
        moment = datetime.fromisoformat(collection.document["extent"]["temporal"]["interval"][0][0])
        yield (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (LookupError, TypeError, ValueError, OverflowError):
        return


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _joined(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for group in groups for word in group))
