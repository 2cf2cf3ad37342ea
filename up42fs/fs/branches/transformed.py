"""The content of an asset's directory: its transformed files, by item, and item.json.

Theory. An asset that UP42 transformed has STAC items, fetched when its directory is first opened
(`prepare`). If there is one item, its files are in the directory itself; if there are several, each
has a subdirectory. A file's node is its STAC asset's ID, wherever it is listed: one inode, one page
cache. The registry holds the data needed to answer for a file node. It is filled when a directory
is built, and bounded: an evicted file is loaded again through its delivery, which its node names,
when it is used (`prepare`). When an asset leaves the storage, its files leave with it.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cachetools import LRUCache

from up42fs.catalog.index import Index
from up42fs.catalog.items import Items
from up42fs.catalog.snapshot.item_rows import to_us
from up42fs.catalog.stored_items import stamp_of
from up42fs.catalog.transformations import Transformations
from up42fs.fs.tree.layout import UNCOUNTED
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.model import stac_documents as static_stac
from up42fs.model.stac import StacAsset, StacItem, transformed_files
from up42fs.types import Asset, CnamStatus

log = logging.getLogger(__name__)

ITEM_JSON = "item.json"
#: The directory of a transformed asset that holds the members of what was delivered; not listed.
ORIGINAL = "original"
#: Files kept in memory, about 0.3 kB each; recently shown directories, and documents.
MOST_FILES = 8_000
MOST_SHOWN = 1024
MOST_DOCUMENTS = 256
#: Walks followed at a time, and deliveries read from disk together in one.
MOST_WALKS = 8
TOGETHER = 32


@dataclass(frozen=True, slots=True)
class ItemFile:
    """One readable file of an item: the delivery's asset ID, the item, the STAC asset, its name."""

    asset_id: str | None
    item: StacItem
    stac: StacAsset
    name: str

    @property
    def label(self) -> str:
        """The file's name in messages."""
        return f"{self.name} of item {self.item.id} (asset {self.asset_id or 'unknown'})"


class FileRegistry:
    """The recently listed files, by STAC asset ID; their sizes; the files that UP42 refuses."""

    def __init__(
        self,
        index: Index,
        items: Items | None = None,
        most: int = MOST_FILES,
        transformations: Transformations | None = None,
    ) -> None:
        self._transformations = transformations or Transformations(index)
        #: Called with a file whose version changed.
        self.on_change: Callable[[Node], None] = lambda _: None
        #: Returns a file that belongs to no item of its delivery, as an item: see `stac`.
        self.elsewhere: Callable[[str], StacItem | None] = lambda _: None
        self._index = index
        self._items = items
        self._most = most
        self._files: dict[str, ItemFile] = {}
        #: Item -> its files in memory; the most recently used item is last.
        self._by_item: OrderedDict[str, set[str]] = OrderedDict()
        self._learned: dict[str, int] = {}
        #: Creation times, nanoseconds since 1970; by asset, the latest of its files in memory.
        self._made_ns: dict[str, int] = {}
        self._latest_ns: dict[str, int] = {}
        #: Number of keys of files that are listed under several keys of their item.
        self._keys: dict[str, int] = {}
        self._refused: set[tuple[str, str]] = set()

    def get(self, file_id: str) -> ItemFile | None:
        """The file of a STAC asset ID, unless it was evicted or its delivery has left."""
        file = self._files.get(file_id)
        if file is None or (file.asset_id and file.asset_id not in self._index.assets):
            return None
        self._by_item.move_to_end(file.item.id)
        return file

    def siblings(self, file_id: str) -> list[str]:
        file = self._files.get(file_id)
        if file is None:
            return []
        ids = (stac.asset_id for stac in file.item.assets)
        return [id_ for id_ in ids if id_ is not None and id_ in self._files]

    def size(self, file_id: str) -> int | None:
        """A file's size in bytes, None if unknown."""
        return self._learned.get(file_id)

    def counts(self) -> tuple[int, int]:
        """How many files are held here, and how many of these have an unknown size."""
        return len(self._files), len(self._files) - len(self._learned)

    def learn_asset_size(self, asset: Asset, size: int) -> None:
        """Store the size of a delivery that UP42 lists without one, for later mounts."""
        if self._items is not None:
            self._items.learn_size(asset.id, asset.id, asset.updated_at.isoformat(), size)

    def learn_size(self, file_id: str, size: int) -> None:
        """Keep a size until the file is evicted here, and store it for later mounts."""
        file = self._files.get(file_id)
        if file is None:
            return
        self._learned[file_id] = size
        if file.asset_id is not None and self._items is not None:
            self._items.learn_size(file_id, file.asset_id, stamp_of(file.item), size)

    def made_ns(self, file_id: str) -> int:
        """Creation time of a file, in nanoseconds since 1970; 0 if it was evicted."""
        return self._made_ns.get(file_id, 0)

    def keys(self, file_id: str) -> int:
        """Number of names of a file in each directory of its item."""
        return self._keys.get(file_id, 1)

    def latest_ns(self, asset_id: str) -> int:
        """Creation time of an asset's latest file, as far as they were listed; else 0."""
        return max(self._latest_ns.get(asset_id, 0), self._transformations.at_ns(asset_id))

    def is_held(self, file_id: str) -> bool:
        return file_id in self._files

    def refill(self, items: Iterable[StacItem]) -> None:
        """Load all files of items again."""
        for item in items:
            self.named(item, item.assets)

    def _hold(self, file: ItemFile, file_id: str, sizes: Mapping[str, int], made_ns: int) -> None:
        known = self._files.get(file_id)
        if known is not None and stamp_of(known.item) != stamp_of(file.item):
            self._learned.pop(file_id, None)
            self.on_change(Node(Kind.FILE, file_id, file.asset_id or ""))
        self._made_ns[file_id] = made_ns
        if known is not None and known.item.id != file.item.id:
            self._by_item[known.item.id].discard(file_id)
        self._files[file_id] = file
        self._by_item.setdefault(file.item.id, set()).add(file_id)
        self._by_item.move_to_end(file.item.id)
        if file_id in sizes:
            self._learned.setdefault(file_id, sizes[file_id])

    def _forget_oldest(self) -> None:
        while len(self._files) > self._most and len(self._by_item) > 1:
            _, file_ids = self._by_item.popitem(last=False)
            for file_id in file_ids:
                file = self._files.pop(file_id)
                self._learned.pop(file_id, None)
                self._made_ns.pop(file_id, None)
                self._keys.pop(file_id, None)
                self._latest_ns.pop(file.asset_id or "", None)

    def named(
        self, item: StacItem, among: Iterable[StacAsset], taken: tuple[str, ...] = ()
    ) -> dict[str, Node]:
        """Nodes of an item's readable files, by name; keeps them in memory."""
        file_names = static_stac.file_names(item, taken)
        sizes = self._items.sizes(item.asset_id) if self._items and item.asset_id else {}
        made_ns = self._made_at(item)
        listed: dict[str, Node] = {}
        seen: dict[str, Node] = {}
        for stac in among:
            if stac.asset_id is None:
                self._report(item, stac)
                continue
            name = file_names[stac.key]
            if stac.asset_id in seen:  # the same file under another key: another name
                listed[name] = seen[stac.asset_id]
                self._keys[stac.asset_id] = list(listed.values()).count(listed[name])
                continue
            if stac.asset_id in self._index.assets:
                listed[name] = Node(Kind.ASSET, stac.asset_id)
                continue
            self._hold(ItemFile(item.asset_id, item, stac, name), stac.asset_id, sizes, made_ns)
            listed[name] = seen[stac.asset_id] = node_of_file(item, stac.asset_id)
        self._forget_oldest()
        return listed

    def _made_at(self, item: StacItem) -> int:
        """Creation time of an item's files: never before their delivery, from which they were made.

        Part of the `updated` of items is the provider's, from before UP42 had the scene.
        """
        asset = self._index.assets.get(item.asset_id or "")
        if asset is None:
            moments = item_times(item)
            return 0 if moments is None else to_us(moments[0]) * 1000
        if item.id == item.collection_id:  # a collection's own files: nothing was transformed
            return to_us(asset.created_at) * 1000
        if item.updated is None and asset.cnam_status is CnamStatus.SUCCESSFUL:
            self._transformations.learn(asset)
        own_us = 0 if item.updated is None else to_us(item.updated)
        delivered_us = to_us(asset.created_at)
        made_ns = max(own_us, delivered_us) * 1000
        made_ns = max(made_ns, self._transformations.at_ns(asset.id))
        self._latest_ns[asset.id] = max(self._latest_ns.get(asset.id, 0), made_ns)
        return made_ns

    def _report(self, item: StacItem, stac: StacAsset) -> None:
        if (item.id, stac.key) not in self._refused:
            self._refused.add((item.id, stac.key))
            log.warning(
                "%s of item %s (asset %s) is left out: %s",
                stac.key, item.id, item.asset_id, stac.refusal or "it has no link to UP42",
            )  # fmt: skip


class WalkOrder:
    """An order in which deliveries may be opened one after another, and the position in it."""

    def __init__(self, asset_ids: Sequence[str]) -> None:
        self._asset_ids = asset_ids
        self._ranks = {asset_id: rank for rank, asset_id in enumerate(asset_ids)}
        self._reached: int | None = None

    def next_of(self, asset_id: str) -> Sequence[str]:
        """The delivery, and those after it if it is the next one or follows the last one closely.

        If there are few, return all: reading them takes less time than two calls.
        """
        rank = self._ranks.get(asset_id)
        if rank is None:
            return (asset_id,)
        if len(self._asset_ids) <= TOGETHER:
            return self._asset_ids
        is_next = self._reached is not None and 0 <= rank - self._reached <= TOGETHER
        count = TOGETHER if is_next else 1
        self._reached = rank + count
        return self._asset_ids[rank : rank + count]


class Transformed:
    """The branch of FILES, ITEM and FILE nodes."""

    kinds = frozenset({Kind.FILES, Kind.ITEM, Kind.FILE})
    top: Mapping[str, Node] = {}

    def __init__(self, index: Index, items: Items, registry: FileRegistry) -> None:
        self._index = index
        self.items = items
        self._registry = registry
        self._shown: LRUCache[Node, tuple[StacItem, ...]] = LRUCache(MOST_SHOWN)
        self._expected: LRUCache[str, Callable[[], Iterable[Sequence[str]]]] = LRUCache(MOST_WALKS)
        self._walks: LRUCache[str, list[WalkOrder]] = LRUCache(MOST_WALKS)
        self._documents: LRUCache[str, bytes] = LRUCache(MOST_DOCUMENTS)
        #: The directory of the members of what was delivered, if that is an archive.
        self.original_of: Callable[[Node], Node | None] = lambda _: None

    async def prepare(self, node: Node) -> bool:
        """Load the items of the asset; return whether they differ from those shown before."""
        if node.kind is Kind.FILE:
            await self._prepare_file(node)
            return False
        asset = self._index.assets.get(node.id.partition("/")[0])
        if asset is None:
            return False
        if self.items.known(asset.id) is None:
            await self.items.recall(self._next_of(node.place, asset))
        items = await self.items.of_asset(asset)
        changed = self._shown.get(node) is not items
        self._shown[node] = items
        return changed

    def expect(self, place: str, orders: Callable[[], Iterable[Sequence[str]]]) -> None:
        """Note that a directory of assets is listed, which may be walked in one of the orders."""
        self._walks.pop(place, None)
        self._expected[place] = orders

    def _next_of(self, place: str, asset: Asset) -> list[Asset]:
        """The asset, and in a walk those that will be opened after it."""
        orders = self._expected.pop(place, None)
        if orders is not None:
            self._walks[place] = [WalkOrder(order) for order in orders()]
        following = [walk.next_of(asset.id) for walk in self._walks.get(place, ())]
        asset_ids = max(following, key=len, default=(asset.id,))
        assets = self._index.assets
        return [assets[id_] for id_ in asset_ids if id_ in assets]

    async def _prepare_file(self, node: Node) -> None:
        asset = self._index.assets.get(node.place)
        if asset is None or self._registry.is_held(node.id):
            return
        other = self._registry.elsewhere(node.id)
        self._registry.refill([other] if other else await self.items.of_asset(asset))

    def children(self, node: Node) -> dict[str, Node]:
        """The files of the item, or the items if there are several."""
        asset_id, _, item_id = node.id.partition("/")
        items = self._shown.get(node) or ()
        if item_id:
            items = tuple(item for item in items if item.id == item_id)
        if not items:
            return {}
        if len(items) == 1:
            document = Node(Kind.DOCUMENT, f"item/{asset_id}/{items[0].id}")
            files = self._registry.named(items[0], transformed_files(items[0]))
            return {ITEM_JSON: document} | files
        return {
            name: Node(Kind.ITEM, f"{asset_id}/{id_}", str(node))
            for id_, name in static_stac.item_names(items).items()
        }

    def members(self, node: Node) -> Iterable[Asset]:
        """Empty: these are not directories of assets."""
        return ()

    def find(self, parent: Node, name: str) -> Node | None:
        """Resolve an item's ID as a name, and the directory of the delivery's own members."""
        if name == ORIGINAL and parent.kind is Kind.FILES:
            return self.original_of(parent)
        asset_id, _, item_id = parent.id.partition("/")
        items = self._shown.get(parent) or ()
        if item_id or len(items) < 2 or not any(item.id == name for item in items):
            return None
        return Node(Kind.ITEM, f"{asset_id}/{name}", str(parent))

    def exists(self, node: Node) -> bool:
        """Whether the asset is still transformed, or the file still listed."""
        if node.kind is Kind.FILE and not node.place:
            return self._registry.get(node.id) is not None
        if node.kind is Kind.FILE:
            return node.place in self._index.assets
        return self._index.is_transformed(node.id.partition("/")[0])

    def _delivery(self, node: Node) -> Asset | None:
        asset_id = node.place if node.kind is Kind.FILE else node.id.partition("/")[0]
        return self._index.assets.get(asset_id)

    def links(self, node: Node) -> int:
        """Link count of a file: its names in all views; of a directory: 2 plus its items."""
        if node.kind is Kind.FILE:
            figures = self._index.assets.figures(node.place)
            return self._registry.keys(node.id) * (1 if figures is None else figures.names)
        if node.kind is Kind.ITEM:
            return 2
        items = self.items.known(node.id)
        if items is None:
            return UNCOUNTED
        return 2 + (len(items) if len(items) > 1 else 0)

    def times(self, node: Node) -> tuple[datetime, datetime] | None:
        """The times of the delivery, since its files came with it."""
        asset = self._delivery(node)
        if asset is not None:
            return asset.created_at, asset.updated_at
        file = self._registry.get(node.id) if node.kind is Kind.FILE else None
        return item_times(file.item) if file else None

    def item_of(self, node: Node) -> StacItem | None:
        """The item that a FILES or ITEM directory shows, if it is known and the only one."""
        asset_id, _, item_id = node.id.partition("/")
        items = self.items.known(asset_id) or ()
        if item_id:
            return next((item for item in items if item.id == item_id), None)
        return items[0] if len(items) == 1 else None

    def is_settled(self, node: Node) -> bool:
        """Whether a directory shows files; until then its items are fetched again and again."""
        return any(map(transformed_files, self._shown.get(node) or ()))

    async def whole_item(self, node: Node) -> StacItem | None:
        """The item of a file or of a directory with one item, with its document; may need requests.

        Returns None if there is no such item.
        """
        asset = self._delivery(node)
        if asset is None:
            return None
        file = self._registry.get(node.id) if node.kind is Kind.FILE else None
        item_id = file.item.id if file else node.id.partition("/")[2]
        items = await self.items.whole(asset)
        if not item_id:
            return items[0] if len(items) == 1 else None
        return next((item for item in items if item.id == item_id), None)

    async def ensure_document(self, document_id: str) -> None:
        """Load what `document` needs; may send requests."""
        _, asset_id, item_id = document_id.split("/", 2)
        item = await self.whole_item(Node(Kind.ITEM, f"{asset_id}/{item_id}"))
        if item is None:
            self._documents.pop(document_id, None)
            return
        files = readable_files(item, transformed_files(item))
        made = to_json(static_stac.item_document(item, files=files, self_contained=True))
        self._documents[document_id] = made

    def document(self, document_id: str) -> bytes | None:
        """An item.json, self-contained, with relative hrefs; None if it was not loaded recently."""
        return self._documents.get(document_id)


def node_of_file(item: StacItem, file_id: str) -> Node:
    """A file's node; it names its delivery if that is known."""
    return Node(Kind.FILE, file_id, item.asset_id or "")


def readable_files(
    item: StacItem, among: Iterable[StacAsset], taken: tuple[str, ...] = ()
) -> dict[str, str]:
    """Names of the files beside the document, by STAC asset key."""
    file_names = static_stac.file_names(item, taken)
    return {stac.key: file_names[stac.key] for stac in among if stac.asset_id is not None}


def item_times(item: StacItem) -> tuple[datetime, datetime] | None:
    """Times of the last change of an item's content and attributes, if it has any."""
    made = item.updated or item.created or item.datetime
    return None if made is None else (made, made)


def to_json(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"
