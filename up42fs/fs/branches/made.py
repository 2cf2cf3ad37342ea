"""The interface of documents that are made when they are opened: outlines, orders, areas.

They stand in directories of assets under names that always work and that only an option lists.
`fs.branches.branches` holds all of them. A name that the directory lists takes precedence.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from up42fs.fs.branches.spool import Content
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.nodes import Node


class MadeDocuments(Protocol):
    """One kind of such documents."""

    @property
    def prefix(self) -> str:
        """The start of the IDs of its DOCUMENT nodes, `/` included."""
        ...

    @property
    def lists(self) -> bool:
        """Whether its documents are listed, and not only found by name."""
        ...

    def names(self, directory: Node) -> Iterable[str]:
        """The names of the documents in a directory."""
        ...

    def node(self, directory: Node, name: str) -> Node | None:
        """The document of this name in a directory, if there is one."""
        ...

    async def ensure(self, document: Node, layout: Layout) -> object:
        """Make what `known` returns; may send requests. Raises an `Up42fsError`."""
        ...

    def known(self, document: Node) -> Content | None:
        """The document as it was last made, if that was lately."""
        ...

    def is_private(self, document: Node) -> bool:
        """Whether only the user who mounted may read it."""
        ...

    def times(self, document: Node) -> tuple[datetime, datetime] | None:
        """Times of content and attributes; None if the tree's own apply."""
        ...
