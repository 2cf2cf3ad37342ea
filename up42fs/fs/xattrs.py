"""Extended attributes of assets, orders and tags (design §2): pure functions of the catalogue.

Attributes that cost a request are only named here; `attributes` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from up42fs.archive.table import Member, MemberKind
from up42fs.model.names import mime_type
from up42fs.model.stac import NO_EPSG, StacAsset, StacItem
from up42fs.types import NO_TIME, Asset, Order

PREFIX = "user.up42."
#: Readable, but not listed: they cost a request, or are a secret that `getfattr -d` must not print.
JSON = PREFIX + "json"
STAC = PREFIX + "stac."
STAC_JSON = STAC + "json"
#: The outline of an item or of a delivery, as a GeoJSON geometry.
GEOMETRY = STAC + "geometry"
UNLISTED = frozenset({STAC_JSON, GEOMETRY})
DOWNLOAD_URL = PREFIX + "download_url"
CACHED = PREFIX + "cached"
EXPLAIN = PREFIX + "explain"
#: When which bytes of a file were fetched, and first read.
HISTORY = EXPLAIN + ".history"
#: Followed by `START-STOP`: reading it fetches the bytes [START, STOP), and no others.
FETCH = PREFIX + "fetch."
#: Of a directory: how many of its files have an unknown size, as JSON; after a dot the name of one.
SIZES = PREFIX + "sizes"
#: The same, once these sizes were learned, as far as a few seconds suffice.
FETCH_SIZES = FETCH + "sizes"
#: Followed by `START-STOP`: the bytes [START, STOP) of the file, of which it fetches no others.
BYTES = PREFIX + "bytes."
#: Followed by `START-STOP`: these bytes of the thumbnail that UP42 has, fewer at its end.
PREVIEW = PREFIX + "preview."
#: Followed by the rest of an attribute's name: the full value of a listed one that had to be cut.
WHOLE = PREFIX + "whole."
#: The most that the listed attributes of a file take on disk, bytes. ext4 stores them in a block of
#: 4096 bytes: `cp -a`, `rsync -X` and tar fail if they do not fit.
MOST_LISTED_BYTES = 3584
#: The longest value of an attribute that Linux returns, bytes.
MOST_VALUE_BYTES = 65_536
#: Marks the end of a value that was cut. No tag may contain this character: a cut list is never
#: set.
CUT = "…"
#: ext4's overhead of each name and value, and their padding.
_HEAD_BYTES, _PADDING_BYTES = 16, 4
#: Copies of other attributes for desktops, in the order in which they are left out.
_TWINS = {"user.xdg.tags": PREFIX + "tags", "user.xdg.comment": PREFIX + "title"}


def of_asset(
    asset: Asset, order: Order | None, name: str, described: StacItem | None = None
) -> dict[str, str]:
    """Listed attributes of an asset; `order` is its order if known, `name` its file name.

    `described` is what STAC says of it, if known.
    """
    own = {
        "id": asset.id,
        "kind": "asset",
        "name": asset.name,
        "title": asset.title,
        "tags": ",".join(asset.tags),
        "cnam_status": asset.cnam_status.value,
        "order_id": asset.order_id,
        "order_name": order.display_name if order else None,
        "order_status": order.status if order else None,
        "workspace_id": asset.workspace_id,
        "account_id": asset.account_id,
        "product_id": asset.product_id,
        "collection": asset.collection,
        "producer": asset.producer,
        "source": asset.source,
        "content_type": asset.content_type,
        "created_at": _stamp(asset.created_at),
        "updated_at": _stamp(asset.updated_at),
    }
    desktop = {
        "user.mime_type": mime_type(name, asset.content_type),
        "user.xdg.tags": ",".join(asset.tags),
        "user.xdg.comment": asset.title,
    }
    listed = _listed(own, desktop)
    # In this order also once STAC was read: what UP42 lists of the asset comes first, and is right.
    return listed if described is None else listed | _stac(described) | listed


def fitted(attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes to list: all, or as much as fits into `MOST_LISTED_BYTES`.

    Twins are left out first, then the longest values are cut: lists of tags after a tag.
    """
    if _most_bytes(attributes) <= MOST_LISTED_BYTES:
        return dict(attributes)
    kept = dict(attributes)
    for twin, whole in _TWINS.items():
        if listed_bytes(kept) <= MOST_LISTED_BYTES:
            return kept
        if kept.get(twin) == kept.get(whole):
            kept.pop(twin, None)
    return _shortened(kept)


def listed_bytes(attributes: Mapping[str, str]) -> int:
    """Space that attributes take in ext4, bytes; at least the total of names and values."""
    return sum(
        _HEAD_BYTES + _padded(len(name)) + _padded(len(value.encode(errors="replace")))
        for name, value in attributes.items()
    )


def _most_bytes(attributes: Mapping[str, str]) -> int:
    """No less than `listed_bytes`, quickly."""
    # Each read of one attribute comes here: three sums of C's own, not a loop of Python's.
    names_bytes, characters = sum(map(len, attributes)), sum(map(len, attributes.values()))
    return names_bytes + 4 * characters + (_HEAD_BYTES + 2 * _PADDING_BYTES) * len(attributes)


def _padded(size: int) -> int:
    return size + -size % _PADDING_BYTES


def _shortened(attributes: dict[str, str]) -> dict[str, str]:
    """Cut all values to the longest limit with which they fit."""
    short, long = 0, MOST_LISTED_BYTES
    while long - short > 1:
        middle = (short + long) // 2
        fits = listed_bytes(_limited(attributes, middle)) <= MOST_LISTED_BYTES
        short, long = (middle, long) if fits else (short, middle)
    return _limited(attributes, short)


def _limited(attributes: Mapping[str, str], most_bytes: int) -> dict[str, str]:
    return {name: cut(name, value, most_bytes) for name, value in attributes.items()}


def cut(name: str, value: str, most_bytes: int) -> str:
    """Cut `value` to at most `most_bytes` bytes, or to the mark `CUT` alone."""
    encoded = value.encode(errors="replace")
    if len(encoded) <= most_bytes:
        return value
    room = max(most_bytes - len(CUT.encode()) - 1, 0)
    head = encoded[:room].decode(errors="ignore")
    if name.endswith("tags"):
        tags, comma, _ = head.rpartition(",")
        return f"{tags},{CUT}" if comma else CUT
    return head + CUT


def of_file(
    file_id: str,
    stac: StacAsset,
    name: str,
    item: StacItem,
    asset: Asset | None,
    order: Order | None,
) -> dict[str, str]:
    """Listed attributes of a transformed file; `asset` is its delivery."""
    own = {
        "id": file_id,
        "kind": "file",
        "name": stac.key,
        "content_type": stac.media_type,
        "stac.title": stac.title,
        "stac.roles": ",".join(stac.roles),
    }
    if stac.bands or not (stac.media_type or "image/").startswith("image/"):
        item = replace(item, bands=stac.bands)
    if stac.proj_code is not None or stac.epsg is not None:
        item = replace(item, proj_code=stac.proj_code)
    if stac.gsd is not None:
        item = replace(item, gsd=stac.gsd)
    if stac.epsg is not None:
        item = replace(item, epsg=None if stac.epsg == NO_EPSG else stac.epsg)
    desktop = {"user.mime_type": mime_type(name, stac.media_type)}
    return _delivery(asset, order) | _stac(item) | _listed(own, desktop)


def of_member(asset: Asset, order: Order | None, member: Member | None) -> dict[str, str]:
    """Listed attributes of a file or directory in an archive; `asset` is the delivery.

    `member` is None for the archive's own directory.
    """
    own: dict[str, str | None] = {"id": asset.id, "kind": "member", "name": asset.name}
    if member is not None:
        own |= {"name": member.name, "member.path": member.path}
    if member is not None and member.kind is not MemberKind.DIRECTORY:
        own |= {
            "member.method": member.method.value,
            "member.compressed_size": str(member.packed_size),
            "member.crc32": None if member.crc32 is None else f"{member.crc32:08x}",
        }
    is_file = member is not None and member.kind is MemberKind.FILE
    desktop = {"user.mime_type": mime_type(member.name, None) if member and is_file else None}
    return _delivery(asset, order) | _listed(own, desktop)


def of_item_directory(asset: Asset, order: Order | None, item: StacItem | None) -> dict[str, str]:
    """Listed attributes of an asset's directory; `item` is the one it shows, if it shows one."""
    own = {
        "id": item.id if item else asset.id,
        "kind": "item",
        "name": item.title if item else None,
    }
    stac = _stac(item) if item else {}
    return _delivery(asset, order) | stac | _listed(own)


def of_order(order_id: str, order: Order | None) -> dict[str, str]:
    """Listed attributes of an order's directory; `order` is None if UP42 does not list it."""
    own: dict[str, str | None] = {"id": order_id, "kind": "order", "order_id": order_id}
    if order is not None:
        own |= {
            "name": order.display_name,
            "title": order.display_name,
            "tags": ",".join(order.tags),
            "order_name": order.display_name,
            "order_status": order.status,
            "order_type": order.type,
            "sub_status": order.sub_status,
            "image_id": order.image_id,
            "workspace_id": order.workspace_id,
            "account_id": order.account_id,
            "product_id": order.product_id,
            "created_at": _stamp(order.created_at),
            "updated_at": _stamp(order.updated_at),
        }
    desktop = {"user.xdg.tags": own.get("tags"), "user.xdg.comment": own.get("title")}
    return _listed(own, desktop)


def of_tag(tag: str) -> dict[str, str]:
    return _listed({"kind": "tag", "name": tag, "tags": tag})


def of_workspace(workspace_id: str) -> dict[str, str]:
    return _listed({"id": workspace_id, "kind": "workspace", "workspace_id": workspace_id})


def of_job(job_id: str) -> dict[str, str]:
    return _listed({"id": job_id, "kind": "job", "stac.job_id": job_id})


def _delivery(asset: Asset | None, order: Order | None) -> dict[str, str]:
    """The attributes that a transformed file or its directory shares with the delivery."""
    if asset is None:
        return {}
    shared = of_asset(asset, order, "")
    for own in ("id", "kind", "name", "content_type"):
        shared.pop(PREFIX + own, None)
    shared.pop("user.mime_type", None)
    return shared


def _stac(item: StacItem) -> dict[str, str]:
    bbox = ",".join(f"{degrees:.12g}" for degrees in item.bbox or ())
    own = {
        # A file of a collection itself has no item (`model.stac.as_item`).
        "item_id": item.id if item.id != item.collection_id else None,
        "collection_id": item.collection_id,
        "datetime": _stamp(item.datetime) if item.datetime else None,
        "platform": item.platform,
        "constellation": item.constellation,
        "gsd": _number(item.gsd),
        "cloud_cover": _number(item.cloud_cover),
        "epsg": _number(item.epsg),
        "proj_code": item.proj_code or (f"EPSG:{item.epsg}" if item.epsg else None),
        "bbox": bbox,
        "bands": ",".join(item.bands),
        "title": item.title,
        "modality": item.modality,
        "job_id": item.job_id,
        "url": item.url,
    }
    return _listed({f"stac.{key}": value for key, value in own.items()})


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.12g}"


def _listed(
    own: Mapping[str, str | None], desktop: Mapping[str, str | None] | None = None
) -> dict[str, str]:
    """Those attributes that have a value; `own` ones get up42fs's prefix."""
    prefixed = {PREFIX + key: value for key, value in own.items()}
    return {key: value for key, value in {**prefixed, **(desktop or {})}.items() if value}


def _stamp(moment: datetime) -> str | None:
    if moment == NO_TIME:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
