"""The names and attributes that the kernel must forget when the tree changes.

The catalogue changes (`apply`), a size is learned, an archive turns out to be none, a branch is
loaded: each gives up exactly the names that may be cached (rule 4 of `fs.filesystem`). None of it
awaits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from up42fs.catalog.index import Delta
from up42fs.fs.files.readahead import Siblings
from up42fs.fs.naming import Naming
from up42fs.fs.stats import Stats
from up42fs.fs.tree import member_ids
from up42fs.fs.tree.layout import Change
from up42fs.fs.tree.nodes import Kind, Node, inode_of
from up42fs.fs.whole_tree import WholeTree


@dataclass(frozen=True, slots=True)
class Invalidation:
    """Cached data that the kernel must drop: a directory's name, or (name None) attributes."""

    inode: int
    name: str | None = None


class Invalidations:
    """Follows changes of one tree. `tell` is called with what no method returns."""

    def __init__(
        self,
        tree: WholeTree,
        stats: Stats,
        siblings: Siblings,
        naming: Naming,
        tell: Callable[[list[Invalidation]], None],
    ) -> None:
        self._tree = tree
        self._stats = stats
        self._siblings = siblings
        self._naming = naming
        self._tell = tell

    def apply(self, delta: Delta) -> list[Invalidation]:
        """Follow a change of the catalogue; return what the kernel must forget."""
        self._tree.branches.transformations.follow(delta)
        self._naming.follow(delta)
        changes = list(self._tree.layout.apply(delta))
        moved = self._tree.moments.follow(delta, [change.parent for change in changes])
        self._siblings.changed(change.parent for change in changes)
        stale = [item for change in changes for item in self._stale_names(change)]
        for asset_id in delta.assets:
            asset = self._tree.index.assets.get(asset_id)
            if asset is None:
                self._tree.files.forget(asset_id)
                # If it comes back, the kernel's cached pages are not trusted.
                self._tree.versions.doubt(asset_id)
                self._tree.versions.doubt_members(asset_id)
            elif asset.size is not None:
                stale += self._moved(self._tree.versions.resized(asset_id, asset.size))
        touched = [Node(Kind.ASSET, asset_id) for asset_id in delta.assets]
        touched += moved
        stale += [
            Invalidation(inode)
            for node in touched
            for inode in self._tree.inodes.held(node)
            if self._tree.layout.exists(node)
        ]
        return stale

    def learn_size(self, object_id: str, size: int | None) -> list[Invalidation]:
        """Take over another version of `size` bytes; if None, only give up the kernel's pages."""
        stale = self._moved(self._tree.versions.doubt(object_id))
        stale += self._outdated_members(member_ids.asset_id_of(object_id))
        if size is None or member_ids.is_member_id(object_id):
            return stale
        if object_id in self._tree.index.assets:
            return stale + self.apply(self._tree.index.learn_size(object_id, size))
        inode = inode_of(Node(Kind.FILE, object_id))
        node = self._tree.inodes.key(inode) or self._tree.versions.node_of(object_id)
        if node is None or node.id != object_id:
            return stale
        self._tree.sizes.learn(node, size)
        return [*stale, Invalidation(self._tree.inodes.number(node))]

    def refuted(self, archive_id: str, note: Callable[[], None]) -> None:
        """Withdraw the directories of what turned out to be no archive."""
        changes = list(self._tree.layout.withdraw(archive_id, note))
        self._siblings.changed(change.parent for change in changes)
        stale = [item for change in changes for item in self._stale_names(change)]
        stale += [
            Invalidation(inode)
            for change in changes
            for inode in self._tree.inodes.held(change.parent)
        ]
        if stale:
            self._tell(stale)

    def _outdated_members(self, asset_id: str) -> list[Invalidation]:
        """Give up the members of an archive whose bytes are of another version by now."""
        archives = self._tree.branches.archives
        if archives is None or not archives.tables.forget(asset_id):
            return []
        stale = self._moved(self._tree.versions.doubt_members(asset_id))
        changes = list(self._tree.layout.outdated(asset_id))
        return stale + [item for change in changes for item in self._stale_names(change)]

    def outdated(self, node: Node) -> None:
        """Invalidate a node's attributes that the kernel may have cached."""
        stale = [Invalidation(inode) for inode in self._tree.inodes.held(node)]
        if stale:
            self._tell(stale)

    def _moved(self, nodes: Iterable[Node]) -> list[Invalidation]:
        changes = [change for node in nodes for change in self._tree.layout.places(node)]
        return [item for change in changes for item in self._stale_names(change)]

    def _stale_names(self, change: Change) -> Iterator[Invalidation]:
        if not self._tree.inodes.holds(change.parent):
            return
        parent = self._tree.inodes.number(change.parent)
        if self._stats.ttl_s(change.parent):
            yield from (Invalidation(parent, name) for name in change.names)
