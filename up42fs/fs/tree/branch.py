"""The interface of a part of the tree that must be fetched before it can be shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol

from up42fs.catalog.index import Delta
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.types import Asset


class ArchiveNames(Protocol):
    """Which assets are shown as archives, as far as known without a request."""

    @property
    def lists(self) -> bool:
        """Whether their directories are listed, and not only found by name."""

    @property
    def restored(self) -> bool:
        """Whether the last change made an archive of an asset that was none."""

    def archive_stem(self, asset_id: str, wish: str) -> str | None:
        """The wished-for name of an asset without its ending; None if it is no archive."""

    def follow(self, delta: Delta) -> None:
        """Follow a change of the index."""


class Branch(Protocol):
    """A part of the tree that is not built from the index alone."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of its nodes."""

    @property
    def top(self) -> Mapping[str, Node]:
        """Its entries in the mount point."""

    async def prepare(self, node: Node) -> bool:
        """Load what `children(node)` needs; return whether it changed. May send requests."""

    def children(self, node: Node) -> dict[str, Node]:
        """The entries of a prepared directory, by name."""

    def members(self, node: Node) -> Iterable[Asset]:
        """The assets of a prepared directory of assets."""

    def find(self, parent: Node, name: str) -> Node | None:
        """The node of an unlisted name in a prepared directory, if any."""

    def exists(self, node: Node) -> bool:
        """Whether `node` (still) exists, as far as known without a request."""

    def links(self, node: Node) -> int:
        """The node's link count."""

    def times(self, node: Node) -> tuple[datetime, datetime] | None:
        """Times of creation and change; None if the tree's own apply."""
