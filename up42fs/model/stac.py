"""The data of a STAC collection and item about delivered files, as values (contract §5).

`document` is the JSON object as UP42 sent it, for display to the user; comparisons ignore it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_NO_TIME = dt.datetime.max.replace(tzinfo=dt.UTC)
#: `epsg` of a file that declares no reference system.
NO_EPSG = 0


@dataclass(frozen=True, slots=True)
class StacAsset:
    """One file of an item or collection (contract §5.5). UP42 gives no size.

    `key` is its name in the item. `asset_id` is the ID to sign; if it is None, the file cannot be
    read through UP42 and `refusal` has the reason. `gsd` (metres), `epsg` and `bands` are the
    file's own values, which override its item's; `epsg` is NO_EPSG if the file declares that it has
    none.
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


@dataclass(frozen=True, slots=True)
class StacItem:
    """One transformed (or plain) scene (contract §5.4).

    `asset_id` is the UP42 asset (the delivery) it came from; `gsd` is in metres, `cloud_cover` in
    percent, `bbox` west, south, east, north in degrees (six numbers with heights).
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
    document: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


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


def in_order(items: Iterable[StacItem]) -> tuple[StacItem, ...]:
    """Items oldest first by `created`, those without it last; then by ID."""
    return tuple(sorted(items, key=lambda item: (item.created or _NO_TIME, item.id)))
