"""The mount's behaviour, independent of the engine: lookup, attributes, directories, reads, xattrs.

Raises `errors.*` only.

Rules.
1. No network in lookup, readdir, open, statfs or xattr lists: the catalogue answers. Exceptions,
   each once: until the catalogue's first listing is complete, calls that need it wait for it,
   within `finding.LISTING_TIMEOUT_S`; a directory of transformed files, of `stac/` or `search/` is
   fetched when it is first opened or a name in it is looked up; a size that UP42 does not report is
   learned by `stat` and `open`.
2. A lookup count and the answer that carries it change with no await between them.
3. A directory handle is a frozen listing; a file handle is one open object of the store.
4. The kernel may cache only names that `apply` would invalidate: listed ones. Entries reached by
   ID, and frozen entries whose name has since been reassigned, get a TTL of 0; negative lookups of
   IDs are not cached. Entries of branches are cached for a minute. If edits are allowed, names that
   edits change are not cached (`stats`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial

from up42fs.api.client import Client
from up42fs.catalog.sync import Sync
from up42fs.errors import (
    InvalidArgument,
    IsADirectory,
    NoAttribute,
    NotADirectory,
    NotFound,
    NotShared,
    ReadOnly,
    TooLarge,
    VersionChanged,
)
from up42fs.fs.attributes import NodeAttributes
from up42fs.fs.branches.spool import Content
from up42fs.fs.directories import OpenDirectories
from up42fs.fs.files.ledger import Watch
from up42fs.fs.files.open_files import OpenFiles
from up42fs.fs.files.readahead import Siblings
from up42fs.fs.finding import Finder
from up42fs.fs.hidden import REFRESH
from up42fs.fs.invalidation import Invalidation, Invalidations
from up42fs.fs.naming import Naming
from up42fs.fs.privacy import ACCOUNT, document_for_others, require_shared
from up42fs.fs.stats import KERNEL_TTL_S as KERNEL_TTL_S
from up42fs.fs.stats import Stats
from up42fs.fs.tree.layout import is_id
from up42fs.fs.tree.nodes import (
    FILE_KINDS,
    LINKED_KINDS,
    STORED_KINDS,
    Absent,
    Attributes,
    Kind,
    Node,
    Opened,
    Usage,
)
from up42fs.fs.whole_tree import WholeTree
from up42fs.fs.xattrs import MOST_VALUE_BYTES, STAC_JSON
from up42fs.metrics import Metrics
from up42fs.readahead.heads import Asker
from up42fs.readahead.tuning import Reading
from up42fs.store.members.extent import StoredObject
from up42fs.types import Bytes, SignedUrl

#: The most that is prefetched for readers of whole directories, bytes.
AHEAD_BYTES = 32 << 20
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_CREAT | os.O_APPEND
#: Files whose attributes come from data that a branch may have to load.
_PREPARED_KINDS = frozenset({Kind.FILE, Kind.MEMBER, Kind.MEMBER_LINK})


class Filesystem:
    """The file system of one mount."""

    def __init__(
        self,
        tree: WholeTree,
        *,
        catalogue: Sync,
        documents: Client,
        watch: Watch | None = None,
        umask: int = 0o022,
        naming: Naming | None = None,
        metrics: Metrics | None = None,
        ahead_bytes: int = AHEAD_BYTES,
    ) -> None:
        self.tree = tree
        self.sidecars = tree.sidecars
        self._watch = watch
        self._siblings = Siblings(
            tree.layout,
            tree.files,
            tree.sizes,
            inode_of=tree.inodes.number,
            most_bytes=ahead_bytes,
            metrics=metrics or Metrics(),
            clock=tree.clock,
        )
        self.open_files = OpenFiles(
            tree.files, tree.sizes, self._siblings, versions=tree.versions, watch=watch
        )
        #: Like `read` of bytes in memory that were read before; None for all other reads.
        self.read_again = self.open_files.read_again
        #: Whether reads of a handle may take long, because its bytes are unpacked first.
        self.is_unpacked = self.open_files.is_unpacked
        self._stats = Stats(tree, umask)
        #: What `opendir` opened: listed and closed by handle.
        self.directories = OpenDirectories(tree, self._stats)
        self.xattrs = NodeAttributes(tree, documents, watch.ledger if watch else None)
        self.naming = naming or Naming(tree.index)
        #: Follows changes, and tells what the kernel must forget.
        self.changes = Invalidations(
            tree, self._stats, self._siblings, self.naming, lambda stale: self.tell_kernel(stale)
        )
        self._finder = Finder(tree, catalogue, watch, self.changes.outdated)
        #: Called with invalidations that `changes.apply` did not return.
        self.tell_kernel: Callable[[list[Invalidation]], None] = lambda _: None
        #: Called when a user requests a look for changes.
        self.look_for_changes: Callable[[], None] = lambda: None
        #: Whether users may enter who are not trusted with everything.
        self.lets_others_in = False
        if tree.branches.archives is not None:
            tree.branches.archives.on_refuted = self.changes.refuted
        tree.branches.registry.on_change = self.changes.outdated
        self.naming.on_change = lambda delta: self.tell_kernel(self.changes.apply(delta))

    # names ---------------------------------------------------------------------------------

    async def lookup(self, parent: int, name: str) -> Attributes | Absent:
        """Return the attributes of `name` in `parent`, taking one reference; or `Absent`."""
        directory = self._directory(parent)
        await self._finder.listed(directory, name)
        self._siblings.looked_into(directory)
        node = await self._finder.found(directory, name)
        if node is None and self.sidecars is not None:
            node, may_come = await self.sidecars.look(directory, name)
            if node is None and may_come:
                return Absent(0.0)
        if node is None:
            lasts = self.tree.branches.is_settled(directory, name) and not is_id(name)
            return Absent(self._stats.ttl_s(directory) if lasts else 0.0)
        return self.admit(directory, name, node)

    def forget(self, inode: int, count: int) -> None:
        self.tree.inodes.forget(inode, count)
        if self.tree.inodes.key(inode) is None:
            self.tree.versions.forget(inode)

    async def getattr(self, inode: int, asker: Callable[[], Asker] = Asker) -> Attributes:
        """Attributes of an inode; learns an unknown size. VersionChanged if it is gone.

        `asker` returns who needs it, and is called only then.
        """
        node = self.node(inode)
        if node.kind in _PREPARED_KINDS:
            await self.tree.layout.prepare(node)
        if node.kind in STORED_KINDS:
            await self.tree.sizes.ask(node, asker)
        elif node.kind is Kind.DOCUMENT:
            await self._made(node)
            self._stats.render(node)
        elif node.kind is Kind.SIDECAR and self.sidecars is not None:
            await self.sidecars.of(node).refresh()
        attributes = self._stats.of(node)
        if attributes.inode != inode:
            return self.tree.versions.older(inode, attributes)
        return attributes

    async def locate(self, parent: int, name: str) -> tuple[Node, Node | None]:
        directory = self._directory(parent)
        await self._finder.listed(directory, name)
        found = await self._finder.found(directory, name)
        if found is None and self.sidecars is not None:
            found, _ = await self.sidecars.look(directory, name)
        return directory, found

    def node(self, inode: int) -> Node:
        """The node of an inode that the kernel holds; raises VersionChanged if it is gone."""
        node = self.tree.inodes.key(inode)
        if node is None:
            raise NotFound(f"inode {inode} is not known")
        if node.kind is Kind.SIDECAR and self.sidecars is not None:
            self.sidecars.of(node)
        elif not self.tree.layout.exists(node):
            raise VersionChanged(f"{node.kind.value} {node.id} is no longer in UP42 storage")
        return node

    def admit(self, directory: Node, name: str, node: Node) -> Attributes:
        """Return the attributes of `node` under `name` for the kernel, taking one reference."""
        attributes = self._stats.entry(directory, name, node)
        self.tree.inodes.remember(node)
        return attributes

    # directories ---------------------------------------------------------------------------

    async def opendir(self, inode: int, program: Callable[[], str] = lambda: "?") -> int:
        """Freeze the listing of a directory; return its handle in `directories`.

        `program` returns the name of the program that opens it. Raises CrowdRefused if a crowd
        opens an archive that nobody has looked into.
        """
        directory = self._directory(inode)
        self._finder.require_known(directory, program)
        await self._finder.listed(directory)
        self._siblings.looked_into(directory)
        if self.sidecars is not None:
            await self.sidecars.overlay.look()
        await self.tree.branches.recall(directory)
        return self.directories.open(directory)

    # files ---------------------------------------------------------------------------------

    async def open(
        self,
        inode: int,
        flags: int,
        program: str = "?",
        *,
        is_trusted: bool = True,
        reading: Reading | None = None,
    ) -> Opened:
        """Open a file for reading; sends no request before the first read if its size is known.

        `program` is the name of the program that opens it, as the kernel reports it; a caller that
        is no kernel says by `reading` how it reads. For untrusted users documents leave out what is
        private, or NotShared is raised.
        """
        node = self.node(inode)
        if node.kind not in FILE_KINDS:
            raise IsADirectory(f"{node.kind.value} is a directory")
        if node.kind is Kind.SIDECAR and self.sidecars is not None:
            sidecar = await self.sidecars.open(node, flags)
            size = sidecar.sidecar.state.size
            return self.open_files.open_sidecar(sidecar)._replace(size=size)
        if flags & _WRITING:
            raise ReadOnly("delivered data cannot be written")
        if node.kind not in STORED_KINDS:
            if node.kind is Kind.DOCUMENT:
                await self._made(node)
            content = self._stats.render(node, is_trusted=is_trusted)
            opened = self.open_files.open_rendered(content, inode, partial(self._for_pages, node))
            return opened._replace(size=len(content))
        await self.tree.layout.prepare(node)
        if node.kind is Kind.MEMBER and self.tree.branches.archives is not None:
            self.tree.branches.archives.require_openable(node)
        size = await self.tree.sizes.ensure(node)
        is_crowd = self._watch is not None and self._watch.is_crowd(program)
        self.tree.sizes.opened(node, leads=not is_crowd)
        opened = self.open_files.open(inode, node, size, program, chosen=reading)
        opened = opened._replace(size=size)
        if node.kind is Kind.ASSET:
            self.naming.opened(opened.handle, node.id)
        return opened

    def stored(self, inode: int) -> StoredObject | None:
        """Facts of a file that UP42 signs links to; None for all others."""
        node, sizes = self.node(inode), self.tree.sizes
        if node.kind not in LINKED_KINDS:
            return None
        version = self.tree.files.version(node.id)
        return StoredObject(
            node.id, sizes.known(node), sizes.label(node), sizes.stamp(node), version=version
        )

    async def link(self, inode: int, lasts_s: float) -> SignedUrl:
        """Return a link to the file that works for `lasts_s` more seconds, if links last so long.

        It is the one that this program's own reads use. Raises InvalidArgument, or another
        `Up42fsError` if UP42 signs none.
        """
        node = self.node(inode)
        if node.kind not in LINKED_KINDS:
            raise InvalidArgument(f"UP42 signs no link to {node.kind.value} {node.id}")
        await self.tree.layout.prepare(node)
        return await self.tree.files.link(node.id, lasts_s)

    async def readlink(self, inode: int) -> bytes:
        """Return a link's target; raises InvalidArgument. One link also looks for changes."""
        node = self.node(inode)
        archives = self.tree.branches.archives
        if node.kind is Kind.MEMBER_LINK and archives is not None:
            await self.tree.layout.prepare(node)
            return archives.target(node)
        if node != Node(Kind.VIRTUAL, REFRESH):
            raise InvalidArgument(f"{node.kind.value} {node.id} is no link")
        self.look_for_changes()
        return self.tree.virtual.render(node.id)

    def _for_pages(self, node: Node) -> Content:
        """A document as everybody may see it who can open it: they share the kernel's pages."""
        try:
            return self._stats.render(node, is_trusted=not self.lets_others_in)
        except NotShared:
            return self._stats.render(node)

    async def read(self, handle: int, offset: int, size: int, *, is_mapped: bool = False) -> Bytes:
        """Exactly the bytes asked for, fewer only at the end of the file; or an error.

        With `is_mapped` they go to the page cache.
        """
        data = await self.open_files.read(handle, offset, size, is_mapped=is_mapped)
        if offset == 0:
            self.naming.read(handle, data)
        return data

    def release(self, handle: int) -> None:
        self.open_files.release(handle)
        self.naming.closed(handle)

    def statfs(self) -> Usage:
        """The usage that `df` shows, from memory."""
        return Usage(self.tree.index.total_bytes, len(self.tree.index.assets))

    # extended attributes -------------------------------------------------------------------

    async def getxattr(self, inode: int, name: str, *, is_trusted: bool = True) -> bytes:
        """Return an attribute's value; raises NoAttribute, or NotShared for untrusted users."""
        if not name.startswith("user."):
            raise NoAttribute(name)
        node = self.node(inode)
        if not is_trusted:
            require_shared(name)
        if node.kind in _PREPARED_KINDS:
            await self.tree.layout.prepare(node)
        await self._described(node)
        value = await self.xattrs.get(node, name)
        if len(value) > MOST_VALUE_BYTES:
            raise TooLarge(
                f"{name} of {node.kind.value} {node.id} has {len(value):,} bytes, and Linux takes "
                f"{MOST_VALUE_BYTES:,} at most of an attribute; a transformed asset's document is "
                "item.json in its directory"
            )
        return value if is_trusted or name != STAC_JSON else document_for_others(value)

    async def listxattr(self, inode: int, *, is_trusted: bool = True) -> Iterable[str]:
        """Names of the attributes that `getfattr -d` lists."""
        node = self.node(inode)
        if node.kind in _PREPARED_KINDS:
            await self.tree.layout.prepare(node)
        await self._described(node)
        names = self.xattrs.listed(node).keys()
        return names if is_trusted else [name for name in names if name not in ACCOUNT]

    def gauges(self) -> dict[str, int]:
        """Numbers of open handles and known inodes, for `status.json`."""
        return {
            "open_files": len(self.open_files),
            "open_directories": len(self.directories),
            "inodes": len(self.tree.inodes),
        }

    # inside --------------------------------------------------------------------------------

    def _directory(self, inode: int) -> Node:
        node = self.node(inode)
        if node.kind in FILE_KINDS:
            raise NotADirectory(f"{node.kind.value} {node.id} is a file")
        return node

    async def _described(self, node: Node) -> None:
        """Load what STAC says of a delivery from the snapshot; sends no request."""
        asset = self.tree.index.assets.get(node.id) if node.kind is Kind.ASSET else None
        if asset is not None:
            descriptions = self.tree.branches.descriptions
            if descriptions.known(asset.id) is None:
                await descriptions.recall(self.directories.following(asset))

    async def _made(self, node: Node) -> None:
        """Make a document, once the directory that it is about is known."""
        subject = self.tree.branches.subject_of(node)
        if subject is not None:
            await self._finder.listed(Node(Kind.ASSETS) if subject.kind is Kind.ROOT else subject)
        await self.tree.branches.ensure(node, self.tree.layout)
