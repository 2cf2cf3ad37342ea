"""Extended attributes of assets, orders and tags (design §2): pure functions of the catalogue.

Knows nothing of the kernel's buffers or of attributes that cost a request; those are named here
and answered by `filesystem`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from up42fs.core.names import mime_type
from up42fs.core.stac import StacAsset, StacItem
from up42fs.types import Asset, Order

PREFIX = "user.up42."
#: Readable, not listed: they cost a request, or are a secret that `getfattr -d` must not print.
JSON = PREFIX + "json"
STAC_JSON = PREFIX + "stac.json"
DOWNLOAD_URL = PREFIX + "download_url"
CACHED = PREFIX + "cached"
EXPLAIN = PREFIX + "explain"
#: With `START-STOP` behind it: the bytes [START, STOP) are fetched, and no others.
FETCH = PREFIX + "fetch."


def of_asset(asset: Asset, order: Order | None, name: str) -> dict[str, str]:
    """Listed attributes of an asset; `order` is its order where known, `name` its file name."""
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
    return _present({PREFIX + key: value for key, value in own.items()} | desktop)


def of_file(
    file_id: str,
    stac: StacAsset,
    name: str,
    item: StacItem,
    asset: Asset | None,
    order: Order | None,
) -> dict[str, str]:
    """Listed attributes of a transformed file; `asset` is the delivery it was made from."""
    own = {
        "id": file_id,
        "kind": "file",
        "name": stac.key,
        "content_type": stac.media_type,
        "stac.title": stac.title,
        "stac.roles": ",".join(stac.roles),
    }
    listed = {PREFIX + key: value for key, value in own.items()}
    desktop = {"user.mime_type": mime_type(name, stac.media_type)}
    return _delivery(asset, order) | _stac(item) | _present(listed | desktop)


def of_item_directory(asset: Asset, order: Order | None, item: StacItem | None) -> dict[str, str]:
    """Listed attributes of an asset's directory; `item` is the one it shows, where that is so."""
    own = {
        "id": item.id if item else asset.id,
        "kind": "item",
        "name": item.title if item else None,
    }
    stac = _stac(item) if item else {}
    return _delivery(asset, order) | stac | _present({PREFIX + k: v for k, v in own.items()})


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
            "workspace_id": order.workspace_id,
            "account_id": order.account_id,
            "product_id": order.product_id,
            "created_at": _stamp(order.created_at),
            "updated_at": _stamp(order.updated_at),
        }
    listed = {PREFIX + key: value for key, value in own.items()}
    return _present(
        listed | {"user.xdg.tags": own.get("tags"), "user.xdg.comment": own.get("title")}
    )


def of_tag(tag: str) -> dict[str, str]:
    """Listed attributes of a tag's directory."""
    return {PREFIX + "kind": "tag", PREFIX + "name": tag, PREFIX + "tags": tag}


def _delivery(asset: Asset | None, order: Order | None) -> dict[str, str]:
    """What a transformed file or its directory shares with the delivery."""
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
        "item_id": item.id,
        "collection_id": item.collection_id,
        "datetime": _stamp(item.datetime) if item.datetime else None,
        "platform": item.platform,
        "constellation": item.constellation,
        "gsd": _number(item.gsd),
        "cloud_cover": _number(item.cloud_cover),
        "epsg": _number(item.epsg),
        "bbox": bbox,
        "title": item.title,
    }
    return _present({PREFIX + "stac." + key: value for key, value in own.items()})


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.12g}"


def _present(attributes: dict[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in attributes.items() if value}


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
