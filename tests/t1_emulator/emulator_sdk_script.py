"""Runs in its own process: UP42's SDK against the emulator; prints what it saw as JSON.

The SDK fixes its hosts in `up42.host`; its modules look the functions up there at each call, so
giving that module other functions points all of it elsewhere.
"""

import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")  # the SDK's own deprecations

import up42  # type: ignore[import-untyped]  # noqa: E402
from up42 import host  # noqa: E402


def main(ready: dict[str, str], directory: str) -> dict[str, object]:
    realm = ready["auth_url"] + "/realms/public/protocol/openid-connect"
    host.endpoint = lambda path: ready["api_url"] + path
    host.token_endpoint = lambda: realm + "/token"
    host.user_info_endpoint = lambda: realm + "/userinfo"
    up42.authenticate(username=ready["username"], password=ready["password"])

    orders = list(up42.Order.all())
    fulfilled = list(up42.Order.all(status=["FULFILLED"], sort_by=up42.OrderSorting.created_at))
    one = up42.Order.get(orders[0].id)

    client = up42.stac_client()
    collections = list(client.get_collections())
    items = list(client.search(limit=4).items())
    order_id = next(o.id for o in orders if (o.display_name or "").startswith("Sentinel-2"))
    found = list(
        client.search(filter={"op": "=", "args": [{"property": "order_id"}, order_id]}).items()
    )
    (item,) = found
    image = item.assets["tileinfo.json"].file
    path = image.download(directory)

    item.properties["up42-user:title"] = "Retitled by the SDK"
    item.properties["up42-user:tags"] = ["by sdk", "a/b"]
    item.update()
    tagged = up42.Order.update(orders[0].id, tags=["tagged"])
    return {
        "orders": [order.id for order in orders],
        "fulfilled": [order.status for order in fulfilled],
        "one": one.id,
        "collections": [collection.id for collection in collections],
        "collection_items": len(list(collections[0].get_items())),
        "items": [each.id for each in items],
        "item_asset": item.up42.asset_id,
        "item_tags": item.up42.tags,
        "item_title": item.up42.title,
        "downloaded": Path(path).name,
        "downloaded_bytes": Path(path).read_text(),
        "order_tags": tagged.tags,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]), sys.argv[2])))
