"""What all documents have in common that are made when they are opened: outlines, orders, areas.

They stand in directories of assets under names that always work and that only an option lists.
`fs.branches.branches` holds all of them. A name that the directory lists takes precedence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import datetime

from up42fs.fs.branches.spool import Content
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.nodes import Node


class MadeDocuments(ABC):
    """One kind of such documents."""

    #: The start of the IDs of its DOCUMENT nodes, `/` included.
    prefix: str
    #: Whether its documents are listed, and not only found by name.
    lists: bool

    @abstractmethod
    def names(self, directory: Node) -> Iterable[str]:
        """The names of the documents in a directory."""

    @abstractmethod
    def node(self, directory: Node, name: str) -> Node | None:
        """The document of this name in a directory, if there is one."""

    @abstractmethod
    async def ensure(self, document: Node, layout: Layout) -> object:
        """Make what `known` returns; may send requests. Raises an `Up42fsError`."""

    @abstractmethod
    def known(self, document: Node) -> Content | None:
        """The document as it was last made, if that was lately."""

    def is_private(self, document: Node) -> bool:
        """Whether only the user who mounted may read it."""
        return False

    def times(self, document: Node) -> tuple[datetime, datetime] | None:
        """Times of content and attributes; None if the tree's own apply."""
        return None
