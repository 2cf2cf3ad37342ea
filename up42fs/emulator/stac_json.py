"""STAC documents of the storage: landing page, collections, items (contract §5).

The shapes follow live captures: extension keys at the top level of collections, offset times in
items and `Z` times in extents, no sizes. Knows nothing of requests.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from up42fs.emulator.clock import format_offset, format_z
from up42fs.emulator.content import BytesContent
from up42fs.emulator.faults import Faults
from up42fs.emulator.geometry import polygon
from up42fs.emulator.storage import Collection, EmulatedAsset, Item, StacFile, Storage, stable_id

VERSION = "1.0.0"
BASE = "/v2/assets/stac"
#: Metadata versions of transformed and of untransformed deliveries in the captures.
TRANSFORMED, NOT_TRANSFORMED = "0.0.14", "0.0.5"
#: Rows of a page without `limit`.
DEFAULT_LIMIT = 10
#: A PNG of one pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154"
    "78da63484948f80f0004740224acf1f0140000000049454e44ae426082"
)
_GEO = "application/geo+json"
_JSON = "application/json"
CONFORMANCE = (
    *(
        f"https://api.stacspec.org/v1.0.0-rc.1/{name}"
        for name in (
            "core", "collections", "item-search", "item-search#sort", "item-search#filter",
            "item-search#filter:basic-cql", "item-search#filter:cql-text",
            "item-search#filter:basic-cql2", "item-search#filter:cql2-text", "ogcapi-features",
            "ogcapi-features/extensions/transaction",
        )
    ),
    *(
        f"http://www.opengis.net/spec/{name}"
        for name in (
            "ogcapi-features-1/1.0/conf/core", "ogcapi-features-1/1.0/conf/geojson",
            "ogcapi-features-1/1.0/conf/oas30", "ogcapi-features-3/1.0/conf/filter",
            "ogcapi-features-3/1.0/conf/features-filter", "ogcapi-features-4/1.0/conf/simpletx",
        )
    ),
)  # fmt: skip
_QUERYABLES = (
    ("account_id", "UP42 Account Id", "string"),
    ("asset_id", "UP42 Asset Id", "string"),
    ("cloud_cover", "Cloud Coverage", "float"),
    ("collection", "Collection Id", "string"),
    ("collection_name", "UP42 Collection Name", "string"),
    ("constellation", "Platform Constellation", "string"),
    ("data_product_id", "UP42 Data Product Id", "string"),
    ("datetime", "Date and time the feature was captured", "timestamp"),
    ("eo:cloud_cover", "Cloud Coverage", "float"),
    ("geometry", "Footprint", "geometry"),
    ("gsd", "Ground Sampling Distance", "float"),
    ("id", "Item Id", "string"),
    ("job_id", "UP42 Job Id", "string"),
    ("order_id", "UP42 Order Id", "string"),
    ("source", "UP42 Asset Source", "string"),
    ("tags", "UP42 Asset Tags", "array"),
    ("title", "User Title", "string"),
    ("workspace_id", "UP42 Workspace Id", "string"),
)


def link(rel: str, href: str, media_type: str = _JSON, **more: Any) -> dict[str, Any]:
    """Return one link object."""
    return {"href": href, "rel": rel, "type": media_type, **more}


def landing(api_url: str) -> dict[str, Any]:
    """Return the landing page; `api_url` has no trailing slash."""
    base = api_url + BASE
    return {
        "conformsTo": list(CONFORMANCE),
        "links": [
            link("self", f"{base}/"),
            link("root", f"{base}/"),
            link("data", f"{base}/collections"),
            link("search", f"{base}/search", method="POST"),
        ],
        "stac_extensions": [],
        "title": "UP42 Storage",
        "description": "UP42 Storage STAC API",
        "stac_version": VERSION,
        "id": "up42-storage",
        "type": "Catalog",
    }


def queryables(api_url: str) -> dict[str, Any]:
    """Return the queryables document."""
    return {
        "$id": f"{api_url}{BASE}/queryables",
        "$schema": "https://json-schema.org/draft/2019-09/schema",
        "description": "Queryables for searching STAC Storage.",
        "properties": {
            name: {"description": words, "title": name, "type": kind}
            for name, words, kind in _QUERYABLES
        },
        "title": "STAC Storage Queryables",
        "type": "object",
    }


def queryable_values(storage: Storage, item: Item, faults: Faults) -> dict[str, Any]:
    """Return the values of an item for filters, by queryable name."""
    collection = storage.collections[item.collection_id]
    asset = storage.assets[collection.asset_id]
    cloud_cover = item.properties.get("eo:cloud_cover")
    return {
        "account_id": asset.account_id,
        "asset_id": asset.id,
        "cloud_cover": cloud_cover,
        "collection": item.collection_id,
        "collection_name": asset.collection,
        "constellation": item.properties.get("constellation"),
        "data_product_id": asset.product_id,
        "datetime": format_offset(item.datetime_us),
        "eo:cloud_cover": cloud_cover,
        "geometry": item.bbox,
        "gsd": item.properties.get("gsd"),
        "id": item.id,
        "job_id": item.properties.get("up42-system:job_id") or asset.job_id,
        "order_id": None if is_on(faults.items_without_order, item.id) else asset.order_id,
        "source": asset.source,
        "tags": list(asset.tags or ()),
        "title": asset.title or asset.name,
        "workspace_id": asset.workspace_id,
    }


def collection_json(storage: Storage, collection: Collection, api_url: str, faults: Faults) -> Any:
    """Return one collection."""
    base, asset = api_url + BASE, storage.assets[collection.asset_id]
    extensions = _up42_fields(storage, asset, collection)
    files = collection_files(storage, collection, faults)
    return {
        "assets": {file.key: file_json(file, api_url, faults) for file in files},
        "description": collection.description,
        "extent": _extent(collection),
        "id": collection.id,
        "keywords": list(collection.keywords),
        "license": "proprietary",
        "links": [
            link("self", f"{base}/collections/{collection.id}"),
            link("parent", f"{base}/"),
            link("items", f"{base}/collections/{collection.id}/items", _GEO),
            link("root", f"{base}/"),
        ],
        "providers": _providers(asset),
        "stac_extensions": _extension_schemas(extensions),
        "stac_version": VERSION,
        "summaries": {},
        "title": collection.title,
        "type": "Collection",
        **extensions,
    }


def item_json(storage: Storage, item: Item, api_url: str, faults: Faults) -> dict[str, Any]:
    """Return one item as a GeoJSON feature."""
    collection = storage.collections[item.collection_id]
    asset = storage.assets[collection.asset_id]
    url = f"{api_url}{BASE}/collections/{collection.id}"
    moment = format_offset(item.datetime_us)
    properties = {
        "datetime": moment,
        "start_datetime": moment,
        "end_datetime": moment,
        "title": item.title,
        **item.properties,
        **_up42_fields(storage, asset, collection, is_item=True),
    }
    if asset.job_id is not None and faults.result_asset == "none":
        del properties["up42-system:asset_id"]
    if is_on(faults.items_without_order, item.id):
        properties = {k: v for k, v in properties.items() if not k.startswith("up42-order:")}
    if collection.is_transformed:
        for moment in ("created", "updated"):
            properties.setdefault(moment, format_z(asset.created_us, 3))
        properties["providers"] = _providers(asset)
    return {
        "assets": {file.key: file_json(file, api_url, faults) for file in _files(item, faults)},
        "bbox": list(item.bbox),
        "collection": collection.id,
        "geometry": footprint(item) if item.has_geometry else None,
        "id": item.id,
        "links": [
            link("self", f"{url}/items/{item.id}", _GEO),
            link("parent", url),
            link("collection", url),
            link("root", f"{api_url}{BASE}/"),
        ],
        "properties": dict(sorted(properties.items())),
        "stac_extensions": _extension_schemas(properties),
        "stac_version": VERSION,
        "type": "Feature",
    }


def _files(item: Item, faults: Faults) -> tuple[StacFile, ...]:
    """The files of an item; by switch the first one also under another key."""
    if not item.files or not is_on(faults.files_twice, item.id):
        return item.files
    first = item.files[0]
    return (*item.files, replace(first, key=f"again-{first.key}"))


def file_json(file: StacFile, api_url: str, faults: Faults) -> dict[str, Any]:
    """Return one STAC asset; it has no size (contract §5.5)."""
    suffix = "/download-url" if is_on(faults.href_suffix, file.id) else ""
    place = "files" if is_on(faults.odd_hrefs, file.id) else "assets"
    row: dict[str, Any] = {
        "href": f"{api_url}/v2/{place}/{file.id}{suffix}",
        "roles": list(file.roles),
        "type": file.media_type,
    }
    if file.title is not None:
        row["title"] = file.title
    return {**row, **file.extra}


def collection_files(
    storage: Storage, collection: Collection, faults: Faults
) -> tuple[StacFile, ...]:
    """Return the assets of a collection itself: its own, and those added by switch."""
    original = collection.original
    if not faults.collection_assets:
        return (*([original] if original else []), *collection.files)
    asset = storage.assets[collection.asset_id]
    if original is None:
        key, roles = asset.name or asset.id, ("data", "original")
        original = StacFile(key, asset.id, asset.content_type, "Original Delivery", roles)
    thumbnail = StacFile(
        "thumbnail.png",
        stable_id(f"thumbnail {collection.id}"),
        "image/png",
        "Thumbnail",
        ("thumbnail",),
    )
    if thumbnail.id not in storage.objects_by_file:
        storage.put_stac_file(thumbnail, BytesContent(PIXEL), collection.created_us)
    return (original, thumbnail, *collection.files)


def is_on(switch: str, row_id: str) -> bool:
    """Resolve a no|yes|mixed switch; mixed selects half of the rows by ID."""
    return switch == "yes" or (switch == "mixed" and sum(row_id.encode()) % 2 == 1)


def footprint(item: Item) -> dict[str, Any]:
    """Return the item's rectangle as a GeoJSON polygon."""
    return polygon(item.bbox)


def _up42_fields(
    storage: Storage, asset: EmulatedAsset, collection: Collection, is_item: bool = False
) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "up42-system:account_id": asset.account_id,
        "up42-system:workspace_id": asset.workspace_id,
        "up42-system:asset_id": asset.id,
        "up42-system:metadata_version": (
            TRANSFORMED if collection.is_transformed else NOT_TRANSFORMED
        ),
        "up42-product:data_type": "raster",
        "up42-product:modality": collection.modality,
    }
    optional = {
        "up42-system:source": asset.source,
        "up42-system:job_id": asset.job_id if is_item else None,
        "up42-product:collection_name": asset.collection,
        "up42-product:product_id": asset.product_id,
        "up42-user:title": asset.title,
        "up42-user:tags": asset.tags,
    }
    if is_item and collection.is_transformed:
        optional["up42-user:title"] = asset.title or asset.name
        optional["up42-user:tags"] = asset.tags or []
    order = storage.orders.get(asset.order_id or "")
    if order is not None:
        optional["up42-order:id"] = order.id
        optional["up42-order:status"] = order.status
        optional["up42-order:host_id"] = f"host-{order.id[:8]}"
    fields.update((key, value) for key, value in optional.items() if value is not None)
    return fields


def _extent(collection: Collection) -> dict[str, Any]:
    boxes = [item.bbox for item in collection.items] or [(-180.0, -90.0, 180.0, 90.0)]
    moments = [item.datetime_us for item in collection.items] or [collection.created_us]
    wests, souths, easts, norths = zip(*boxes, strict=True)
    return {
        "spatial": {"bbox": [[min(wests), min(souths), max(easts), max(norths)]]},
        "temporal": {"interval": [[format_z(min(moments)), format_z(max(moments))]]},
    }


def _providers(asset: EmulatedAsset) -> list[dict[str, Any]]:
    name = (asset.producer or "UP42").upper()
    return [
        {"name": "UP42", "roles": ["host"], "url": "https://www.up42.com"},
        {"name": name, "roles": ["producer"], "url": "https://up42.com/marketplace"},
    ]


def _extension_schemas(fields: dict[str, Any]) -> list[str]:
    prefixes = {key.partition(":")[0] for key in fields if ":" in key}
    schemas = [
        f"https://api.up42.com/stac-extensions/{prefix}/v1.0.0/schema.json"
        for prefix in sorted(prefixes)
        if prefix.startswith("up42-")
    ]
    public = {"eo": "v1.1.0", "view": "v1.0.0", "projection": "v1.1.0"}
    return schemas + [
        f"https://stac-extensions.github.io/{name}/{version}/schema.json"
        for name, version in sorted(public.items())
        if {"projection": "proj"}.get(name, name) in prefixes
    ]
