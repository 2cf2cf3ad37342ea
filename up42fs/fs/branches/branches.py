"""The parts of the tree beside the four views, combined: files, `stac/`, `search/`, documents."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import trio

from up42fs.catalog.collections import Collections
from up42fs.catalog.descriptions import Descriptions
from up42fs.catalog.index import Index
from up42fs.catalog.items import Items
from up42fs.catalog.jobs import Jobs
from up42fs.catalog.order_details import OrderDetails
from up42fs.catalog.searches import Searches
from up42fs.catalog.transformations import Transformations
from up42fs.fs.branches import footprints, layers
from up42fs.fs.branches.archives import Archives
from up42fs.fs.branches.footprints import Footprints
from up42fs.fs.branches.jobs import JobDirectories
from up42fs.fs.branches.layers import Layers
from up42fs.fs.branches.made import MadeDocuments
from up42fs.fs.branches.order_documents import OrderDocuments
from up42fs.fs.branches.previews import Previews
from up42fs.fs.branches.search import Search
from up42fs.fs.branches.spool import Content
from up42fs.fs.branches.stac import StaticCatalogue
from up42fs.fs.branches.transformed import FileRegistry, Transformed
from up42fs.fs.tree import member_ids
from up42fs.fs.tree.branch import Branch
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.model import pictures


class Branches:
    """The directories beside orders, tags, states and assets; without sources there are none."""

    def __init__(
        self,
        index: Index,
        *,
        items: Items | None = None,
        collections: Collections | None = None,
        searches: Searches | None = None,
        jobs: Jobs | None = None,
        order_details: OrderDetails | None = None,
        lists_footprints: bool = False,
        lists_order_documents: bool = False,
        lists_previews: bool = False,
        transformations: Transformations | None = None,
        archives: Archives | None = None,
        descriptions: Descriptions | None = None,
        nursery: trio.Nursery | None = None,
        spool_directory: Path | None = None,
    ) -> None:
        """Long documents are made in `nursery`, if given, and lie in `spool_directory`."""
        self.descriptions = descriptions or Descriptions(index, items, collections)
        self.archives = archives
        self.transformations = transformations or Transformations(index)
        self.registry = FileRegistry(index, items, transformations=self.transformations)
        self.transformed = Transformed(index, items, self.registry) if items else None
        if self.transformed is not None and archives is not None:
            self.transformed.original_of = archives.original_of
        self.static = StaticCatalogue(collections, self.registry, archives) if collections else None
        search = Search(index, searches, self.descriptions) if searches else None
        self._made: list[MadeDocuments] = []
        self.layers: Layers | None = None
        self.previews: Previews | None = None
        if items is not None:
            self.previews = Previews(
                index, items, self.descriptions, self.registry, lists=lists_previews
            )
            self.layers = Layers(index, items, self.registry, lists=lists_footprints)
            outlines = Footprints(
                index,
                items,
                self.descriptions,
                lists=lists_footprints,
                nursery=nursery,
                directory=spool_directory,
            )
            self._made += [outlines, self.layers]
        if order_details is not None:
            self._made.append(OrderDocuments(index, order_details, lists=lists_order_documents))
        results = JobDirectories(index, jobs) if jobs else None
        found: list[Branch | None] = [self.transformed, self.static, search, results, archives]
        self.all: list[Branch] = [branch for branch in found if branch is not None]

    def is_settled(self, directory: Node, name: str) -> bool:
        """Whether a negative lookup in a prepared directory may be cached."""
        if pictures.stem_of(name) is not None:  # the crawl may come to it at any time
            return False
        if self.transformed is None or directory.kind not in (Kind.FILES, Kind.ITEM):
            return True
        return self.transformed.is_settled(directory)

    async def recall(self, directory: Node, name: str | None = None) -> None:
        """Load what the documents of a directory, or the one of a name, depend on; no request."""
        if self.previews is not None:
            await self.previews.recall(directory, name)

    def made_in(self, directory: Node, name: str) -> Node | None:
        """The picture, or the document that is made on opening, of this name in a directory."""
        made = (documents.node(directory, name) for documents in self._made)
        found = next((node for node in made if node is not None), None)
        if found is None and self.previews is not None:
            return self.previews.node(directory, name)
        return found

    def listed_documents(self, directory: Node) -> dict[str, Node]:
        """Pictures, and documents that are made on opening, as far as a directory lists them."""
        found = {} if self.previews is None else self.previews.listed(directory)
        for documents in self._made:
            for name in documents.names(directory) if documents.lists else ():
                node = documents.node(directory, name)
                if node is not None:
                    found[name] = node
        return found

    def is_private(self, node: Node) -> bool:
        """Whether only the user who mounted may read a DOCUMENT."""
        made_by = self._made_by(node)
        return made_by is not None and made_by.is_private(node)

    def _made_by(self, node: Node) -> MadeDocuments | None:
        if node.kind is not Kind.DOCUMENT:
            return None
        return next((made for made in self._made if node.id.startswith(made.prefix)), None)

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
        made_by = self._made_by(node)
        if made_by is not None:
            return made_by.times(node)
        kind, _, id_ = node.id.partition("/")
        if kind == "item" and self.transformed is not None:
            return self.transformed.times(Node(Kind.FILES, id_))
        if kind == "stac-item" and self.static is not None:
            return self.static.times(Node(Kind.STAC_ITEM, id_))
        return None

    def subject_of(self, node: Node) -> Node | None:
        """The directory of assets that a DOCUMENT is about; None for others."""
        if node.id.startswith(footprints.PREFIX):
            return footprints.directory_of(node)
        if node.id.startswith(layers.PREFIX):
            return layers.directory_of(node)
        return None

    async def ensure(self, node: Node, layout: Layout) -> None:
        """Load what `render(node)` needs for a DOCUMENT; may send requests.

        Raises an `Up42fsError`.
        """
        made_by = self._made_by(node)
        if made_by is not None:
            await made_by.ensure(node, layout)
        elif node.id.startswith("item/"):
            if self.transformed is not None:
                await self.transformed.ensure_document(node.id)
        elif self.static is not None:
            await self.static.ensure_document(node.id)

    def render(self, node: Node) -> Content | None:
        """A DOCUMENT's content; None if its subject is gone, or was never loaded."""
        made_by = self._made_by(node)
        if made_by is not None:
            return made_by.known(node)
        if node.id.startswith("item/"):
            return self.transformed.document(node.id) if self.transformed else None
        return self.static.document(node.id) if self.static else None
