"""The control endpoint: tests read the log, set switches and change the storage over HTTP.

It is on the API's port under `/_emulator`; its requests are neither journalled nor struck.
Operations on the storage are the `op` names in `OPERATIONS`. Knows nothing of sockets.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from up42fs.emulator.clock import US, parse_us
from up42fs.emulator.content import BytesContent, ObjectContent, PatternContent
from up42fs.emulator.faults import BadSwitchError
from up42fs.emulator.service import ApiError, Endpoint, ReceivedCall, json_response
from up42fs.emulator.storage import (
    Collection,
    EmulatedAsset,
    EmulatedOrder,
    Item,
    StacFile,
    stable_id,
)
from up42fs.emulator.wire import Response

PREFIX = "/_emulator"


def _log(call: ReceivedCall) -> Response:
    request, journal = call.request, call.service.journal
    since = int(request.get("since") or 0)
    rows = journal.since(since, request.get("plane") or None, request.get("route") or None)
    return json_response({"next": journal.next_position, "requests": rows})


def _clear_log(call: ReceivedCall) -> Response:
    call.service.journal.clear()
    return json_response({"next": call.service.journal.next_position, "requests": []})


def _faults(call: ReceivedCall) -> Response:
    return json_response(asdict(call.faults))


def _set_faults(call: ReceivedCall) -> Response:
    body = call.json()
    if not isinstance(body, dict):
        raise ApiError(400, "The body is a JSON object of switches.")
    try:
        patched = call.service.box.patch(body)
        call.storage.changed()  # results of searches depend on some switches
        return json_response(asdict(patched))
    except BadSwitchError as error:
        raise ApiError(400, str(error)) from None


def _summary(call: ReceivedCall) -> Response:
    storage, with_digests = call.storage, call.request.get("sha256") is not None
    objects = []
    for stored in storage.objects_by_file.values():
        row: dict[str, Any] = {
            "id": stored.file_id,
            "name": stored.filename,
            "size": stored.content.size,
            "etag": stored.etag,
            "path": stored.path,
        }
        if with_digests:
            row["sha256"] = _sha256(stored.content)
        objects.append(row)
    account = storage.account
    return json_response(
        {
            "account_id": account.account_id,
            "workspace_id": account.workspace_id,
            "orders": [
                {"id": o.id, "display_name": o.display_name, "status": o.status}
                for o in storage.orders.values()
            ],
            "assets": [_asset_row(asset) for asset in storage.assets.values()],
            "collections": list(storage.collections),
            "items": [
                {
                    "id": item.id,
                    "collection_id": item.collection_id,
                    "asset_id": storage.collections[item.collection_id].asset_id,
                    "files": {file.key: file.id for file in item.files},
                }
                for item in storage.items.values()
            ],
            "objects": objects,
        }
    )


def _asset_row(asset: EmulatedAsset) -> dict[str, Any]:
    status = None if "geospatialMetadataExtractionStatus" in asset.absent else asset.status
    return {
        "id": asset.id, "name": asset.name, "size": asset.size, "status": status,
        "order_id": asset.order_id, "title": asset.title, "tags": asset.tags,
    }  # fmt: skip


def _sha256(content: ObjectContent) -> str:
    digest = hashlib.sha256()
    for piece in content.pieces(0, content.size):
        digest.update(piece)
    return digest.hexdigest()


def _change(call: ReceivedCall) -> Response:
    body = call.json()
    operation = OPERATIONS.get(body.pop("op", "")) if isinstance(body, dict) else None
    if operation is None:
        raise ApiError(400, f"op is one of {', '.join(sorted(OPERATIONS))}")
    try:
        return json_response(operation(call, **body))
    except KeyError as error:
        raise ApiError(404, f"nothing here has the ID {error}") from None
    except (TypeError, ValueError) as error:
        raise ApiError(400, str(error)) from None


# -- operations: keyword arguments are the JSON fields beside `op`


def _add_asset(
    call: ReceivedCall,
    *,
    name: str | None = None,
    id: str | None = None,  # noqa: A002  (the JSON field)
    size: int = 1 << 20,
    seed: int = 1,
    content_base64: str | None = None,
    order_id: str | None = None,
    title: str | None = None,
    tags: list[str] | None = None,
    cnam_status: str = "NOT_PROCESSED",
    content_type: str = "application/zip",
    created_at: str | None = None,
    workspace_id: str | None = None,
    source: str | None = "ARCHIVE",
    job_id: str | None = None,
) -> dict[str, Any]:
    storage, now_us = call.storage, call.service.now_us()
    account = storage.account
    created_us = now_us if created_at is None else parse_us(created_at)
    asset_id = id or stable_id(f"added {len(storage.assets)} {now_us}")
    asset = EmulatedAsset(
        asset_id,
        created_us,
        created_us,
        workspace_id or account.workspace_id,
        account.account_id,
        name=name,
        order_id=order_id,
        title=title,
        tags=tags,
        content_type=content_type,
        source=source,
        job_id=job_id,
    )
    storage.put_asset(asset, _content(seed, size, content_base64))
    if cnam_status != "NOT_PROCESSED":
        storage.set_cnam_status(asset_id, cnam_status, created_us)
    return _asset_row(asset)


def _content(seed: int, size: int, content_base64: str | None) -> ObjectContent:
    if content_base64 is not None:
        return BytesContent(base64.b64decode(content_base64, validate=True))
    return PatternContent(seed, size)


def _remove_asset(call: ReceivedCall, *, id: str) -> dict[str, Any]:  # noqa: A002
    call.storage.remove_asset(id)
    return {"id": id}


def _remove_object(call: ReceivedCall, *, id: str) -> dict[str, Any]:  # noqa: A002
    call.storage.remove_object(id)
    return {"id": id}


def _replace_object(
    call: ReceivedCall,
    *,
    id: str,  # noqa: A002
    seed: int = 2,
    size: int | None = None,
    content_base64: str | None = None,
) -> dict[str, Any]:
    """Replace the bytes under an ID; the size stays unless given."""
    storage = call.storage
    length = storage.objects_by_file[id].content.size if size is None else size
    content = _content(seed, length, content_base64)
    stored = storage.replace_content(id, content, call.service.now_us())
    return {"id": id, "size": stored.content.size, "etag": stored.etag}


def _set_metadata(call: ReceivedCall, *, id: str, **changes: Any) -> dict[str, Any]:  # noqa: A002
    return _asset_row(call.storage.set_metadata(id, changes, call.service.now_us()))


def _edit_tags(
    call: ReceivedCall,
    *,
    id: str,  # noqa: A002
    add: list[str] | None = None,
    remove: list[str] | None = None,
) -> dict[str, Any]:
    """Add and remove tags in one step, which no client of the API can do."""
    kept = [tag for tag in call.storage.assets[id].tags or [] if tag not in (remove or [])]
    tags = kept + [tag for tag in add or [] if tag not in kept]
    return _set_metadata(call, id=id, tags=tags)


def _set_cnam_status(call: ReceivedCall, *, id: str, status: str) -> dict[str, Any]:  # noqa: A002
    return _asset_row(call.storage.set_cnam_status(id, status, call.service.now_us()))


def _put_items(
    call: ReceivedCall,
    *,
    asset_id: str,
    items: list[dict[str, Any]],
    collection: str = "first",
    collection_files: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Replace the items in one of an asset's collections.

    `collection_files` are the collection's own assets, in the shape of an item's files. Keys of an
    item: `title`, `files`, `bbox`, `properties`. Keys of a file: `key`, `media_type`, `href` (a
    link instead of the file's own), `id` (of an existing file), otherwise `size` or
    `content_base64`, and any further fields of its JSON.
    """
    storage, now_us = call.storage, call.service.now_us()
    asset = storage.assets[asset_id]
    known = storage.collections_of_asset.get(asset_id, []) if collection == "first" else []
    collection_id = next(iter(known), stable_id(f"{collection} collection {asset_id}"))
    made = [
        Item(
            stable_id(f"put item {collection_id} {number}"),
            collection_id,
            row.get("title", f"Scene {number}"),
            asset.created_us - 3600 * US,
            tuple(row.get("bbox", (13.3, 52.4, 13.5, 52.6))),
            tuple(_put_file(call, f"{collection_id} {number}", file) for file in row["files"]),
            row.get("properties", {}),
        )
        for number, row in enumerate(items)
    ]
    row = Collection(collection_id, asset_id, asset.name or asset_id, now_us, made, True)
    own = collection_files or []
    row.files = tuple(_put_file(call, f"{collection_id} own", file) for file in own)
    storage.put_collection(row)
    return {"id": collection_id, "items": [item.id for item in made]}


def _put_file(call: ReceivedCall, place: str, row: dict[str, Any]) -> StacFile:
    row = dict(row)
    key, size = row.pop("key"), row.pop("size", 1000)
    content = row.pop("content_base64", None)
    known = row.pop("id", None)
    media_type, roles = row.pop("media_type", "image/tiff"), tuple(row.pop("roles", ("data",)))
    file_id = known or stable_id(f"put file {place} {key}")
    file = StacFile(key, file_id, media_type, row.pop("title", None), roles, row)
    if known is None:
        seed = int(file.id[:4], 16)
        call.storage.put_stac_file(file, _content(seed, size, content), call.service.now_us())
    return file


def _add_order(
    call: ReceivedCall,
    *,
    display_name: str | None = None,
    id: str | None = None,  # noqa: A002
    status: str = "FULFILLED",
    type: str = "ARCHIVE",  # noqa: A002
    details: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Add an order; `more` are further fields of its JSON, which no documentation names."""
    storage, now_us = call.storage, call.service.now_us()
    account = storage.account
    order_id = id or stable_id(f"added order {len(storage.orders)} {now_us}")
    storage.put_order(
        EmulatedOrder(
            *(order_id, display_name, status, now_us, now_us),
            *(account.workspace_id, account.account_id, type),
            details=details,
            more=more or {},
        )
    )
    return {"id": order_id}


def _progress_order(
    call: ReceivedCall,
    *,
    id: str,  # noqa: A002
    status: str,
    sub_status: str | None = None,
) -> dict[str, Any]:
    """Move an order to `status`, and to a sub-status if one is given."""
    order = call.storage.orders[id]
    if sub_status is not None:
        order.details = {**(order.details or {}), "subStatus": sub_status}
    call.storage.progress_order(id, status, call.service.now_us())
    return {"id": order.id, "status": order.status}


def _revoke_tokens(call: ReceivedCall) -> dict[str, Any]:
    """Invalidate all tokens issued so far: 401 until the client signs in again."""
    call.service.revoke_tokens()
    return {}


def _revoke_links(call: ReceivedCall) -> dict[str, Any]:
    """Invalidate all links signed so far: 403 until the client requests a new link."""
    call.service.revoke_links()
    return {}


OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "add_asset": _add_asset,
    "remove_asset": _remove_asset,
    "remove_object": _remove_object,
    "replace_object": _replace_object,
    "set_metadata": _set_metadata,
    "edit_tags": _edit_tags,
    "put_items": _put_items,
    "set_cnam_status": _set_cnam_status,
    "add_order": _add_order,
    "progress_order": _progress_order,
    "revoke_tokens": _revoke_tokens,
    "revoke_links": _revoke_links,
}

ROUTES = (
    Endpoint("GET", f"{PREFIX}/log", "control", _log, is_public=True),
    Endpoint("DELETE", f"{PREFIX}/log", "control", _clear_log, is_public=True),
    Endpoint("GET", f"{PREFIX}/faults", "control", _faults, is_public=True),
    Endpoint("PATCH", f"{PREFIX}/faults", "control", _set_faults, is_public=True),
    Endpoint("GET", f"{PREFIX}/storage", "control", _summary, is_public=True),
    Endpoint("POST", f"{PREFIX}/storage", "control", _change, is_public=True),
)
