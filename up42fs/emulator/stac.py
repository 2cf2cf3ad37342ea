"""`/v2/assets/stac`: landing page, collections, items, search, and their few writes (contract §5).

Pages are by key: a token names the last object of the previous page, so pages are stable against
inserts, and a token is refused (400) once its object is deleted. Knows nothing of links to bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from up42fs.emulator import assets, cql, stac_json
from up42fs.emulator.clock import parse_us
from up42fs.emulator.geometry import boxes_intersect, intersects_box
from up42fs.emulator.service import ApiError, Endpoint, ReceivedCall, json_response
from up42fs.emulator.stac_json import BASE, DEFAULT_LIMIT, link
from up42fs.emulator.storage import Collection, Item
from up42fs.emulator.wire import Request, Response

_GEO = "application/geo+json"

Row = TypeVar("Row", Collection, Item)


@dataclass(frozen=True, slots=True)
class _Page:
    rows: Sequence[Any]
    next_token: str | None
    prev_token: str | None


# -- reading


def _landing(call: ReceivedCall) -> Response:
    return json_response(stac_json.landing(call.service.public_url))


def _queryables(call: ReceivedCall) -> Response:
    answer = stac_json.queryables(call.service.public_url)
    return json_response(answer, media_type="application/schema+json")


def _collections(call: ReceivedCall) -> Response:
    workspace = call.request.get("workspace_id")
    storage, api_url = call.storage, call.service.public_url

    def compute() -> list[Collection]:
        rows = storage.collections.values()
        mine = [c for c in rows if workspace in (None, storage.assets[c.asset_id].workspace_id)]
        return sorted(mine, key=_newest_first)

    rows = storage.query(("collections", workspace), compute)
    page = _page(call, rows, call.request.get("limit"), call.request.get("token"))
    links = _links(call, "/collections", parent=f"{api_url}{BASE}/")
    links += _get_page_links(call, "/collections", page)
    documents = [stac_json.collection_json(storage, row, api_url, call.faults) for row in page.rows]
    return json_response({"collections": documents, "links": links})


def _collection(call: ReceivedCall) -> Response:
    row = _collection_row(call)
    api_url = call.service.public_url
    return json_response(stac_json.collection_json(call.storage, row, api_url, call.faults))


def _items(call: ReceivedCall) -> Response:
    collection = _collection_row(call)
    path = f"/collections/{collection.id}/items"
    page = _page(call, collection.items, call.request.get("limit"), call.request.get("token"))
    parent = f"{call.service.public_url}{BASE}/collections/{collection.id}"
    links = _links(call, path, parent) + _get_page_links(call, path, page)
    return _features(call, page.rows, links)


def _item(call: ReceivedCall) -> Response:
    api_url = call.service.public_url
    document = stac_json.item_json(call.storage, _item_row(call), api_url, call.faults)
    return json_response(document, media_type=_GEO)


def _search_post(call: ReceivedCall) -> Response:
    body = call.json()
    if not isinstance(body, dict):
        raise ApiError(400, "The body is a JSON object.")
    page = _page(call, _found(call, body), body.get("limit"), body.get("token"))
    href = _next_href(call, "/search")
    links = _links(call, "/search", f"{call.service.public_url}{BASE}/")
    for rel, token in (("next", page.next_token), ("prev", page.prev_token)):
        if token is not None:
            links.append(link(rel, href, method="POST", body={**body, "token": token}))
    return _features(call, page.rows, links)


def _search_get(call: ReceivedCall) -> Response:
    body = _body_of_query(call.request)
    page = _page(call, _found(call, body), body.get("limit"), body.get("token"))
    links = _links(call, "/search", f"{call.service.public_url}{BASE}/")
    links += _get_page_links(call, "/search", page)
    return _features(call, page.rows, links)


# -- writing


def _patch_item(call: ReceivedCall) -> Response:
    item, body = _item_row(call), call.json()
    if not isinstance(body, dict):
        raise ApiError(400, "The body is a JSON object with up42-user:title and/or :tags.")
    changes = {
        key: body[f"up42-user:{key}"] for key in ("title", "tags") if f"up42-user:{key}" in body
    }
    assets.check_metadata(changes)
    changes = assets.whole_edit(changes, call.faults)
    asset = call.storage.asset_of_item(item)
    call.storage.set_metadata(asset.id, changes, call.service.now_us())
    return _item(call)


def _delete_collection(call: ReceivedCall) -> Response:
    call.storage.remove_collection(_collection_row(call).id)
    return Response(204)


# -- rows


def _collection_row(call: ReceivedCall) -> Collection:
    row = call.storage.collections.get(call.params["collection"])
    if row is None:
        raise ApiError(404, f"Collection {call.params['collection']} not found.")
    return row


def _item_row(call: ReceivedCall) -> Item:
    row = call.storage.items.get(call.params["item"])
    if row is None or row.collection_id != call.params["collection"]:
        raise ApiError(404, f"Item {call.params['item']} not found.")
    return row


def _newest_first(collection: Collection) -> tuple[int, str]:
    return (-collection.created_us, collection.id)


def _all_items(call: ReceivedCall) -> list[Item]:
    def compute() -> list[Item]:
        collections = sorted(call.storage.collections.values(), key=_newest_first)
        return [item for collection in collections for item in collection.items]

    return call.storage.query("items", compute)


def _found(call: ReceivedCall, body: dict[str, Any]) -> list[Item]:
    question = {key: body[key] for key in body if key not in ("token", "limit")}

    def compute() -> list[Item]:
        _refuse_operators(call, body)
        tests = _tests(call, body)
        rows = [item for item in _candidates(call, body) if all(test(item) for test in tests)]
        return _sorted(call, rows, body.get("sortby"))

    try:
        key = ("search", json.dumps(question, sort_keys=True))
        return call.storage.query(key, compute)
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError(400, f"Invalid search: {error}") from None


def _candidates(call: ReceivedCall, body: dict[str, Any]) -> list[Item]:
    """Return the items among which a search can match, few for clients' usual searches."""
    collections = call.storage.collections
    if body.get("collections"):
        named = [collections[key] for key in body["collections"] if key in collections]
        return [item for row in sorted(named, key=_newest_first) for item in row.items]
    expression = cql.unwrap(body.get("filter"))
    asset_id = cql.equal_to(expression, "asset_id") if expression else None
    if asset_id is not None:
        of_asset = call.storage.collections_of_asset.get(asset_id, ())
        rows = sorted((collections[key] for key in of_asset), key=_newest_first)
        return [item for row in rows for item in row.items]
    asset_ids = cql.among(expression, "asset_id") if expression else None
    if asset_ids is not None:
        of_assets = call.storage.collections_of_asset
        keys = {key for id_ in asset_ids for key in of_assets.get(id_, ())}
        rows = sorted((collections[key] for key in keys), key=_newest_first)
        return [item for row in rows for item in row.items]
    order_id = cql.equal_to(expression, "order_id") if expression else None
    return _all_items(call) if order_id is None else _items_by_order(call).get(order_id, [])


def _items_by_order(call: ReceivedCall) -> dict[str | None, list[Item]]:
    def compute() -> list[dict[str | None, list[Item]]]:
        found: dict[str | None, list[Item]] = {}
        for item in _all_items(call):
            order_id = stac_json.queryable_values(call.storage, item, call.faults)["order_id"]
            found.setdefault(order_id, []).append(item)
        return [found]

    return call.storage.query("items by order", compute)[0]


def _tests(call: ReceivedCall, body: dict[str, Any]) -> list[Callable[[Item], bool]]:
    tests: list[Callable[[Item], bool]] = []
    if body.get("ids"):
        tests.append(lambda item: item.id in body["ids"])
    if body.get("collections"):
        tests.append(lambda item: item.collection_id in body["collections"])
    if body.get("bbox"):
        box = _box(body["bbox"])
        tests.append(lambda item: boxes_intersect(item.bbox, box))
    if body.get("intersects"):
        tests.append(lambda item: intersects_box(body["intersects"], item.bbox))
    if body.get("datetime"):
        first_us, last_us = _interval(body["datetime"])
        tests.append(lambda item: first_us <= item.datetime_us <= last_us)
    expression = cql.unwrap(body.get("filter"))
    if expression is not None:
        tests.append(
            lambda item: cql.holds(
                expression, stac_json.queryable_values(call.storage, item, call.faults)
            )
        )
    return tests


def _refuse_operators(call: ReceivedCall, body: dict[str, Any]) -> None:
    """Refuse operators of CQL2 by switch, of classes that not every server implements."""
    expression = cql.unwrap(body.get("filter"))
    faults = call.faults
    refusals = (
        (faults.in_refused, {"in"}),
        (faults.null_refused, {"isnull"}),
        (faults.advanced_refused, cql.ADVANCED),
    )
    for status, operators in refusals:
        if status is not None and cql.uses(expression, operators):
            raise ApiError(status, "filter: an operator in it is not supported")


def _box(values: Sequence[float]) -> tuple[float, float, float, float]:
    numbers = [float(value) for value in values]
    if len(numbers) == 6:
        numbers = [*numbers[:2], *numbers[3:5]]
    west, south, east, north = numbers
    return west, south, east, north


def _interval(text: str) -> tuple[int, int]:
    """Return first and last microsecond of a STAC datetime: a time, or `start/end` with `..`."""
    first, slash, last = text.partition("/")
    if not slash:
        return parse_us(first), parse_us(first)
    return (
        parse_us(first) if first not in ("", "..") else -(1 << 62),
        parse_us(last) if last not in ("", "..") else 1 << 62,
    )


def _sorted(call: ReceivedCall, rows: list[Item], sortby: Any) -> list[Item]:
    for rule in reversed(sortby or []):
        name = str(rule["field"]).removeprefix("properties.")
        descending = str(rule.get("direction", "asc")).lower() == "desc"
        rows = sorted(rows, key=lambda item: _sort_value(call, item, name), reverse=descending)
    return rows


def _sort_value(call: ReceivedCall, item: Item, name: str) -> tuple[bool, Any]:
    values: Mapping[str, Any] = stac_json.queryable_values(call.storage, item, call.faults)
    value = item.bbox if name == "bbox" else values.get(name, item.properties.get(name))
    return (value is None, value if value is not None else 0)


def _body_of_query(request: Request) -> dict[str, Any]:
    """Return the POST body that is equivalent to a GET search."""
    query = dict(request.query)
    body: dict[str, Any] = {k: v for k, v in query.items() if k in ("datetime", "limit", "token")}
    for key in ("ids", "collections", "bbox"):
        if query.get(key):
            body[key] = query[key].split(",")
    try:
        if query.get("intersects"):
            body["intersects"] = json.loads(query["intersects"])
        if query.get("filter"):
            text = query["filter"]
            body["filter"] = json.loads(text) if text[0] == "{" else cql.parse_text(text)
    except ValueError as error:
        raise ApiError(400, f"Invalid search: {error}") from None
    if query.get("sortby"):
        body["sortby"] = [
            {"field": name.lstrip("+- "), "direction": "desc" if name[0] == "-" else "asc"}
            for name in query["sortby"].split(",")
        ]
    return body


# -- pages


def _page(call: ReceivedCall, rows: Sequence[Row], limit: Any, token: Any) -> _Page:
    count = _limit(call, limit)
    start = 0
    if token:
        direction, _, last_id = str(token).partition(":")
        at = next((n for n, row in enumerate(rows) if row.id == last_id), None)
        if at is None or direction not in ("next", "prev"):
            raise ApiError(400, f"Invalid token {token}")
        start = at + 1 if direction == "next" else max(0, at - count)
    page = rows[start : start + count]
    has_more = start + count < len(rows)
    return _Page(
        page,
        f"next:{page[-1].id}" if page and has_more else None,
        f"prev:{page[0].id}" if page and start > 0 else None,
    )


def _limit(call: ReceivedCall, limit: Any) -> int:
    try:
        count = DEFAULT_LIMIT if limit in (None, "") else int(limit)
    except (TypeError, ValueError):
        raise ApiError(400, f"limit: not a number: {limit}") from None
    error_above = call.faults.page_size_error_above
    if count < 1 or (error_above is not None and count > error_above):
        raise ApiError(400, f"limit: {count} is out of range")
    return min(count, call.faults.max_page_size)


def _features(call: ReceivedCall, rows: Sequence[Item], links: list[dict[str, Any]]) -> Response:
    api_url = call.service.public_url
    features = [stac_json.item_json(call.storage, row, api_url, call.faults) for row in rows]
    answer = {"features": features, "links": links, "type": "FeatureCollection"}
    return json_response(answer, media_type=_GEO)


def _links(call: ReceivedCall, path: str, parent: str) -> list[dict[str, Any]]:
    base = call.service.public_url + BASE
    return [link("root", f"{base}/"), link("parent", parent), link("self", base + path)]


def _get_page_links(call: ReceivedCall, path: str, page: _Page) -> list[dict[str, Any]]:
    """Return next and previous links of a GET list: the same query with a token."""
    kept = [pair for pair in call.request.query if pair[0] != "token"]
    links = []
    for rel, token in (("next", page.next_token), ("prev", page.prev_token)):
        if token is not None:
            query = urlencode([*kept, ("token", token)], safe=":")
            links.append(link(rel, _next_href(call, path, f"?{query}"), method="GET"))
    return links


def _next_href(call: ReceivedCall, path: str, query: str = "") -> str:
    """A link to another page in the style of `next_link`; short ones need the request's URL."""
    style = call.faults.next_link
    if style == "query":
        return query
    if style == "relative":
        return path.rpartition("/")[2] + query
    if style == "path":
        return f"{BASE}{path}{query}"
    return f"{_next_base(call)}{path}{query}"


def _next_base(call: ReceivedCall) -> str:
    """Return the base of next links; by switch `http` and without a port.

    A client that follows such a link unchanged, instead of sending its token to its own host,
    reaches no server.
    """
    if call.faults.http_next_link:
        return f"http://127.0.0.1{BASE}"
    return call.service.public_url + BASE


_ONE = f"{BASE}/collections/{{collection}}"

ROUTES = (
    Endpoint("GET", BASE, "stac.landing", _landing),
    Endpoint("GET", f"{BASE}/", "stac.landing", _landing),
    Endpoint("GET", f"{BASE}/queryables", "stac.queryables", _queryables),
    Endpoint("GET", f"{BASE}/collections", "stac.collections", _collections),
    Endpoint("GET", _ONE, "stac.collection", _collection),
    Endpoint("DELETE", _ONE, "stac.delete", _delete_collection),
    Endpoint("GET", f"{_ONE}/items", "stac.items", _items),
    Endpoint("GET", f"{_ONE}/items/{{item}}", "stac.item", _item),
    Endpoint("PATCH", f"{_ONE}/items/{{item}}", "stac.update", _patch_item),
    Endpoint("POST", f"{BASE}/search", "stac.search", _search_post),
    Endpoint("GET", f"{BASE}/search", "stac.search", _search_get),
)
