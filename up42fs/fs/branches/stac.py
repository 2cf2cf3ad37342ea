"""`stac/`: the storage as a static STAC catalogue of real files (design §2).

`model.stac_documents` builds the documents. No request is sent before a directory is opened, then
one directory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from cachetools import LRUCache

from up42fs.catalog.collections import Collections
from up42fs.fs.branches.archives import Archives
from up42fs.fs.branches.transformed import FileRegistry, item_times, readable_files, to_json
from up42fs.fs.tree import member_ids
from up42fs.fs.tree.layout import UNCOUNTED
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.model import names
from up42fs.model import stac_documents as static_stac
from up42fs.model.stac import StacCollection, StacItem, as_item
from up42fs.types import Asset

#: Collections whose items are kept in memory.
MOST_SHOWN = 256
_CATALOG = Node(Kind.DOCUMENT, "catalog")


class _Opened(NamedTuple):
    items: tuple[StacItem, ...]
    names: Mapping[str, str]


class _Archive(NamedTuple):
    """An archive that an item names, and the name of the directory of its members beside it."""

    asset_id: str
    directory: str


_NOTHING = _Opened((), MappingProxyType({}))


class StaticCatalogue:
    """The branch of STAC, COLLECTION and STAC_ITEM nodes."""

    kinds = frozenset({Kind.STAC, Kind.COLLECTION, Kind.STAC_ITEM})
    top: Mapping[str, Node] = {"stac": Node(Kind.STAC)}

    def __init__(
        self, collections: Collections, registry: FileRegistry, archives: Archives | None = None
    ) -> None:
        self._source = collections
        self._archives = archives
        self._registry = registry
        registry.elsewhere = self._with_file
        #: File ID -> the ID of the collection whose own file it is.
        self._own: dict[str, str] = {}
        self._all: tuple[StacCollection, ...] = ()
        self._by_id: dict[str, StacCollection] = {}
        self._names: dict[str, str] = {}
        #: Items of the recently opened collections, and their names by ID.
        self._shown: LRUCache[str, _Opened] = LRUCache(MOST_SHOWN)

    async def prepare(self, node: Node) -> bool:
        """Load the collections, and the items of the node's; return whether they changed."""
        changed = await self._learn_collections() if node.kind is Kind.STAC else False
        collection_id = node.id.partition("/")[0]
        if collection_id in self._by_id:
            changed = await self._learn_items(collection_id)
        return changed

    def children(self, node: Node) -> dict[str, Node]:
        """The directory's document, and the entries it links to."""
        collection_id, _, item_id = node.id.partition("/")
        if node.kind is Kind.STAC:
            listed = {name: Node(Kind.COLLECTION, id_) for id_, name in self._names.items()}
            return {static_stac.CATALOG_DOCUMENT: _CATALOG} | listed
        if node.kind is Kind.COLLECTION:
            document = Node(Kind.DOCUMENT, f"collection/{collection_id}")
            items = {
                name: Node(Kind.STAC_ITEM, f"{collection_id}/{id_}")
                for id_, name in self._of(collection_id).names.items()
            }
            own = self._own_files(self._by_id[collection_id])
            return {static_stac.COLLECTION_DOCUMENT: document} | items | own
        item = self._item(collection_id, item_id)
        if item is None:
            return {}
        name = self._document_name(collection_id, item_id)
        document = Node(Kind.DOCUMENT, f"stac-item/{node.id}")
        return {name: document} | self._registry.named(item, item.assets, (name,))

    def members(self, node: Node) -> Iterable[Asset]:
        """Empty: these are not directories of assets."""
        return ()

    def find(self, parent: Node, name: str) -> Node | None:
        """Resolve the ID of a collection or item as a name."""
        if parent.kind is Kind.STAC and name in self._by_id:
            return Node(Kind.COLLECTION, name, name)
        if parent.kind is Kind.COLLECTION and self._item(parent.id, name) is not None:
            return Node(Kind.STAC_ITEM, f"{parent.id}/{name}", name)
        if parent.kind is Kind.STAC_ITEM and self._archives is not None:
            archive = self._archive_of(parent.id)
            if archive is not None and archive.directory == name:
                return member_ids.top_of(archive.asset_id, f"{parent}/{name}")
        return None

    def _archive_of(self, node_id: str) -> _Archive | None:
        """The archive in an item's directory, whose members resolve by name there."""
        collection_id, _, item_id = node_id.partition("/")
        item = self._item(collection_id, item_id)
        if item is None or self._archives is None:
            return None
        document = self._document_name(collection_id, item_id)
        files = self._registry.named(item, item.assets, (document,))
        for name, node in files.items():
            if node.kind is Kind.ASSET and self._archives.is_shown(node.id):
                stem = names.split_extension(name)[0]
                is_taken = stem in files or stem == document
                return _Archive(node.id, names.files_name(stem) if is_taken else stem)
        return None

    def exists(self, node: Node) -> bool:
        """Whether the collection or item was in the last listing."""
        collection_id, _, item_id = node.id.partition("/")
        match node.kind:
            case Kind.COLLECTION:
                return collection_id in self._by_id
            case Kind.STAC_ITEM:
                # Items that were evicted count as existing until their collection is opened again.
                return collection_id in self._by_id and (
                    collection_id not in self._shown
                    or self._item(collection_id, item_id) is not None
                )
            case _:
                return True

    def links(self, node: Node) -> int:
        """2 plus the number of subdirectories, if known."""
        match node.kind:
            case Kind.STAC:
                return 2 + len(self._names) if self._all else UNCOUNTED
            case Kind.COLLECTION:
                shown = self._shown.get(node.id)
                return UNCOUNTED if shown is None else 2 + len(shown.names)
            case _:
                return 2

    def times(self, node: Node) -> tuple[datetime, datetime] | None:
        """An item's own times; collections have none (contract §5.2)."""
        collection_id, _, item_id = node.id.partition("/")
        item = self._item(collection_id, item_id)
        return item_times(item) if item else None

    async def ensure_document(self, document_id: str) -> None:
        """Load what `document` needs, if it was evicted."""
        collection_id = document_id.partition("/")[2].partition("/")[0]
        if collection_id in self._by_id and collection_id not in self._shown:
            await self._learn_items(collection_id)
        if document_id.startswith("stac-item/") and self._archives is not None:
            archive = self._archive_of(document_id.partition("/")[2])
            if archive is not None:
                await self._archives.look(archive.asset_id)

    def document(self, document_id: str) -> bytes | None:
        """catalog.json, a collection.json or an item's document; None if it was never listed."""
        kind, _, rest = document_id.partition("/")
        collection_id, _, item_id = rest.partition("/")
        if kind == "catalog":
            children = [(name, self._by_id[id_]) for id_, name in self._names.items()]
            return to_json(static_stac.catalog_document(children))
        collection = self._by_id.get(collection_id)
        if collection is None:
            return None
        if kind == "collection":
            shown = self._of(collection_id)
            rows = [(shown.names[item.id], item) for item in shown.items]
            own, taken = as_item(collection), self._taken(collection_id)
            files = readable_files(own, own.assets, taken)
            return to_json(static_stac.collection_document(collection, rows, files=files))
        item = self._item(collection_id, item_id)
        if item is None:
            return None
        taken = (self._document_name(collection_id, item_id),)
        files = readable_files(item, item.assets, taken)
        made = static_stac.item_document(item, files=files, self_contained=False)
        archive = self._archive_of(rest)
        if archive is not None and self._archives is not None:
            paths = self._archives.paths(archive.asset_id)
            made["assets"] |= static_stac.members_as_assets(archive.directory, paths)
        return to_json(made)

    def _own_files(self, collection: StacCollection) -> dict[str, Node]:
        """The files beside collection.json: the delivery, its thumbnail."""
        item = as_item(collection)
        return self._registry.named(item, item.assets, self._taken(collection.id))

    def _taken(self, collection_id: str) -> tuple[str, ...]:
        """Names of items beside collection.json, which its files cannot have."""
        return static_stac.COLLECTION_DOCUMENT, *self._of(collection_id).names.values()

    def _with_file(self, file_id: str) -> StacItem | None:
        collection = self._by_id.get(self._own.get(file_id, ""))
        return as_item(collection) if collection is not None else None

    async def _learn_collections(self) -> bool:
        collections = await self._source.all()
        if collections is self._all:
            return False
        self._all = collections
        self._by_id = {collection.id: collection for collection in collections}
        self._own = {
            stac.asset_id: each.id
            for each in collections
            for stac in each.assets
            if stac.asset_id is not None
        }
        # The listing is newest first (contract §5.2); names are assigned from the oldest on.
        self._names = static_stac.collection_names(tuple(reversed(collections)))
        for gone in self._shown.keys() - self._by_id.keys():
            del self._shown[gone]
        return True

    async def _learn_items(self, collection_id: str) -> bool:
        items = await self._source.items(collection_id)
        shown = self._shown.get(collection_id)
        if shown is not None and shown.items is items:
            return False
        self._shown[collection_id] = _Opened(items, static_stac.item_names(items))
        return True

    def _of(self, collection_id: str) -> _Opened:
        return self._shown.get(collection_id) or _NOTHING

    def _item(self, collection_id: str, item_id: str) -> StacItem | None:
        items = self._of(collection_id).items
        return next((item for item in items if item.id == item_id), None) if item_id else None

    def _document_name(self, collection_id: str, item_id: str) -> str:
        return static_stac.item_document_name(self._of(collection_id).names[item_id])
