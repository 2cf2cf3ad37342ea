"""A part of the tree that must be asked for before it can be shown: what every such part offers.

Knows no part: `transformed`, `static` and `search` are some.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol

from up42fs.fs.tree.nodes import Kind, Node
from up42fs.types import Asset


class Branch(Protocol):
    """A part of the tree that is not made of the index alone."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """The nodes it answers for."""
        ...

    @property
    def top(self) -> Mapping[str, Node]:
        """What it adds to the mount point."""
        ...

    async def prepare(self, node: Node) -> bool:
        """Make `children(node)` possible; whether it differs from before. May ask UP42."""
        ...

    def children(self, node: Node) -> dict[str, Node]:
        """Names of a prepared directory."""
        ...

    def members(self, node: Node) -> Iterable[Asset]:
        """The assets of a prepared directory of assets."""
        ...

    def find(self, parent: Node, name: str) -> Node | None:
        """What an unlisted name means in a prepared directory."""
        ...

    def exists(self, node: Node) -> bool:
        """Whether `node` is (still) there, as far as is known without asking."""
        ...

    def links(self, node: Node) -> int:
        """Its link count."""
        ...

    def times(self, node: Node) -> tuple[datetime, datetime] | None:
        """When it was made and changed, None where the tree itself is meant."""
        ...
