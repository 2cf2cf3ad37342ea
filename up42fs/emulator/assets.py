"""`/v2/assets`: list, metadata, direct download, signed links (contract §2, §3).

Knows nothing of how links are checked; `objects` makes and checks them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from up42fs.emulator import objects, pages
from up42fs.emulator.clock import format_z
from up42fs.emulator.faults import Faults
from up42fs.emulator.service import ApiError, Endpoint, ReceivedCall, json_response
from up42fs.emulator.storage import EmulatedAsset
from up42fs.emulator.wire import Request, Response, Slice

SORTABLE: dict[str, Callable[[EmulatedAsset], Any]] = {
    "id": lambda a: a.id,
    "name": lambda a: a.name,
    "title": lambda a: a.title,
    "size": lambda a: a.size,
    "createdAt": lambda a: a.created_us,
    "updatedAt": lambda a: a.updated_us,
    "source": lambda a: a.source,
    "collectionName": lambda a: a.collection,
    "producerName": lambda a: a.producer,
    "contentType": lambda a: a.content_type,
    "orderId": lambda a: a.order_id,
    "productId": lambda a: a.product_id,
}
#: Letters, digits, spaces and `. - _ / :` (contract §3.2).
_TAG = re.compile(r"[\w .\-/:]+")


def render(asset: EmulatedAsset, faults: Faults) -> dict[str, Any]:
    """Return the asset object of contract §2.2."""
    absent = asset.absent | ({"name"} if faults.assets_without_names else frozenset())
    row = {
        "id": asset.id,
        "accountId": asset.account_id,
        "createdAt": format_z(asset.created_us, asset.fraction_digits),
        "name": asset.name,
        "size": asset.size,
        "updatedAt": format_z(asset.updated_us, asset.fraction_digits),
        "workspaceId": asset.workspace_id,
        "orderId": asset.order_id,
        "source": asset.source,
        "productId": asset.product_id,
        "contentType": faults.content_type_says or asset.content_type,
        "producerName": asset.producer,
        "collectionName": asset.collection,
        "geospatialMetadataExtractionStatus": asset.status,
        "title": asset.title,
        "tags": asset.tags,
    }
    return {key: value for key, value in row.items() if key not in absent}


def _list(call: ReceivedCall) -> Response:
    _refuse_if_gone(call)
    return pages.one_page(
        call,
        "assets",
        call.storage.assets.values(),
        tests=_filters(call.request),
        sortable=SORTABLE,
        render=lambda asset: render(asset, call.faults),
    )


def _filters(request: Request) -> list[Callable[[EmulatedAsset], bool]]:
    tests: list[Callable[[EmulatedAsset], bool]] = []
    workspace = pages.uuid_value(request, "workspaceId")
    after, before = (
        pages.moment_us(request, "createdAfter"),
        pages.moment_us(request, "createdBefore"),
    )
    if workspace is not None:
        tests.append(lambda a: a.workspace_id == workspace)
    if after is not None:
        tests.append(lambda a: a.created_us >= after)
    if before is not None:
        tests.append(lambda a: a.created_us <= before)
    tests += _any_of(request, "collectionNames", lambda a: (a.collection,))
    tests += _any_of(request, "producerNames", lambda a: (a.producer,))
    tests += _any_of(request, "tags", lambda a: tuple(a.tags or ()))
    tests += _any_of(request, "sources", lambda a: (a.source,))
    tests += _any_of(request, "geospatialMetadataExtractionStatus", lambda a: (a.status,))
    search = (request.get("search") or "").lower()
    if search:
        tests.append(lambda a: any(search in (text or "").lower()
                                   for text in (a.name, a.title, a.order_id)))  # fmt: skip
    return tests


def _any_of(
    request: Request, key: str, values: Callable[[EmulatedAsset], tuple[str | None, ...]]
) -> list[Callable[[EmulatedAsset], bool]]:
    wanted = set(request.values(key))
    return [lambda a: not wanted.isdisjoint(values(a))] if wanted else []


def _metadata(call: ReceivedCall) -> Response:
    _refuse_if_gone(call)
    return json_response(_row(call))


def _row(call: ReceivedCall) -> dict[str, Any]:
    file_id = call.params["id"]
    asset = call.storage.assets.get(file_id)
    if asset is not None:
        return render(asset, call.faults)
    stored = call.storage.objects_by_file.get(file_id)
    if stored is None or not call.faults.stac_asset_metadata:
        raise ApiError(404, f"Asset {file_id} not found.")
    account = call.storage.account
    moment = format_z(stored.modified_us)
    return {
        "id": file_id, "accountId": account.account_id, "workspaceId": account.workspace_id,
        "createdAt": moment, "updatedAt": moment, "name": stored.filename,
        "size": stored.content.size, "contentType": stored.media_type,
    }  # fmt: skip


def _set_metadata(call: ReceivedCall) -> Response:
    _refuse_if_gone(call)
    body = call.json()
    if not isinstance(body, dict):
        raise ApiError(400, "The body is a JSON object with title and/or tags.")
    changes = {key: body[key] for key in ("title", "tags") if key in body}
    check_metadata(changes)
    changes = whole_edit(changes, call.faults)
    if call.params["id"] not in call.storage.assets:
        raise ApiError(404, f"Asset {call.params['id']} not found.")
    asset = call.storage.set_metadata(call.params["id"], changes, call.service.now_us())
    return json_response(render(asset, call.faults))


def whole_edit(changes: dict[str, Any], faults: Faults) -> dict[str, Any]:
    """Complete `changes`, an edit that may have only one of title and tags, as `half_edit` says."""
    missing = {"title", "tags"} - changes.keys()
    if not missing or faults.half_edit == "kept":
        return changes
    if faults.half_edit == "refused":
        raise ApiError(400, f"{', '.join(sorted(missing))}: must be given")
    return {"title": None, "tags": [], **changes}


def check_metadata(changes: dict[str, Any]) -> None:
    """Raise a 400 `ApiError` unless UP42 would accept title and tags (contract §3.2)."""
    title, tags = changes.get("title"), changes.get("tags")
    if title is not None and not isinstance(title, str):
        raise ApiError(400, "title: must be a string")
    if tags is None:
        return
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ApiError(400, "tags: must be a list of strings")
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise ApiError(400, f"tags: '{tag}' has characters other than letters, digits, "
                                "spaces and . - _ / :")  # fmt: skip


def _download(call: ReceivedCall) -> Response:
    """The undocumented direct download, in one of three ways, by switch (contract §3.3)."""
    stored = call.storage.objects_by_file.get(call.params["id"])
    if stored is None or call.faults.asset_get == "404":
        raise ApiError(404, f"Asset {call.params['id']} not found.")
    if call.faults.asset_get == "redirect":
        return Response(302, (("Location", objects.sign(call.service, stored)),))
    disposition = objects.disposition(stored, quoted=True) or "attachment"
    headers = (("Content-Type", stored.media_type), ("Content-Disposition", disposition))
    return Response(200, headers, Slice(stored.content, 0, stored.content.size))


def _sign(call: ReceivedCall) -> Response:
    stored = call.storage.objects_by_file.get(call.params["id"])
    if stored is None:
        raise ApiError(404, f"Asset {call.params['id']} not found.")
    return json_response({"url": objects.sign(call.service, stored, call.strikes)})


def _refuse_if_gone(call: ReceivedCall) -> None:
    status = call.faults.assets_gone
    if status is not None:
        raise ApiError(status, "This endpoint is no longer available. Use the STAC API.")


ROUTES = (
    Endpoint("GET", "/v2/assets", "assets.list", _list),
    Endpoint("GET", "/v2/assets/{id}", "assets.get", _download),
    Endpoint("GET", "/v2/assets/{id}/metadata", "assets.metadata", _metadata),
    Endpoint("POST", "/v2/assets/{id}/metadata", "assets.update", _set_metadata),
    Endpoint("POST", "/v2/assets/{id}/download-url", "assets.sign", _sign),
    Endpoint("POST", "/v2/files/{id}/download-url", "assets.sign", _sign),
)
