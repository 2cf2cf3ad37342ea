"""`/v2/catalog`: the STAC API of scenes that can be ordered, and their quicklooks (contract §14).

Scenes are the storage's own, as if each had been ordered from here. The links of their pictures end
in `/download-url`, which no other link needs to.
"""

from __future__ import annotations

from typing import Any

from up42fs.emulator import objects, stac_json
from up42fs.emulator.clock import format_offset
from up42fs.emulator.content import BytesContent
from up42fs.emulator.service import ApiError, Endpoint, ReceivedCall, json_response
from up42fs.emulator.stac_json import PIXEL, link
from up42fs.emulator.storage import Item, StacFile, stable_id
from up42fs.emulator.wire import Response

BASE = "/v2/catalog"
_GEO = "application/geo+json"
_PICTURES = ("thumbnail", "quicklook")
_MOST = 100


def _landing(call: ReceivedCall) -> Response:
    return json_response(
        {
            "type": "Catalog",
            "id": "up42-catalog",
            "title": "UP42 Catalog",
            "description": "UP42 Catalog STAC API",
            "stac_version": stac_json.VERSION,
            "stac_extensions": [],
            "conformsTo": list(stac_json.CONFORMANCE),
            "links": [*_links(call), link("search", _url(call, "/search"), _GEO, method="POST")],
        }
    )


def _search(call: ReceivedCall) -> Response:
    body = call.json() if call.request.method == "POST" else dict(call.request.query)
    try:
        limit = min(int(body.get("limit") or stac_json.DEFAULT_LIMIT), _MOST)
    except (TypeError, ValueError):
        raise ApiError(400, "limit: not a number") from None
    ids = body.get("ids")
    items = [item for item in call.storage.items.values() if not ids or item.id in ids]
    features = [_scene(call, item) for item in items[:limit]]
    answer = {"type": "FeatureCollection", "features": features, "links": _links(call)}
    return json_response(answer, media_type=_GEO)


def _scene(call: ReceivedCall, item: Item) -> dict[str, Any]:
    asset = call.storage.asset_of_item(item)
    collection = asset.collection or "unknown"
    place = _url(call, f"/collections/{collection}/items/{item.id}")
    return {
        "type": "Feature",
        "stac_version": stac_json.VERSION,
        "stac_extensions": [],
        "id": item.id,
        "collection": collection,
        "bbox": list(item.bbox),
        "geometry": stac_json.footprint(item),
        "properties": {"datetime": format_offset(item.datetime_us), **item.properties},
        "assets": {
            role: {
                "href": f"{place}/{role}/download-url",
                "type": "image/png",
                "roles": [role],
                "title": role.capitalize(),
            }
            for role in _PICTURES
        },
        "links": [link("self", place, _GEO), link("root", _url(call, "/"))],
    }


def _picture(call: ReceivedCall) -> Response:
    """Sign a link to a scene's thumbnail or quicklook."""
    item = call.storage.items.get(call.params["item"])
    if item is None or call.params["role"] not in _PICTURES:
        raise ApiError(404, f"{call.request.path} not found.")
    key = f"{call.params['role']}_{item.id[:8]}.png"
    picture = StacFile(key, stable_id(f"{key} {item.id}"), "image/png")
    if picture.id not in call.storage.objects_by_file:
        call.storage.put_stac_file(picture, BytesContent(PIXEL), item.datetime_us)
    stored = call.storage.objects_by_file[picture.id]
    return json_response({"url": objects.sign(call.service, stored, call.strikes)})


def _links(call: ReceivedCall) -> list[dict[str, Any]]:
    return [link("self", _url(call, "/")), link("root", _url(call, "/"))]


def _url(call: ReceivedCall, path: str) -> str:
    return f"{call.service.public_url}{BASE}{path}"


ROUTES = (
    Endpoint("GET", BASE, "catalog.landing", _landing),
    Endpoint("GET", f"{BASE}/", "catalog.landing", _landing),
    Endpoint("GET", f"{BASE}/search", "catalog.search", _search),
    Endpoint("POST", f"{BASE}/search", "catalog.search", _search),
    Endpoint(
        "POST",
        f"{BASE}/collections/{{collection}}/items/{{item}}/{{role}}/download-url",
        "catalog.sign",
        _picture,
    ),
)
