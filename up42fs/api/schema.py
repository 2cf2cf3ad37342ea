"""Parses UP42's JSON; the one place that knows its field names and their misspellings.

Knows nothing of requests. Parsing is tolerant: unknown keys, nulls, missing keys, older spellings
and wrong types never raise; an unusable value becomes absent (None, ()). Only a row without an ID
is useless, and parses to None.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from urllib.parse import quote

from up42fs.api.links import asset_id_of_href
from up42fs.model.stac import NO_EPSG, StacAsset, StacCollection, StacItem
from up42fs.types import NO_TIME, Asset, CnamStatus, Order

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Longest texts in characters, and longest lists. Longer values become absent, and are logged where
#: a user would miss them; UP42's own limits are far lower.
MOST_ID = 256
MOST_TEXT = 4096
MOST_HREF = 8192
MOST_TAG = 1024
#: With so many strings, the attribute that would show them is too large; it is never shown in part.
MOST_STRINGS = 30_000
MOST_FILES = 5000
MOST_TIME = 64
MOST_BANDS = 256
MOST_LINKS = 100
_EPSG_CODE = re.compile(r"EPSG:([1-9]\d{0,8})", re.ASCII | re.IGNORECASE)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MAX_SIZE_BYTES = 2**63 - 1
#: From this value on, a number is a time in milliseconds: in seconds it would be the year 5138.
_MILLISECONDS = 1e11


def parse_asset(row: object) -> Asset | None:
    """An asset (contract §2.2), also in the shapes of 2022 and 2023; None without an ID."""
    if not isinstance(row, Mapping) or (asset_id := _id(row.get("id"))) is None:
        return None
    created_at, updated_at = _times(row)
    return Asset(
        id=asset_id,
        name=_name(row.get("name")),
        title=_text(row.get("title")),
        # No delivery is empty: 0 stands for a size that is not known yet. Believed, it would make
        # every read end at once without a request, so that nothing could correct it.
        size=parse_count(row.get("size")) or None,
        created_at=created_at,
        updated_at=updated_at,
        tags=_strings(row.get("tags")),
        cnam_status=_cnam_status(row),
        content_type=_shared(row.get("contentType")),
        order_id=_shared(_id(row.get("orderId")) or _id(_mapping(row.get("order")).get("id"))),
        account_id=_shared(row.get("accountId")),
        workspace_id=_shared(row.get("workspaceId")),
        product_id=_shared(row.get("productId")),
        collection=_shared(row.get("collectionName")),
        producer=_shared(row.get("producerName")),
        source=_shared(row.get("source")),
    )


def parse_order(row: object) -> Order | None:
    """An order (contract §4.2); None without an ID."""
    if not isinstance(row, Mapping) or (order_id := _id(row.get("id"))) is None:
        return None
    created_at, updated_at = _times(row)
    details = _mapping(row.get("orderDetails"))
    return Order(
        id=order_id,
        display_name=_text(row.get("displayName")),
        status=_text(row.get("status")),
        type=_text(row.get("type")),
        created_at=created_at,
        updated_at=updated_at,
        tags=_strings(row.get("tags")),
        account_id=_text(row.get("accountId")),
        workspace_id=_text(row.get("workspaceId")),
        product_id=_text(row.get("dataProductId")),
        sub_status=_text(details.get("subStatus")),
        image_id=_text(details.get("imageId")),
    )


def parse_item(row: object, api_url: str) -> StacItem | None:
    """A STAC item (contract §5.4); None without an ID. Hrefs below `api_url` are UP42's own."""
    if not isinstance(row, Mapping) or (item_id := _id(row.get("id"))) is None:
        return None
    said = _mapping(row.get("properties"))
    return StacItem(
        id=item_id,
        collection_id=_id(row.get("collection")),
        asset_id=_id(said.get("up42-system:asset_id")),
        assets=_stac_assets(row, api_url),
        title=_text(said.get("title")),
        datetime=parse_time(said.get("datetime")) or parse_time(said.get("start_datetime")),
        created=parse_time(said.get("created")),
        updated=parse_time(said.get("updated")),
        platform=_text(said.get("platform")),
        constellation=_text(said.get("constellation")),
        gsd=_number(said.get("gsd")),
        cloud_cover=_number(said.get("eo:cloud_cover")),
        epsg=_epsg(said),
        bbox=_bbox(row.get("bbox")),
        order_id=_id(said.get("up42-order:id")),
        workspace_id=_text(said.get("up42-system:workspace_id")),
        account_id=_account_id(said),
        product_collection=_text(said.get("up42-product:collection_name")),
        metadata_version=_text(said.get("up42-system:metadata_version")),
        user_title=_text(said.get("up42-user:title")),
        user_tags=_strings(said.get("up42-user:tags")),
        proj_code=_text(said.get("proj:code"), MOST_TAG),
        bands=_bands(said),
        modality=_text(said.get("up42-product:modality")),
        job_id=_id(said.get("up42-system:job_id")),
        url=_item_url(row, item_id, api_url),
        document=row,
    )


def parse_collection(row: object, api_url: str) -> StacCollection | None:
    """A STAC collection (contract §5.2); None without an ID."""
    if not isinstance(row, Mapping) or (collection_id := _id(row.get("id"))) is None:
        return None
    return StacCollection(
        id=collection_id,
        asset_id=_id(row.get("up42-system:asset_id")),
        assets=_stac_assets(row, api_url),
        title=_text(row.get("title")),
        description=_text(row.get("description")),
        order_id=_id(row.get("up42-order:id")),
        order_status=_text(row.get("up42-order:status")),
        workspace_id=_text(row.get("up42-system:workspace_id")),
        account_id=_account_id(row),
        product_id=_text(row.get("up42-product:product_id")),
        product_collection=_text(row.get("up42-product:collection_name")),
        source=_text(row.get("up42-system:source")),
        metadata_version=_text(row.get("up42-system:metadata_version")),
        user_title=_text(row.get("up42-user:title")),
        user_tags=_strings(row.get("up42-user:tags")),
        document=row,
    )


def parse_time(value: object) -> datetime | None:
    """Parse an RFC 3339 time to UTC, any fraction length, `Z` or offset; None if it is invalid.

    A time without a zone is UTC; a number counts seconds or milliseconds since 1970 and is not
    negative.
    """
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if value < 0:
                return None
            return EPOCH + timedelta(seconds=value if abs(value) < _MILLISECONDS else value / 1000)
        if not isinstance(value, str) or len(value) > MOST_TIME:
            return None
        moment = datetime.fromisoformat(value.strip().upper())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _times(row: Mapping[str, Any]) -> tuple[datetime, datetime]:
    created, updated = parse_time(row.get("createdAt")), parse_time(row.get("updatedAt"))
    created_at = created or updated or NO_TIME
    return created_at, updated or created_at


def _stac_assets(document: Mapping[str, Any], api_url: str) -> tuple[StacAsset, ...]:
    found = []
    for key, row in islice(_mapping(document.get("assets")).items(), MOST_FILES):
        if not isinstance(row, Mapping) or (name := _text(key, MOST_TAG)) is None:
            continue
        href = _text(row.get("href"), MOST_HREF)
        asset_id, refusal = (
            asset_id_of_href(href, api_url, document)
            if href
            else (None, _why_no_href(row.get("href")))
        )
        found.append(
            StacAsset(
                key=name,
                asset_id=asset_id,
                refusal=refusal,
                title=_text(row.get("title")),
                media_type=_text(row.get("type")),
                roles=_strings(row.get("roles")),
                gsd=_number(row.get("gsd")),
                epsg=_epsg_of_file(row),
                bands=_bands(row),
                proj_code=_text(row.get("proj:code"), MOST_TAG),
            )
        )
    return tuple(found)


def _why_no_href(value: object) -> str:
    if isinstance(value, str) and value:
        return f"its link is longer than {MOST_HREF} characters"
    return "it has no link to its data"


def _cnam_status(row: Mapping[str, Any]) -> CnamStatus:
    value = row.get("geospatialMetadataExtractionStatus") or row.get("geospatialMetadataExtraction")
    try:
        return CnamStatus(value.upper() if isinstance(value, str) and len(value) < 64 else "")
    except ValueError:
        return CnamStatus.UNTOLD


def _account_id(said: Mapping[str, Any]) -> str | None:
    # UP42's documentation misspells the key once (contract §5.4).
    return _text(said.get("up42-system:account_id")) or _text(said.get("uup42-system:account_id"))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _id(value: object) -> str | None:
    """The ID; None if it cannot be written as UTF-8, since it is sent back to UP42 unchanged."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_SIZE_BYTES:
        return str(value)
    if not isinstance(value, str) or not 0 < len(value) <= MOST_ID:
        return None
    return value if value.strip() and not _LONE_SURROGATE.search(value) else None


def _text(value: object, most: int = MOST_TEXT) -> str | None:
    if not isinstance(value, str) or not 0 < len(value) <= most:
        return None
    return _LONE_SURROGATE.sub("\ufffd", value)


def _name(value: object) -> str | None:
    """The file name; of a longer one, the beginning and the extension are enough."""
    if isinstance(value, str) and len(value) > MOST_TEXT:
        value = value[: MOST_TEXT - 16] + value[-16:]
    return _text(value)


def lost_tags(tags: object) -> int:
    """Count the tags of a row that were left out: those too long, and those beyond the limit."""
    if not isinstance(tags, list):
        return 0
    too_long = sum(isinstance(tag, str) and len(tag) > MOST_TAG for tag in tags)
    return too_long + max(0, len(tags) - MOST_STRINGS)


def _shared(value: object, most: int = MOST_TAG) -> str | None:
    """A text that many rows share, interned so that all of them use one object."""
    text = _text(value, most)
    return None if text is None else sys.intern(text)


def _strings(value: object) -> tuple[str, ...]:
    # No tag holds a comma (contract §3.2), so a list in one text is split at commas.
    values = value.split(",", MOST_STRINGS) if isinstance(value, str) else value
    if not isinstance(values, list):
        return ()
    several = islice(values, MOST_STRINGS)
    texts = (
        _shared(text.strip()) for text in several if isinstance(text, str) and len(text) < MOST_TEXT
    )
    return tuple(dict.fromkeys(text for text in texts if text is not None))


def parse_count(value: object) -> int | None:
    """A number of bytes or rows: at least 0, and at most what SQLite can store."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MAX_SIZE_BYTES else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _epsg(said: Mapping[str, Any]) -> int | None:
    number = _number(said.get("proj:epsg"))
    if number is not None and number.is_integer() and number > 0:
        return int(number)
    code = _text(said.get("proj:code"))
    match = _EPSG_CODE.fullmatch(code) if code else None
    return int(match[1]) if match else None


def _epsg_of_file(row: Mapping[str, Any]) -> int | None:
    """The EPSG code of a file alone; NO_EPSG if it declares none, whatever its item has."""
    says_so = row.keys() & {"proj:epsg", "proj:code"}
    return _epsg(row) or (NO_EPSG if says_so else None)


def _bands(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The bands of a file or item, from `bands` (STAC 1.1) or `eo:bands` (1.0)."""
    said: list[Any] = next(
        (row[key] for key in ("bands", "eo:bands") if isinstance(row.get(key), list)), []
    )
    bands = (_band(band) for band in said[:MOST_BANDS] if isinstance(band, Mapping))
    return tuple(band for band in bands if band)


def _band(band: Mapping[str, Any]) -> str:
    """A band as `name:common name:centre wavelength` (µm), cut after what is known of it."""

    def said(key: str) -> object:
        return band.get(f"eo:{key}", band.get(key))

    common, wavelength = _text(said("common_name"), MOST_TAG), _number(said("center_wavelength"))
    name = _text(band.get("name"), MOST_TAG)
    parts = [name or common, common if name or wavelength else None]
    parts.append(None if wavelength is None else f"{wavelength:.6g}")
    return ":".join((part or "").replace(":", "_").replace(",", "_") for part in parts).rstrip(":")


def _item_url(row: Mapping[str, Any], item_id: str, api_url: str) -> str | None:
    """The address of an item, as its own link says, else as UP42's items have it."""
    links = row.get("links")
    for link in links[:MOST_LINKS] if isinstance(links, list) else ():
        if not isinstance(link, Mapping) or link.get("rel") != "self":
            continue
        href = _text(link.get("href"), MOST_HREF) or ""
        if href.startswith(api_url) or href.startswith("https://"):
            return href
    collection_id = _id(row.get("collection"))
    if collection_id is None:
        return None
    place = f"{api_url}/v2/assets/stac/collections/{quote(collection_id, safe='')}"
    return f"{place}/items/{quote(item_id, safe='')}"


def _bbox(value: object) -> tuple[float, ...] | None:
    if not isinstance(value, list) or len(value) not in (4, 6):
        return None
    numbers = tuple(number for entry in value if (number := _number(entry)) is not None)
    return numbers if len(numbers) == len(value) else None
