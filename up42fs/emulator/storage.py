"""The emulated account's storage: orders, assets, STAC collections and items, objects.

Rows are plain mutable values; other modules make their JSON. Every change goes through a method
here, so that the cache of sorted queries is cleared. Knows nothing of HTTP; callers pass the time
of a change.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from up42fs.emulator.clock import US
from up42fs.emulator.content import BytesContent, ObjectContent, PatternContent

NAMESPACE = uuid.UUID("8a1f6f0e-6f0b-4d8a-9a0c-42f542f542f5")
BUCKET = "user-storage-interstellar-prod"
#: Sorted and filtered lists cached between changes.
QUERIES_KEPT = 16

Row = TypeVar("Row")


def stable_id(label: str) -> str:
    """Return a UUID that depends only on `label`."""
    return str(uuid.uuid5(NAMESPACE, label))


@dataclass(frozen=True, slots=True)
class EmulatedAccount:
    """The account's credentials and IDs."""

    username: str
    password: str = field(repr=False)
    account_id: str = stable_id("account")
    workspace_id: str = stable_id("workspace")
    other_workspace_id: str = stable_id("other workspace")


@dataclass(slots=True)
class EmulatedOrder:
    """One order (contract §4.2); `absent` names JSON keys that are left out."""

    id: str
    display_name: str | None
    status: str
    created_us: int
    updated_us: int
    workspace_id: str
    account_id: str
    type: str = "ARCHIVE"
    data_product_id: str | None = None
    tags: list[str] | None = None
    budget_id: str | None = None
    details: dict[str, Any] | None = None
    absent: frozenset[str] = frozenset()
    #: Further fields of its JSON.
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class EmulatedAsset:
    """One delivery (contract §2.2); `absent` names JSON keys that are left out."""

    id: str
    created_us: int
    updated_us: int
    workspace_id: str
    account_id: str
    name: str | None = None
    size: int = 0
    content_type: str = "application/zip"
    status: str = "NOT_PROCESSED"
    product_id: str | None = None
    order_id: str | None = None
    source: str | None = "ARCHIVE"
    producer: str | None = None
    collection: str | None = None
    title: str | None = None
    tags: list[str] | None = None
    fraction_digits: int = 6
    absent: frozenset[str] = frozenset()
    #: The processing job whose result this is.
    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class StacFile:
    """One STAC asset of an item: `key` in the item, `id` to sign, `extra` JSON fields."""

    key: str
    id: str
    media_type: str
    title: str | None = None
    roles: tuple[str, ...] = ("data",)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Item:
    """One scene of an asset; `bbox` is west, south, east, north in degrees."""

    id: str
    collection_id: str
    title: str
    datetime_us: int
    bbox: tuple[float, float, float, float]
    files: tuple[StacFile, ...]
    properties: dict[str, Any] = field(default_factory=dict)
    has_geometry: bool = True


@dataclass(slots=True)
class Collection:
    """The STAC side of one asset (contract §5.2); items newest first."""

    id: str
    asset_id: str
    title: str
    created_us: int
    items: list[Item] = field(default_factory=list)
    is_transformed: bool = False
    original: StacFile | None = None
    files: tuple[StacFile, ...] = ()
    description: str = "Delivered imagery."
    keywords: tuple[str, ...] = ()
    modality: str = "multispectral"


@dataclass(slots=True)
class EmulatedObject:
    """One object of the store; `file_id` is the ID of its asset or STAC asset."""

    path: str
    file_id: str
    filename: str | None
    content: ObjectContent
    modified_us: int
    generation: int = 1
    media_type: str = "application/octet-stream"

    @property
    def etag(self) -> str:
        """Quoted: the MD5 of a simple upload, otherwise opaque (contract §6)."""
        identity = self.content.identity
        if self.content.md5 is not None:
            return f'"{identity}"'
        return f'"{hashlib.sha1(f"{identity}{self.generation}".encode()).hexdigest()[:16]}="'  # noqa: S324

    @property
    def url_path(self) -> str:
        """Path in the store's URL."""
        return f"/{BUCKET}/{self.path}"


class Storage:
    """The state of the account; change it only through methods."""

    def __init__(self, account: EmulatedAccount) -> None:
        self.account = account
        self.orders: dict[str, EmulatedOrder] = {}
        self.assets: dict[str, EmulatedAsset] = {}
        self.collections: dict[str, Collection] = {}
        self.items: dict[str, Item] = {}
        self.objects: dict[str, EmulatedObject] = {}
        self.objects_by_file: dict[str, EmulatedObject] = {}
        self.collections_of_asset: dict[str, list[str]] = {}
        self._queries: dict[object, list[Any]] = {}

    # -- questions

    def query(self, key: object, compute: Callable[[], list[Row]]) -> list[Row]:
        """Return the list that `compute` makes, cached under `key` until the next change."""
        if key not in self._queries:
            if len(self._queries) >= QUERIES_KEPT:
                self._queries.pop(next(iter(self._queries)))
            self._queries[key] = compute()
        return self._queries[key]

    def assets_of_order(self, order_id: str) -> list[EmulatedAsset]:
        """Return the assets delivered for an order, oldest first."""
        mine = (asset for asset in self.assets.values() if asset.order_id == order_id)
        return sorted(mine, key=lambda asset: asset.created_us)

    def asset_of_item(self, item: Item) -> EmulatedAsset:
        """Return the asset whose delivery `item` describes."""
        return self.assets[self.collections[item.collection_id].asset_id]

    # -- changes

    def changed(self) -> None:
        """Clear the cached lists; call it after every change of a row."""
        self._queries.clear()

    def put_order(self, order: EmulatedOrder) -> EmulatedOrder:
        """Add or replace an order."""
        self.orders[order.id] = order
        self.changed()
        return order

    def put_asset(
        self, asset: EmulatedAsset, content: ObjectContent, object_path: str | None = None
    ) -> EmulatedAsset:
        """Add or replace an asset with its delivered bytes; the size follows the bytes."""
        asset.size = content.size
        self.assets[asset.id] = asset
        path = object_path or f"assets/{stable_id('object ' + asset.id)}"
        self._put_object(
            EmulatedObject(
                path, asset.id, asset.name, content, asset.created_us, 1, asset.content_type
            )
        )
        self.changed()
        return asset

    def put_collection(self, collection: Collection) -> Collection:
        """Add or replace a collection with its items."""
        old = self.collections.get(collection.id)
        for item in old.items if old else ():
            self.items.pop(item.id, None)
        self.collections[collection.id] = collection
        of_asset = self.collections_of_asset.setdefault(collection.asset_id, [])
        if collection.id not in of_asset:
            of_asset.append(collection.id)
        for item in collection.items:
            self.items[item.id] = item
        self.changed()
        return collection

    def put_stac_file(self, file: StacFile, content: ObjectContent, modified_us: int) -> None:
        """Add the bytes of a STAC asset that has its own object."""
        path = f"assets/{stable_id('object ' + file.id)}"
        self._put_object(
            EmulatedObject(path, file.id, file.key, content, modified_us, 1, file.media_type)
        )

    def _put_object(self, stored: EmulatedObject) -> None:
        self.objects[stored.url_path] = stored
        self.objects_by_file[stored.file_id] = stored

    def set_metadata(self, asset_id: str, changes: dict[str, Any], now_us: int) -> EmulatedAsset:
        """Set `title` and `tags` if given (contract §3.2); KeyError for an unknown asset."""
        asset = self.assets[asset_id]
        if "title" in changes:
            asset.title = changes["title"]
        if "tags" in changes:
            asset.tags = changes["tags"]
        asset.absent = asset.absent - changes.keys()
        self._touch(asset, now_us)
        return asset

    def set_cnam_status(self, asset_id: str, status: str, now_us: int) -> EmulatedAsset:
        """Set the transformation's status; SUCCESSFUL creates an item with files (contract §8)."""
        asset = self.assets[asset_id]
        asset.status = status
        asset.absent = asset.absent - {"geospatialMetadataExtractionStatus"}
        self._touch(asset, now_us)
        if status == "SUCCESSFUL":
            self._ensure_transformed(asset, now_us)
        return asset

    def remove_asset(self, asset_id: str) -> None:
        """Remove an asset, its collection, items and objects; KeyError for an unknown one."""
        del self.assets[asset_id]
        self._remove_object(asset_id)
        for collection_id in self.collections_of_asset.pop(asset_id, []):
            self._remove_collection_rows(collection_id)
        self.changed()

    def remove_collection(self, collection_id: str) -> None:
        """Remove a collection and, since that deletes the delivery, its asset (contract §5.7)."""
        asset_id = self.collections[collection_id].asset_id
        if asset_id in self.assets:
            self.remove_asset(asset_id)
        else:
            self._remove_collection_rows(collection_id)
            self.changed()

    def remove_object(self, file_id: str) -> None:
        """Remove only the bytes: links to them return 404 NoSuchKey."""
        self.objects_by_file[file_id]  # KeyError for an unknown one
        self._remove_object(file_id, keep_link=True)

    def replace_content(self, file_id: str, content: ObjectContent, now_us: int) -> EmulatedObject:
        """Give an object other bytes under the same link, with a new ETag and generation."""
        stored = self.objects_by_file[file_id]
        stored.content = content
        stored.generation += 1
        stored.modified_us = now_us
        if file_id in self.assets:
            self.assets[file_id].size = content.size
            self._touch(self.assets[file_id], now_us)
        return stored

    def progress_order(self, order_id: str, status: str, now_us: int) -> EmulatedOrder:
        """Move an order to `status`."""
        order = self.orders[order_id]
        order.status = status
        order.updated_us = max(now_us, order.created_us)
        self.changed()
        return order

    def _touch(self, asset: EmulatedAsset, now_us: int) -> None:
        asset.updated_us = max(now_us, asset.updated_us + 1)
        self.changed()

    def _remove_object(self, file_id: str, keep_link: bool = False) -> None:
        stored = self.objects_by_file.get(file_id)
        if stored is None:
            return
        self.objects.pop(stored.url_path, None)
        if not keep_link:
            del self.objects_by_file[file_id]

    def _remove_collection_rows(self, collection_id: str) -> None:
        collection = self.collections.pop(collection_id)
        for item in collection.items:
            self.items.pop(item.id, None)
            for file in item.files:
                if file.id not in self.assets:
                    self._remove_object(file.id)

    def _ensure_transformed(self, asset: EmulatedAsset, now_us: int) -> None:
        collection_id = next(iter(self.collections_of_asset.get(asset.id, [])), None)
        collection = self.collections.get(collection_id or "")
        if collection is not None and collection.is_transformed:
            return
        label = f"transformed {asset.id}"
        title = asset.title or asset.name or asset.id
        seed = int(hashlib.sha256(asset.id.encode()).hexdigest()[:8], 16)
        image = StacFile("image.tiff", stable_id(label + " image"),
                         "image/tiff; application=geotiff; profile=cloud-optimized")  # fmt: skip
        note = StacFile("metadata.xml", stable_id(label + " note"), "application/xml",
                        "Delivery Metadata", ("metadata",))  # fmt: skip
        self.put_stac_file(image, PatternContent(seed, max(1, asset.size // 2)), now_us)
        self.put_stac_file(note, BytesContent(b"<Dimap_Document/>\n"), now_us)
        item = Item(
            stable_id(label),
            collection_id or stable_id("collection " + asset.id),
            title,
            asset.created_us - 3600 * US,
            (13.3, 52.4, 13.5, 52.6),
            (image, note),
        )
        self.put_collection(
            Collection(item.collection_id, asset.id, title, asset.created_us, [item], True)
        )
