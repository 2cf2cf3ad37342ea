"""The data of a STAC collection and item about delivered files, as values (contract §5).

`document` is the JSON object as UP42 sent it, for display to the user; comparisons ignore it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from up42fs.model import geojson

_NO_TIME = dt.datetime.max.replace(tzinfo=dt.UTC)
#: The box of a collection that does not say where it is.
_WORLD = [-180, -90, 180, 90]
#: `epsg` of a file that declares no reference system.
NO_EPSG = 0


@dataclass(frozen=True, slots=True)
class StacAsset:
    """One file of an item or collection (contract §5.5). UP42 gives no size.

    `key` is its name in the item. `asset_id` is the ID to sign; if it is None, the file cannot be
    read through UP42 and `refusal` has the reason. `gsd` (metres), `epsg`, `proj_code` and `bands`
    are the file's own values, which override its item's; `epsg` is NO_EPSG if the file declares
    that it has none. A band is `name:common name:centre wavelength`, without what is not known.
    """

    key: str
    asset_id: str | None
    refusal: str | None = None
    title: str | None = None
    media_type: str | None = None
    roles: tuple[str, ...] = ()
    gsd: float | None = None
    epsg: int | None = None
    bands: tuple[str, ...] = ()
    proj_code: str | None = None


@dataclass(frozen=True, slots=True)
class StacItem:
    """One transformed (or plain) scene (contract §5.4).

    `asset_id` is the UP42 asset (the delivery) it came from; `gsd` is in metres, `cloud_cover` in
    percent, `bbox` west, south, east, north in degrees (six numbers with heights). `job_id` is the
    processing job whose result it is, `url` its address at UP42, which a process takes as input.
    """

    id: str
    collection_id: str | None
    asset_id: str | None
    assets: tuple[StacAsset, ...] = ()
    title: str | None = None
    datetime: dt.datetime | None = None
    created: dt.datetime | None = None
    updated: dt.datetime | None = None
    platform: str | None = None
    constellation: str | None = None
    gsd: float | None = None
    cloud_cover: float | None = None
    epsg: int | None = None
    bbox: tuple[float, ...] | None = None
    order_id: str | None = None
    workspace_id: str | None = None
    account_id: str | None = None
    product_collection: str | None = None
    metadata_version: str | None = None
    user_title: str | None = None
    user_tags: tuple[str, ...] = ()
    proj_code: str | None = None
    bands: tuple[str, ...] = ()
    modality: str | None = None
    job_id: str | None = None
    url: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


#: Fields that several items of a delivery may share.
_SHARED = tuple(
    each.name
    for each in fields(StacItem)
    if each.name not in ("id", "assets", "datetime", "bbox", "document")
)


@dataclass(frozen=True, slots=True)
class StacCollection:
    """One delivery as STAC describes it (contract §5.2): `asset_id` is the UP42 asset.

    `assets` holds at most the original delivery.
    """

    id: str
    asset_id: str | None
    assets: tuple[StacAsset, ...] = ()
    title: str | None = None
    description: str | None = None
    order_id: str | None = None
    order_status: str | None = None
    workspace_id: str | None = None
    account_id: str | None = None
    product_id: str | None = None
    product_collection: str | None = None
    source: str | None = None
    metadata_version: str | None = None
    user_title: str | None = None
    user_tags: tuple[str, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


def transformed_files(item: StacItem) -> tuple[StacAsset, ...]:
    """The files of an item except the delivery itself, including those that cannot be read.

    An untransformed item has one file, `data`, whose ID is the asset's (§5.5).
    """
    return tuple(file for file in item.assets if file.asset_id != item.asset_id)


def delivered_as(item: StacItem) -> frozenset[str]:
    """The IDs of the assets that an item may be of.

    It is unknown whether results of processing name theirs (contract §14); their one file is it.
    """
    if item.asset_id is not None:
        return frozenset((item.asset_id,))
    return frozenset(file.asset_id for file in item.assets if file.asset_id is not None)


def merged(items: Sequence[StacItem]) -> StacItem | None:
    """What several items of one delivery say together, as one item; None for none.

    Values are kept that all items share; the box is around all of them, the time is the first.
    """
    if len(items) < 2:
        return items[0] if items else None
    first = items[0]
    values = {
        name: getattr(first, name)
        for name in _SHARED
        if all(getattr(item, name) == getattr(first, name) for item in items)
    }
    moments = [item.datetime for item in items if item.datetime is not None]
    boxes = [item.bbox for item in items if geojson.is_bbox(item.bbox)]
    return StacItem(
        id="",
        collection_id=values.pop("collection_id", None),
        asset_id=values.pop("asset_id", None),
        datetime=min(moments, default=None),
        bbox=tuple(geojson.union(boxes)) if boxes else None,
        **values,
    )


def described_by(collection: StacCollection) -> StacItem:
    """What a collection says of its delivery: where and when it was taken."""
    extent = _mapping(collection.document.get("extent"))
    boxes = _mapping(extent.get("spatial")).get("bbox")
    box = boxes[0] if isinstance(boxes, list) and boxes else None
    intervals = _mapping(extent.get("temporal")).get("interval")
    interval = intervals[0] if isinstance(intervals, list) and intervals else None
    modality = collection.document.get("up42-product:modality")
    return StacItem(
        id="",
        collection_id=collection.id,
        asset_id=collection.asset_id,
        title=collection.title,
        datetime=_moment(interval[0] if isinstance(interval, list) and interval else None),
        bbox=tuple(box) if geojson.is_bbox(box) and list(geojson.flat(box)) != _WORLD else None,
        order_id=collection.order_id,
        workspace_id=collection.workspace_id,
        account_id=collection.account_id,
        product_collection=collection.product_collection,
        metadata_version=collection.metadata_version,
        user_title=collection.user_title,
        user_tags=collection.user_tags,
        modality=modality if isinstance(modality, str) else None,
    )


def as_item(collection: StacCollection) -> StacItem:
    """A collection's own files as an item's, for those who handle files of items."""
    return replace(described_by(collection), id=collection.id, assets=collection.assets)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _moment(value: object) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(value.strip()) if isinstance(value, str) else None
        if found is None:
            return None
        return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


def in_order(items: Iterable[StacItem]) -> tuple[StacItem, ...]:
    """Items oldest first by `created`, those without it last; then by ID."""
    return tuple(sorted(items, key=lambda item: (item.created or _NO_TIME, item.id)))
