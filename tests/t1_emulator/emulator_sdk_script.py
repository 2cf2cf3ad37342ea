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

    return see_orders() | see_storage(directory) | see_results() | see_catalog(directory)


def see_orders() -> dict[str, object]:
    orders = list(up42.Order.all())
    sorting = up42.OrderSorting.created_at
    fulfilled = list(up42.Order.all(status=["FULFILLED"], sort_by=sorting))
    tasking = list(up42.Order.all(order_type="TASKING", sort_by=up42.OrderSorting.status.desc))
    named = next(order for order in orders if order.display_name)
    waiting = list(up42.Order.all(sub_status=["FEASIBILITY_WAITING_UPLOAD"]))
    one = up42.Order.get(orders[0].id)
    half = next(order for order in tasking if order.status == "BEING_FULFILLED")
    coverage = up42.OrderCoverage.get(half.id)
    tagged = up42.Order.update(orders[0].id, tags=["tagged"])
    up42.Order.get(fulfilled[0].id).track()
    try:
        one.cancel()
    except up42.order.OrderCannotBeCanceled as error:
        refusal = str(error)
    return {
        "orders": [order.id for order in orders],
        "fulfilled": [order.status for order in fulfilled],
        "tasking": [order.details.acquisition_start for order in tasking],
        "by_name": named.id in [o.id for o in up42.Order.all(display_name=named.display_name)],
        "by_id": [o.id for o in up42.Order.all(ids=[orders[0].id, orders[1].id])],
        "by_tag": [o.id for o in up42.Order.all(tags=["tagged"])],
        "by_workspace": len(list(up42.Order.all(workspace_id=orders[0].workspace_id))),
        "waiting": [order.details.sub_status for order in waiting],
        "one": one.id,
        "covered": [coverage.covered.percentage, coverage.remainder.percentage],
        "covered_type": coverage.covered.geometry["type"],
        "order_tags": tagged.tags,
        "refusal": refusal,
    }


def see_storage(directory: str) -> dict[str, object]:
    client = up42.stac_client()
    collections = list(client.get_collections())
    items = list(client.search(limit=4).items())
    orders = up42.Order.all()
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
    collection = client.get_collection(collections[0].id)
    again = list(client.get_items(item.id))

    pairs = [each for each in collections if len(list(each.get_items())) == 2]
    halves = [each.id for each in pairs[0].get_items()]
    try:
        up42.BulkDeletion(halves[0]).delete()
    except up42.stac.IncompleteCollectionDeletionError as error:
        refusal = str(error)
    up42.BulkDeletion(*halves).delete()
    return {
        "collections": [each.id for each in collections],
        "collection_items": len(list(collection.get_items())),
        "collection_asset": collection.up42.asset_id,
        "items": [each.id for each in items],
        "by_item_id": [each.id for each in again],
        "item_id": item.id,
        "item_asset": item.up42.asset_id,
        "item_tags": item.up42.tags,
        "item_title": item.up42.title,
        "downloaded": Path(path).name,
        "downloaded_bytes": Path(path).read_text(),
        "half_deletion": halves[1] in refusal,
        "deleted": pairs[0].id,
        "left": [each.id for each in client.get_collections()],
    }


def see_results() -> dict[str, object]:
    job = next(iter(up42.Job.all()))
    collection = up42.Job.get(job.id).collection
    query = {"op": "=", "args": [{"property": "job_id"}, job.id]}
    results = list(up42.stac_client().search(filter=query).items())
    return {
        "job": job.id,
        "job_collection": collection.id,
        "job_collections": [item.collection_id for item in results],
        "job_items": [item.up42.job_id for item in results],
        "job_url": results[0].get_self_href(),
    }


def see_catalog(directory: str) -> dict[str, object]:
    (scene,) = up42.catalog_client().search(max_items=1).items()
    picture = scene.assets["quicklook"]
    return {
        "quicklook_href": picture.href,
        "quicklook": list(Path(picture.file.download(directory)).read_bytes()[:4]),
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]), sys.argv[2])))
