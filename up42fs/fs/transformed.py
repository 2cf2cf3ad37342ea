"""What stands in an asset's directory: its transformed files, by item, and item.json.

Knows STAC items and the names of their files; nothing of inodes, sizes or links.

Theory. An asset that UP42 transformed has STAC items, asked when its directory is first looked
into (`prepare`). One item: its files stand in the directory itself. Several: one subdirectory
each. A file's node is its STAC asset's ID, wherever it stands: one inode, one page cache.
The registry holds what is needed to answer for a file node: it is filled when a directory is
built, and an asset that leaves the storage takes its files along.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from up42fs.catalog.index import Index
from up42fs.catalog.items import transformed_files
from up42fs.core import static_stac
from up42fs.core.stac import StacAsset, StacItem
from up42fs.fs.layout import UNCOUNTED, has_files, view_names
from up42fs.fs.nodes import Kind, Node
from up42fs.types import Asset

log = logging.getLogger(__name__)

ITEM_JSON = "item.json"


class ItemsOfAssets(Protocol):
    """Where items come from (see `catalog.items.Items`)."""

    async def of_asset(self, asset: Asset) -> tuple[StacItem, ...]:
        """All items of an asset; raises an `Up42fsError`."""
        ...

    async def learn_order(self, order_id: str, assets: Iterable[Asset]) -> None:
        """Learn the items of all assets of an order at once; raises an `Up42fsError`."""
        ...

    def known(self, asset_id: str) -> tuple[StacItem, ...] | None:
        """The items last heard of; None where nothing is known."""
        ...


@dataclass(frozen=True, slots=True)
class File:
    """One readable file of an item: the delivery's asset ID, the item, the STAC asset, its name."""

    asset_id: str | None
    item: StacItem
    stac: StacAsset
    name: str

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.name} of item {self.item.id} (asset {self.asset_id or 'unknown'})"


class FileRegistry:
    """The files that were ever listed, by STAC asset ID, and which of them UP42 refuses."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._files: dict[str, File] = {}
        self._refused: set[tuple[str, str]] = set()

    def get(self, file_id: str) -> File | None:
        """The file of a STAC asset ID, unless its delivery has left the storage."""
        file = self._files.get(file_id)
        if file is None or (file.asset_id and file.asset_id not in self._index.assets):
            return None
        return file

    def siblings(self, file_id: str) -> list[str]:
        """IDs of all files of the same item."""
        file = self._files.get(file_id)
        if file is None:
            return []
        ids = (stac.asset_id for stac in file.item.assets)
        return [id_ for id_ in ids if id_ is not None and id_ in self._files]

    def named(
        self, item: StacItem, among: Iterable[StacAsset], taken: tuple[str, ...] = ()
    ) -> dict[str, Node]:
        """Nodes of those of an item's files that can be read, by name; remembers them."""
        file_names = static_stac.file_names(item, taken)
        listed: dict[str, Node] = {}
        for stac in among:
            if stac.asset_id is None:
                self._report(item, stac)
                continue
            name = file_names[stac.key]
            if stac.asset_id in self._index.assets:
                listed[name] = Node(Kind.ASSET, stac.asset_id)
                continue
            self._files[stac.asset_id] = File(item.asset_id, item, stac, name)
            listed[name] = Node(Kind.FILE, stac.asset_id)
        return listed

    def _report(self, item: StacItem, stac: StacAsset) -> None:
        if (item.id, stac.key) not in self._refused:
            self._refused.add((item.id, stac.key))
            log.warning(
                "%s of item %s (asset %s) is left out: %s",
                stac.key, item.id, item.asset_id, stac.refusal or "it has no link to UP42",
            )  # fmt: skip


class Transformed:
    """The branch of FILES, ITEM and FILE nodes."""

    kinds = frozenset({Kind.FILES, Kind.ITEM, Kind.FILE})
    top: Mapping[str, Node] = {}

    def __init__(self, index: Index, items: ItemsOfAssets, registry: FileRegistry) -> None:
        self._index = index
        self._items = items
        self._registry = registry
        self._shown: dict[Node, tuple[StacItem, ...]] = {}
        self._documents: dict[str, StacItem] = {}

    async def prepare(self, node: Node) -> bool:
        """Learn the items of the asset; whether they differ from those shown last."""
        asset = self._index.assets.get(node.id.partition("/")[0])
        if asset is None or node.kind is Kind.FILE:
            return False
        items = await self._items.of_asset(asset)
        changed = self._shown.get(node) is not items
        self._shown[node] = items
        return changed

    def children(self, node: Node) -> dict[str, Node]:
        """The files of the item, or the items where there are several."""
        asset_id, _, item_id = node.id.partition("/")
        items = self._shown.get(node) or ()
        if item_id:
            items = tuple(item for item in items if item.id == item_id)
        if not items:
            return {}
        if len(items) == 1:
            document = Node(Kind.DOCUMENT, f"item/{asset_id}/{items[0].id}")
            self._documents[document.id] = items[0]
            files = self._registry.named(items[0], transformed_files(items[0]))
            return {ITEM_JSON: document} | files
        return {
            name: Node(Kind.ITEM, f"{asset_id}/{id_}", str(node))
            for id_, name in static_stac.item_names(items).items()
        }

    def members(self, node: Node) -> Iterable[Asset]:
        """None: these are not directories of assets."""
        return ()

    def find(self, parent: Node, name: str) -> Node | None:
        """Item IDs are names too."""
        asset_id, _, item_id = parent.id.partition("/")
        items = self._shown.get(parent) or ()
        if item_id or len(items) < 2 or not any(item.id == name for item in items):
            return None
        return Node(Kind.ITEM, f"{asset_id}/{name}", str(parent))

    def exists(self, node: Node) -> bool:
        """Whether the asset is still transformed, the file still listed."""
        if node.kind is Kind.FILE:
            return self._registry.get(node.id) is not None
        asset = self._index.assets.get(node.id.partition("/")[0])
        return asset is not None and has_files(asset)

    def links(self, node: Node) -> int:
        """A file: one for each name of its delivery in the views; a directory: with its items."""
        if node.kind is Kind.FILE:
            file = self._registry.get(node.id)
            asset = self._index.assets.get(file.asset_id) if file and file.asset_id else None
            if asset is None:
                return 1
            return view_names(asset)
        if node.kind is Kind.ITEM:
            return 2
        items = self._items.known(node.id)
        if items is None:
            return UNCOUNTED
        return 2 + (len(items) if len(items) > 1 else 0)

    def times(self, node: Node) -> tuple[datetime, datetime] | None:
        """Those of the delivery: its files came with it."""
        file = self._registry.get(node.id) if node.kind is Kind.FILE else None
        asset_id = file.asset_id if file else node.id.partition("/")[0]
        asset = self._index.assets.get(asset_id or "")
        if asset is not None:
            return asset.created_at, asset.updated_at
        return item_times(file.item) if file else None

    def item_of(self, node: Node) -> StacItem | None:
        """The one item that a FILES or ITEM directory shows, if it is known and one."""
        asset_id, _, item_id = node.id.partition("/")
        items = self._items.known(asset_id) or ()
        if item_id:
            return next((item for item in items if item.id == item_id), None)
        return items[0] if len(items) == 1 else None

    def is_settled(self, node: Node) -> bool:
        """Whether a directory shows files: until then its items are asked again and again."""
        return any(map(transformed_files, self._shown.get(node) or ()))

    def document(self, document_id: str) -> bytes | None:
        """An item.json, self-contained, hrefs beside it; None if it was never listed."""
        item = self._documents.get(document_id)
        if item is None:
            return None
        files = readable_files(item, transformed_files(item))
        return to_json(static_stac.item_document(item, files=files, self_contained=True))


def readable_files(
    item: StacItem, among: Iterable[StacAsset], taken: tuple[str, ...] = ()
) -> dict[str, str]:
    """File names of the files that stand beside the document, by STAC asset key."""
    file_names = static_stac.file_names(item, taken)
    return {stac.key: file_names[stac.key] for stac in among if stac.asset_id is not None}


def item_times(item: StacItem) -> tuple[datetime, datetime] | None:
    """When the item was made and changed, as far as it says."""
    made = item.created or item.datetime or item.updated
    return None if made is None else (made, item.updated or made)


def to_json(document: Mapping[str, Any]) -> bytes:
    """A document as a file."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"
