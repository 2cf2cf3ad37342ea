"""Open directories: one frozen listing each, passed to the kernel entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from cachetools import LRUCache

from up42fs.fs.branches.transformed import MOST_WALKS, WalkOrder
from up42fs.fs.stats import Stats
from up42fs.fs.tree.handles import FrozenListing, HandleTable
from up42fs.fs.tree.layout import VIEW_DIRS
from up42fs.fs.tree.nodes import FILE_KINDS, Attributes, Kind, Node
from up42fs.fs.whole_tree import WholeTree
from up42fs.types import Asset

#: find, du, rm and chmod (gnulib's fts) walk larger directories in the order of inode numbers.
SORTED_WALK_ENTRIES = 10_000

#: Passes one directory entry to the kernel: name, attributes, offset after it; False when its
#: buffer is full.
Take = Callable[[str, Attributes, int], bool]
#: The same without attributes: name, inode, mode, offset after it.
TakeName = Callable[[str, int, int, int], bool]


class _Open(NamedTuple):
    """A directory, its frozen listing, and the layout's change count at that time.

    `keeps` keeps in memory what the attributes of its entries come from.
    """

    directory: Node
    entries: FrozenListing[Node]
    changes: int
    keeps: object = None


class OpenDirectories:
    """The open directories of one mount."""

    def __init__(self, tree: WholeTree, stats: Stats) -> None:
        self._tree = tree
        self._layout, self._sidecars = tree.layout, tree.sidecars
        self._stats = stats
        #: The orders in which assets may be looked at one after another.
        self._walks: LRUCache[Node, WalkOrder | Callable[[], WalkOrder]] = LRUCache(MOST_WALKS)
        self._open: HandleTable[_Open] = HandleTable()

    def open(self, directory: Node) -> int:
        listed = self._layout.children(directory)
        if self._tree.index.unsized:
            self._tree.sizes.listed(listed.values())
        if directory.kind in VIEW_DIRS:
            self._expect_a_walk(directory, listed)
            self._walks[directory] = partial(_order_of, listed)
        more: dict[str, Node] = {}
        if self._sidecars is not None:
            more |= self._sidecars.beside(directory, listed)
        more |= self._tree.branches.listed_documents(directory)
        if more:  # a listed name takes precedence, as in a lookup
            listed = {**listed, **{name: it for name, it in more.items() if name not in listed}}
        entries = FrozenListing(listed)
        archives = self._tree.branches.archives
        keeps = archives.keeps(directory) if archives is not None else None
        return self._open.add(_Open(directory, entries, self._layout.changes, keeps))

    def read(self, handle: int, offset: int, take: Take, take_file: TakeName | None = None) -> None:
        """Pass the entries from `offset` on to `take` until it refuses one.

        Each accepted entry is a reference that the kernel now holds. With `take_file` files go to
        it instead, without a reference. Entries that have vanished are skipped.
        """
        opened = self._open[handle]
        directory, entries = opened.directory, opened.entries
        is_same = self._is_same(opened)
        listed = self._layout.children(directory) if self._layout.exists(directory) else {}
        figures_of, ttl_s = self._tree.index.assets.figures, self._stats.ttl_s(directory)
        stats, remember = self._stats, self._tree.inodes.remember
        directories = {Kind.FILES: stats.of_files, Kind.MEMBERS: stats.of_archive}
        for name, node, after in entries.walk(offset):
            if take_file is not None and node.kind in FILE_KINDS:
                if not is_same and not self._is_there(node):
                    continue
                if not take_file(name, *stats.bare(node), after):
                    break
                continue
            lasts_s = ttl_s if is_same or listed.get(name) == node else 0.0
            # Most entries by far: inlined to save calls.
            if node.kind is Kind.ASSET and (figures := figures_of(node.id)) is not None:
                attributes = stats.of_asset(node, figures, lasts_s)
            elif node.kind is Kind.FILE and (figures := figures_of(node.place)) is not None:
                attributes = stats.of_file(node, figures, lasts_s)
            elif not self._is_there(node):
                continue
            elif (of_directory := directories.get(node.kind)) and (figures := figures_of(node.id)):
                attributes = of_directory(node, figures, lasts_s)
            else:
                attributes = stats.entry(directory, name, node)
            if not take(name, attributes, after):
                break
            remember(node, attributes.inode)

    def read_names(self, handle: int, offset: int, take: TakeName) -> None:
        """Pass the entries from `offset` on to `take` until it refuses one; takes no references."""
        opened = self._open[handle]
        is_same = self._is_same(opened)
        for name, node, after in opened.entries.walk(offset):
            if not is_same and not self._is_there(node):
                continue
            if not take(name, *self._stats.bare(node), after):
                break

    def following(self, asset: Asset) -> list[Asset]:
        """An asset, and those that a program that reads its attributes is going to look at next."""
        assets = self._tree.index.assets
        for directory, walk in list(self._walks.items()):
            if not isinstance(walk, WalkOrder):  # made when it is needed: it takes a while
                self._walks[directory] = walk()
        walks = [walk for walk in self._walks.values() if isinstance(walk, WalkOrder)]
        most = max((walk.next_of(asset.id) for walk in walks), key=len, default=())
        return [assets[id_] for id_ in most or (asset.id,) if id_ in assets]

    def close(self, handle: int) -> None:
        self._open.pop(handle, None)

    def __len__(self) -> int:
        return len(self._open)

    def _is_same(self, opened: _Open) -> bool:
        """Whether all listed entries still exist, under the same names."""
        return opened.directory.kind in VIEW_DIRS and opened.changes == self._layout.changes

    def _is_there(self, node: Node) -> bool:
        if node.kind is Kind.SIDECAR:
            return self._sidecars is not None and self._sidecars.holds(node)
        return self._layout.exists(node)

    def _expect_a_walk(self, directory: Node, listed: Mapping[str, Node]) -> None:
        transformed = self._tree.branches.transformed
        if transformed is None:
            return
        below = [node for node in listed.values() if node.kind is Kind.FILES]
        if len(below) < 2:
            return
        is_large = len(listed) > SORTED_WALK_ENTRIES

        def orders() -> Iterator[list[str]]:
            yield [node.id for node in below]
            if is_large:
                yield [node.id for node in sorted(below, key=self._tree.inodes.number)]

        transformed.expect(str(directory), orders)


def _order_of(listed: Mapping[str, Node]) -> WalkOrder:
    return WalkOrder([node.id for node in listed.values() if node.kind is Kind.ASSET])
