"""The parts of the tree beside the four views, combined: files, `stac/`, `search/`, documents."""

from __future__ import annotations

from datetime import datetime

from up42fs.catalog.collections import Collections
from up42fs.catalog.descriptions import Descriptions
from up42fs.catalog.index import Index
from up42fs.catalog.items import Items
from up42fs.catalog.searches import Searches
from up42fs.catalog.transformations import Transformations
from up42fs.fs.branches.archives import Archives
from up42fs.fs.branches.footprints import PREFIX, Footprints
from up42fs.fs.branches.search import Search
from up42fs.fs.branches.stac import StaticCatalogue
from up42fs.fs.branches.transformed import FileRegistry, Transformed
from up42fs.fs.tree import member_ids
from up42fs.fs.tree.branch import Branch
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.nodes import Kind, Node


class Branches:
    """The directories beside orders, tags, states and assets; without sources there are none."""

    def __init__(
        self,
        index: Index,
        *,
        items: Items | None = None,
        collections: Collections | None = None,
        searches: Searches | None = None,
        lists_footprints: bool = False,
        transformations: Transformations | None = None,
        archives: Archives | None = None,
        descriptions: Descriptions | None = None,
    ) -> None:
        self.descriptions = descriptions or Descriptions(index, items, collections)
        self.archives = archives
        self.transformations = transformations or Transformations(index)
        self.registry = FileRegistry(index, items, transformations=self.transformations)
        self.lists_footprints = lists_footprints and items is not None
        self.transformed = Transformed(index, items, self.registry) if items else None
        if self.transformed is not None and archives is not None:
            self.transformed.original_of = archives.original_of
        self.static = StaticCatalogue(collections, self.registry, archives) if collections else None
        search = Search(index, searches, self.descriptions) if searches else None
        self.footprints = Footprints(items, self.descriptions)
        found: list[Branch | None] = [self.transformed, self.static, search, archives]
        self.all: list[Branch] = [branch for branch in found if branch is not None]

    def is_settled(self, directory: Node) -> bool:
        """Whether negative lookups in a prepared directory may be cached."""
        if self.transformed is None or directory.kind not in (Kind.FILES, Kind.ITEM):
            return True
        return self.transformed.is_settled(directory)

    def asset_id_of(self, node: Node) -> str | None:
        """The delivery that a FILE, FILES, ITEM or item.json belongs to; None for other nodes."""
        match node.kind:
            case Kind.FILE:
                return node.place or None
            case Kind.FILES | Kind.ITEM:
                return node.id.partition("/")[0]
            case Kind.MEMBERS | Kind.MEMBER | Kind.MEMBER_LINK:
                return member_ids.asset_id_of(node.id)
            case Kind.DOCUMENT if node.id.startswith("item/"):
                return node.id.split("/")[1]
            case _:
                return None

    def times(self, node: Node) -> tuple[datetime, datetime] | None:
        """Times of creation and change of a DOCUMENT's subject; None if that is the tree itself."""
        kind, _, id_ = node.id.partition("/")
        if kind == "item" and self.transformed is not None:
            return self.transformed.times(Node(Kind.FILES, id_))
        if kind == "stac-item" and self.static is not None:
            return self.static.times(Node(Kind.STAC_ITEM, id_))
        return None

    async def ensure(self, node: Node, layout: Layout) -> None:
        """Load what `render(node)` needs for a DOCUMENT; may send requests.

        Raises an `Up42fsError`.
        """
        if node.id.startswith(PREFIX):
            await self.footprints.ensure(node, layout)
        elif node.id.startswith("item/"):
            if self.transformed is not None:
                await self.transformed.ensure_document(node.id)
        elif self.static is not None:
            await self.static.ensure_document(node.id)

    def render(self, node: Node) -> bytes | None:
        """A DOCUMENT's content; None if its subject is gone, or was never loaded."""
        if node.id.startswith(PREFIX):
            return self.footprints.known(node)
        if node.id.startswith("item/"):
            return self.transformed.document(node.id) if self.transformed else None
        return self.static.document(node.id) if self.static else None
