"""Makes the rows of `/v2/assets` and `/v2/orders` from STAC collections and items.

Prepared for the day UP42 no longer lists assets (contract fact 6).

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

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from up42fs.model.stac import StacAsset, StacCollection, StacItem, in_order, transformed_files
from up42fs.types import Asset, CnamStatus, Order

T = TypeVar("T")
Row = TypeVar("Row", bound=Asset | Order)

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


def asset_part(scenes: Scenes) -> Asset | None:
    """The asset by one collection's data; None if none is named."""
    collection, items = scenes.collection, scenes.items
    asset_id = _said(scenes, "asset_id")
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
        order_id=_said(scenes, "order_id"),
        account_id=_said(scenes, "account_id"),
        workspace_id=_said(scenes, "workspace_id"),
        product_id=collection.product_id,
        collection=_said(scenes, "product_collection"),
        source=collection.source,
    )


def order_part(scenes: Scenes) -> Order | None:
    """The order by one collection's data; None if none is named."""
    collection, order_id = scenes.collection, _said(scenes, "order_id")
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


def merged(parts: Iterable[Row | None]) -> dict[str, Row]:
    """Merge the parts of each row; returns rows by ID, in order of appearance."""
    rows: dict[str, Row] = {}
    for part in parts:
        if part is not None:
            rows[part.id] = _merge(rows[part.id], part) if part.id in rows else part
    return rows


def _merge(one: Row, two: Row) -> Row:
    """Merge two parts of a row; a field that both have is taken from `one`."""
    pairs = {
        field.name: (getattr(one, field.name), getattr(two, field.name)) for field in fields(one)
    }
    values: dict[str, Any] = {name: _first(pair) for name, pair in pairs.items()}
    values["created_at"], values["updated_at"] = min(pairs["created_at"]), max(pairs["updated_at"])
    values["tags"] = _joined(pairs["tags"])
    if CnamStatus.SUCCESSFUL in pairs.get("cnam_status", ()):
        values["cnam_status"] = CnamStatus.SUCCESSFUL
    return replace(one, **values)


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


def _said(scenes: Scenes, field: str) -> str | None:
    """A field of the collection, or of the first item that has it."""
    return _first(getattr(one, field) for one in (scenes.collection, *scenes.items))


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _joined(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for group in groups for word in group))
