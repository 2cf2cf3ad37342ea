"""Pictures of deliveries: `scene.preview.jpg` beside `scene.zip`, and the bytes of any of them.

Theory. The items of a delivery, or its collection, may name a thumbnail or quicklook. A transformed
delivery has it among its files. Of others it stands beside the delivery, under a name that always
works and is listed by an option: a copy of an order shall hold what was ordered. Only what UP42 is
known to have is there, as the crawl learned it, so names and listings cost no request. The
catalogue of scenes that can be ordered is not asked: an order's `imageId` may name a scene, but no
evidence says that it is the ID of that catalogue's item (contract §4.2, §14).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from cachetools import TTLCache

from up42fs.archive.kinds import archive_names
from up42fs.catalog.descriptions import Descriptions
from up42fs.catalog.index import Index
from up42fs.catalog.items import Items
from up42fs.errors import NotFound, TooLarge
from up42fs.fs.branches.transformed import FileRegistry
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.model import pictures
from up42fs.model.stac import StacAsset, StacItem, as_item
from up42fs.types import Asset, CnamStatus

#: Directories of assets where the names work, and those of them that list them.
_LISTING = frozenset({Kind.ORDER, Kind.TAG, Kind.QUERY, Kind.JOB})
KINDS = _LISTING | {Kind.ASSETS, Kind.STATUS, Kind.WORKSPACE}
#: Assets of a directory whose descriptions are read from disk for a listing.
MOST_LISTED = 1000
#: The longest picture, and what all that are kept take, bytes; seconds that they are kept.
MOST_BYTES = 4 << 20
MOST_KEPT_BYTES = 16 << 20
KEPT_S = 600.0
_IMAGES = (".tif", ".tiff", ".jp2", ".ntf", ".TIF", ".JP2")

#: The bytes [START, STOP) of a file, as far as it has them; raises an `Up42fsError`.
ReadBytes = Callable[[Node, int, int], Awaitable[bytes]]
#: The size of a file; raises an `Up42fsError`.
SizeOf = Callable[[Node], Awaitable[int]]


async def _nothing(node: Node, _start: int, _stop: int) -> bytes:
    raise NotFound(f"{node.kind.value} {node.id} cannot be read")


async def _unknown(node: Node) -> int:
    raise NotFound(f"{node.kind.value} {node.id} has no size")


class Previews:
    """The pictures of all deliveries."""

    def __init__(
        self,
        index: Index,
        items: Items,
        descriptions: Descriptions,
        registry: FileRegistry,
        *,
        lists: bool,
    ) -> None:
        self.lists = lists
        self._index = index
        self._items = items
        self._descriptions = descriptions
        self._registry = registry
        #: Set by the tree, which knows names and can read files.
        self.layout: Layout | None = None
        self.read_bytes: ReadBytes = _nothing
        self.size_of: SizeOf = _unknown
        self._kept: TTLCache[str, bytes] = TTLCache(
            MOST_KEPT_BYTES, KEPT_S, trio.current_time, getsizeof=len
        )

    # beside deliveries ---------------------------------------------------------------------

    def listed(self, directory: Node) -> dict[str, Node]:
        """The pictures of a directory's deliveries, as far as their descriptions are in memory."""
        if not self.lists or directory.kind not in _LISTING or self.layout is None:
            return {}
        found: dict[str, Node] = {}
        for delivery, node in self.layout.children(directory).items():
            standing = self._standing(node)
            if standing is not None:
                name = pictures.beside(delivery, standing[1])
                found.setdefault(name, self._file(*standing))
        return found

    def node(self, directory: Node, name: str) -> Node | None:
        """The picture of this name in a directory, if it is known."""
        for delivery, node in self._deliveries(directory, name):
            standing = self._standing(node)
            if standing is not None and pictures.beside(delivery, standing[1]) == name:
                return self._file(*standing)
        return None

    async def recall(self, directory: Node, name: str | None = None) -> None:
        """Load what `node`, or without a name `listed`, needs from the snapshot; no request."""
        if name is not None:
            nodes = [node for _, node in self._deliveries(directory, name)]
        elif self.lists and directory.kind in _LISTING and self.layout is not None:
            nodes = list(self.layout.children(directory).values())[:MOST_LISTED]
        else:
            return
        assets = [self._index.assets.get(node.id) for node in nodes if node.kind is Kind.ASSET]
        unknown = [a for a in assets if a is not None and self._items.known(a.id) is None]
        if unknown:
            await self._descriptions.recall(unknown)

    def _deliveries(self, directory: Node, name: str) -> list[tuple[str, Node]]:
        """The deliveries that a picture of this name may be of, by their names."""
        stem = pictures.stem_of(name) if directory.kind in KINDS else None
        if stem is None or self.layout is None:
            return []
        wanted = (stem, *archive_names(stem), *(stem + ending for ending in _IMAGES))
        children = self.layout.children(directory)
        found = [(one, children[one]) for one in wanted if one in children]
        return [(one, node) for one, node in found if node.kind is Kind.ASSET]

    def _standing(self, node: Node) -> tuple[StacItem, StacAsset] | None:
        """The picture that stands beside a delivery: of a transformed one it is among its files."""
        asset = self._index.assets.get(node.id) if node.kind is Kind.ASSET else None
        if asset is None or asset.cnam_status is CnamStatus.SUCCESSFUL:
            return None
        return self._picture(asset.id)

    def _file(self, item: StacItem, picture: StacAsset) -> Node:
        return next(iter(self._registry.named(item, (picture,)).values()))

    # bytes ---------------------------------------------------------------------------------

    async def of_asset(self, asset: Asset) -> bytes:
        """The picture of a delivery; one search if its items are unknown. Raises NotFound."""
        await self._descriptions.ask(asset)
        found = self._picture(asset.id)
        if found is None:
            raise NotFound(f"UP42 has no thumbnail of asset {asset.id}")
        return await self._bytes(*found)

    async def of_item(self, item: StacItem) -> bytes:
        """The picture of an item; raises NotFound."""
        picture = pictures.picture_of(item.assets)
        if picture is None:
            raise NotFound(f"UP42 has no thumbnail of item {item.id}")
        return await self._bytes(item, picture)

    def _picture(self, asset_id: str) -> tuple[StacItem, StacAsset] | None:
        collection = self._descriptions.collection(asset_id)
        collected = () if collection is None else (as_item(collection),)
        for item in (*(self._items.known(asset_id) or ()), *collected):
            picture = pictures.picture_of(item.assets)
            # A delivery may itself be a picture: it needs none beside it.
            if picture is not None and picture.asset_id != asset_id:
                return item, picture
        return None

    async def _bytes(self, item: StacItem, picture: StacAsset) -> bytes:
        file_id = picture.asset_id or ""
        kept = self._kept.get(file_id)
        if kept is not None:
            return kept
        node = self._file(item, picture)
        # Its size first: of a picture that is too long nothing more is fetched.
        if await self.size_of(node) > MOST_BYTES:
            raise TooLarge(
                f"{picture.key} of item {item.id} has more than {MOST_BYTES >> 20} MiB, which is "
                "more than a preview has; it stands in stac/"
            )
        content = await self.read_bytes(node, 0, MOST_BYTES)
        self._kept[file_id] = content
        return content
