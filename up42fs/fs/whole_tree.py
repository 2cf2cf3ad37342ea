"""The state that all calls on one tree share: its names, inodes, sizes and times.

Makes these tables once and passes each the others that it needs; decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import trio

from up42fs.catalog.index import Index
from up42fs.fs.branches.branches import Branches
from up42fs.fs.control import VirtualFiles
from up42fs.fs.files.sizes import Sizes
from up42fs.fs.files.versions import Versions
from up42fs.fs.sidecars.overlay import Overlay
from up42fs.fs.sidecars.tree import Sidecars
from up42fs.fs.tree.inodes import InodeTable
from up42fs.fs.tree.layout import Layout
from up42fs.fs.tree.moments import Moments
from up42fs.fs.tree.nodes import ROOT, Node, inode_of
from up42fs.fs.tree.tag_directories import TagDirectories
from up42fs.readahead.tuning import Reading
from up42fs.store.store import FileStore


class WholeTree:
    """The tables of one tree.

    With `tag_directories` titles and tags can be edited. With `overlay` sidecars of images can be
    written, and are shown beside them.
    """

    def __init__(
        self,
        index: Index,
        files: FileStore,
        virtual: VirtualFiles,
        branches: Branches | None = None,
        *,
        tag_directories: TagDirectories | None = None,
        overlay: Overlay | None = None,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.index = index
        self.files = files
        self.virtual = virtual
        self.branches = branches or Branches(index)
        self.tag_directories = tag_directories
        self.layout = Layout(
            index,
            virtual.names(),
            self.branches.all,
            tag_directories,
            self.branches.archives,
            virtual.at_top,
        )
        self.sidecars = Sidecars(overlay, self.layout) if overlay is not None else None
        self.sizes = Sizes(index, files, self.branches.registry, clock, self.branches.archives)
        if self.branches.archives is not None:
            self.branches.archives.tables.ensure_size = self.sizes.of_asset
        if self.branches.layers is not None:
            self.branches.layers.first_bytes = self.first_bytes
        if self.branches.previews is not None:
            self.branches.previews.read_bytes = partial(self.exact_bytes, alone=True)
            self.branches.previews.size_of = partial(self.sizes.ensure, alone=True)
            self.branches.previews.layout = self.layout
        self.inodes: InodeTable[Node] = InodeTable(ROOT, inode_of)
        self.versions = Versions(self.inodes)
        self.moments = Moments(index, self.branches.transformations)
        self.clock = clock

    async def first_bytes(self, node: Node, most: int) -> bytes:
        """The first bytes of a stored file, and no others, as far as they are fetched for this."""
        return await self.exact_bytes(node, 0, most)

    async def exact_bytes(self, node: Node, start: int, stop: int, *, alone: bool = False) -> bytes:
        """The bytes `[start, stop)` of a stored file, as far as it has them; prefetches nothing.

        For `alone` see `Sizes.ensure`.
        """
        size = await self.sizes.ensure(node, alone=alone)
        file = self.files.open(replace(self.sizes.origin(node), size=size), Reading.EXACT)
        try:
            return bytes(await file.read(start, max(0, min(stop, size) - start)))
        finally:
            file.close()
