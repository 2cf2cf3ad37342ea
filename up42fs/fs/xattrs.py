"""Extended attributes of assets, orders and tags (design §2): pure functions of the catalogue.

Knows nothing of the kernel's buffers or of attributes that cost a request; those are named here
and answered by `filesystem`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from up42fs.core.names import mime_type
from up42fs.types import Asset, Order

PREFIX = "user.up42."
#: Readable, not listed: they cost a request, or are a secret that `getfattr -d` must not print.
JSON = PREFIX + "json"
DOWNLOAD_URL = PREFIX + "download_url"
CACHED = PREFIX + "cached"


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


def _present(attributes: dict[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in attributes.items() if value}


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
