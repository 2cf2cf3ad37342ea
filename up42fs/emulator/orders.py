"""`/v2/orders`: list, one, coverage, tags and budget, cancellation (contract §4).

Knows nothing of assets but their IDs, which orders contain only by switch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from up42fs.emulator import pages
from up42fs.emulator.clock import format_z
from up42fs.emulator.geometry import Box, polygon
from up42fs.emulator.service import ApiError, Endpoint, ReceivedCall, json_response
from up42fs.emulator.stac_json import is_on
from up42fs.emulator.storage import EmulatedOrder
from up42fs.emulator.wire import Request, Response

SORTABLE: dict[str, Callable[[EmulatedOrder], Any]] = {
    "createdAt": lambda o: o.created_us,
    "updatedAt": lambda o: o.updated_us,
    "type": lambda o: o.type,
    "status": lambda o: o.status,
}


def render(call: ReceivedCall, order: EmulatedOrder) -> dict[str, Any]:
    """Return the order object of contract §4.2; `assets` by switch."""
    row: dict[str, Any] = {
        "id": order.id,
        "workspaceId": order.workspace_id,
        "accountId": order.account_id,
        "displayName": order.display_name,
        "type": order.type,
        "status": order.status,
        "dataProductId": order.data_product_id,
        "createdAt": format_z(order.created_us),
        "updatedAt": format_z(order.updated_us),
        "createdBy": {"id": order.workspace_id, "type": "USER"},
        "updatedBy": {"id": "system", "type": "INTERNAL"},
        "tags": order.tags,
        "budgetId": order.budget_id,
        "orderDetails": order.details,
        **order.more,
    }
    if order.details is None:
        del row["orderDetails"]
    if call.faults.order_assets:
        row["assets"] = [asset.id for asset in call.storage.assets_of_order(order.id)]
    absent = order.absent
    if is_on(call.faults.bare_orders, order.id):
        absent |= {"createdAt", "updatedAt", "orderDetails"}
    return {key: value for key, value in row.items() if key not in absent}


def _list(call: ReceivedCall) -> Response:
    return pages.one_page(
        call,
        "orders",
        call.storage.orders.values(),
        tests=_filters(call.request),
        sortable=SORTABLE,
        render=lambda order: render(call, order),
    )


def _filters(request: Request) -> list[Callable[[EmulatedOrder], bool]]:
    tests: list[Callable[[EmulatedOrder], bool]] = []
    workspace = pages.uuid_value(request, "workspaceId")
    if workspace is not None:
        tests.append(lambda o: o.workspace_id == workspace)
    name = (request.get("displayName") or "").lower()
    if name:
        tests.append(lambda o: name in (o.display_name or "").lower())
    for key, values in _LISTS.items():
        wanted = set(request.values(key))
        if wanted:
            tests.append(lambda o, w=wanted, v=values: not w.isdisjoint(v(o)))  # type: ignore[misc]
    return tests


_LISTS: dict[str, Callable[[EmulatedOrder], tuple[str | None, ...]]] = {
    "type": lambda o: (o.type,),
    "status": lambda o: (o.status,),
    "subStatus": lambda o: ((o.details or {}).get("subStatus"),),
    "tags": lambda o: tuple(o.tags or ()),
    "budgetIds": lambda o: (o.budget_id,),
    "orderIds": lambda o: (o.id,),
}


def _order(call: ReceivedCall) -> EmulatedOrder:
    order = call.storage.orders.get(call.params["id"])
    if order is None:
        raise ApiError(404, f"Order {call.params['id']} not found.")
    return order


def _get(call: ReceivedCall) -> Response:
    return json_response(render(call, _order(call)))


def _coverage(call: ReceivedCall) -> Response:
    """What of a tasking's area was delivered, and what was not (contract §14).

    Half of it while the order is being fulfilled: the western half.
    """
    order = _order(call)
    ring = _ring(order)
    if order.type != "TASKING" or ring is None or call.faults.coverage_shape == "404":
        raise ApiError(404, f"Order {order.id} has no coverage.")
    share = {"FULFILLED": 1.0, "BEING_FULFILLED": 0.5}.get(order.status, 0.0)
    west, south, east, north = ring
    middle = west + (east - west) * share
    sq_km = (east - west) * (north - south) * 111.2**2 * math.cos(math.radians(south))
    parts = {"covered": (west, middle, share), "remainder": (middle, east, 1 - share)}
    return json_response(
        {
            name: {
                "sqKmArea": round(sq_km * part, 3),
                "percentage": 100 * part,
                "geometry": _area(call, (left, south, right, north) if part else None),
            }
            for name, (left, right, part) in parts.items()
        }
    )


def _ring(order: EmulatedOrder) -> Box | None:
    geometry = (order.details or {}).get("geometry") or {}
    if geometry.get("type") != "Polygon":
        return None
    longitudes, latitudes = zip(*geometry["coordinates"][0], strict=True)
    return min(longitudes), min(latitudes), max(longitudes), max(latitudes)


def _area(call: ReceivedCall, box: Box | None) -> dict[str, Any]:
    """A box, or nothing, as a feature collection or by switch as a geometry."""
    shapes = [] if box is None else [polygon(box)]
    if call.faults.coverage_shape == "geometry":
        return {"type": "MultiPolygon", "coordinates": [shape["coordinates"] for shape in shapes]}
    features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
    return {"type": "FeatureCollection", "features": features}


def _patch(call: ReceivedCall) -> Response:
    order, body = _order(call), call.json()
    if not isinstance(body, dict):
        raise ApiError(400, "The body is a JSON object with tags and/or budgetId.")
    if "tags" in body:
        order.tags = body["tags"]
    if "budgetId" in body:
        order.budget_id = body["budgetId"]
    call.storage.progress_order(order.id, order.status, call.service.now_us())
    return json_response(render(call, order))


def _cancel(call: ReceivedCall) -> Response:
    order = _order(call)
    if order.status not in ("CREATED", "PLACEMENT_FAILED"):
        raise ApiError(409, f"Order {order.id} is {order.status} and cannot be canceled.")
    call.storage.progress_order(order.id, "CANCELED", call.service.now_us())
    return json_response({"orderId": order.id, "status": order.status})


ROUTES = (
    Endpoint("GET", "/v2/orders", "orders.list", _list),
    Endpoint("GET", "/v2/orders/{id}", "orders.get", _get),
    Endpoint("GET", "/v2/coverage/orders/{id}", "orders.coverage", _coverage),
    Endpoint("PATCH", "/v2/orders/{id}", "orders.update", _patch),
    Endpoint("POST", "/v2/orders/{id}/cancellation", "orders.cancel", _cancel),
)
