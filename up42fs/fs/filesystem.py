"""The mount's behaviour, independent of the engine: lookup, attributes, directories, reads, xattrs.

Raises `errors.*` only.

Rules.
1. No network in lookup, readdir, open, statfs or xattr lists: the catalogue answers. Exceptions,
   each once: until the catalogue's first listing is complete, calls that need it wait for it,
   within `LISTING_TIMEOUT_S`; a directory of transformed files, of `stac/` or of `search/` is
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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from up42fs.api.client import Client
from up42fs.catalog.index import Delta, ListingKind
from up42fs.catalog.sync import MOST_WAITS, Sync
from up42fs.deadlines import request_s, within
from up42fs.errors import (
    CrowdRefused,
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
from up42fs.fs.directories import OpenDirectories, Take, TakeName
from up42fs.fs.files.ledger import Watch
from up42fs.fs.files.open_files import OpenFiles
from up42fs.fs.files.readahead import Siblings
from up42fs.fs.naming import Naming
from up42fs.fs.privacy import ACCOUNT, document_for_others, require_shared
from up42fs.fs.stats import KERNEL_TTL_S as KERNEL_TTL_S
from up42fs.fs.stats import Stats
from up42fs.fs.tree import member_ids
from up42fs.fs.tree.layout import Change, is_id
from up42fs.fs.tree.nodes import (
    BRANCH_KINDS,
    FILE_KINDS,
    LINKED_KINDS,
    REFRESH,
    STORED_KINDS,
    Absent,
    Attributes,
    Kind,
    Node,
    Opened,
    Usage,
    inode_of,
)
from up42fs.fs.whole_tree import WholeTree
from up42fs.fs.xattrs import MOST_VALUE_BYTES, STAC_JSON
from up42fs.metrics import Metrics
from up42fs.readahead.tuning import Reading
from up42fs.types import Bytes, SignedUrl, StoredObject

#: How long a lookup or opendir waits for the first listing when nothing comes of it, seconds; and
#: in any case.
LISTING_TIMEOUT_S = request_s(25.0)
LISTING_LIMIT_S = MOST_WAITS * LISTING_TIMEOUT_S
#: The longest that it waits for the data of a branch's directory, seconds.
BRANCH_TIMEOUT_S = LISTING_TIMEOUT_S

#: The most that is prefetched for readers of whole directories, bytes.
AHEAD_BYTES = 32 << 20
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_CREAT | os.O_APPEND
#: Files whose attributes come from data that a branch may have to load.
_PREPARED_KINDS = frozenset({Kind.FILE, Kind.MEMBER, Kind.MEMBER_LINK})
_NEEDS: dict[Kind, tuple[ListingKind, ...]] = {
    Kind.ORDERS: (ListingKind.ORDERS,),
    Kind.TAGS: (ListingKind.ASSETS,),
    Kind.TAG: (ListingKind.ASSETS,),
    Kind.STATUS: (ListingKind.ASSETS,),
    Kind.ASSETS: (ListingKind.ASSETS,),
    Kind.STAC: (ListingKind.ASSETS,),
    Kind.SEARCH: (ListingKind.ASSETS, ListingKind.ORDERS),
}
#: Directories that show a listing whole.
_LONG = {Kind.ASSETS: ListingKind.ASSETS, Kind.ORDERS: ListingKind.ORDERS}


@dataclass(frozen=True, slots=True)
class Invalidation:
    """Cached data that the kernel must drop: a directory's name, or (name None) attributes."""

    inode: int
    name: str | None = None


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
        self._catalogue = catalogue
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
        self._dirs = OpenDirectories(tree, self._stats)
        self.xattrs = NodeAttributes(tree, documents, watch.ledger if watch else None)
        self.naming = naming or Naming(tree.index)
        #: Called with invalidations that `apply` did not return.
        self.tell_kernel: Callable[[list[Invalidation]], None] = lambda _: None
        #: Called when a user requests a look for changes.
        self.look_for_changes: Callable[[], None] = lambda: None
        #: Whether users may enter who are not trusted with everything.
        self.lets_others_in = False
        if tree.branches.archives is not None:
            tree.branches.archives.on_refuted = self._refuted
        tree.branches.registry.on_change = lambda node: self._outdated(node)
        self.naming.on_change = lambda delta: self.tell_kernel(self.apply(delta))

    # names ---------------------------------------------------------------------------------

    async def lookup(self, parent: int, name: str) -> Attributes | Absent:
        """Return the attributes of `name` in `parent`, taking one reference; or `Absent`."""
        directory = self._directory(parent)
        await self._listed(directory, name)
        self._siblings.looked_into(directory)
        node = await self._found(directory, name)
        if node is None and self.sidecars is not None:
            node, may_come = await self.sidecars.look(directory, name)
            if node is None and may_come:
                return Absent(0.0)
        if node is None:
            lasts = self.tree.branches.is_settled(directory) and not is_id(name)
            return Absent(self._stats.ttl_s(directory) if lasts else 0.0)
        return self.admit(directory, name, node)

    def forget(self, inode: int, count: int) -> None:
        self.tree.inodes.forget(inode, count)
        if self.tree.inodes.key(inode) is None:
            self.tree.versions.forget(inode)

    async def getattr(self, inode: int) -> Attributes:
        """Attributes of an inode; learns an unknown size. VersionChanged if it is gone."""
        node = self._node(inode)
        if node.kind in _PREPARED_KINDS:
            await self.tree.layout.prepare(node)
        if node.kind in STORED_KINDS:
            await self.tree.sizes.ensure(node)
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
        await self._listed(directory, name)
        found = await self._found(directory, name)
        if found is None and self.sidecars is not None:
            found, _ = await self.sidecars.look(directory, name)
        return directory, found

    def node(self, inode: int) -> Node:
        """The node of an inode that the kernel holds; raises VersionChanged if it is gone."""
        return self._node(inode)

    def admit(self, directory: Node, name: str, node: Node) -> Attributes:
        """Return the attributes of `node` under `name` for the kernel, taking one reference."""
        attributes = self._stats.entry(directory, name, node)
        self.tree.inodes.remember(node)
        return attributes

    # directories ---------------------------------------------------------------------------

    async def opendir(self, inode: int, program: Callable[[], str] = lambda: "?") -> int:
        """Freeze the listing of a directory; return its handle.

        `program` returns the name of the program that opens it. Raises CrowdRefused if a crowd
        opens an archive that nobody has looked into.
        """
        directory = self._directory(inode)
        self._require_known(directory, program)
        await self._listed(directory)
        self._siblings.looked_into(directory)
        if self.sidecars is not None:
            await self.sidecars.overlay.look()
        return self._dirs.open(directory)

    def readdir(
        self, handle: int, offset: int, take: Take, take_file: TakeName | None = None
    ) -> None:
        """Pass on the entries from `offset` until one is refused, files to `take_file` if given."""
        self._dirs.read(handle, offset, take, take_file)

    def list_names(self, handle: int, offset: int, take: TakeName) -> None:
        """Pass the entries from `offset` on to `take` until it refuses one."""
        self._dirs.read_names(handle, offset, take)

    def releasedir(self, handle: int) -> None:
        self._dirs.close(handle)

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
        node = self._node(inode)
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
        opened = self.open_files.open(inode, node, size, program, chosen=reading)
        opened = opened._replace(size=size)
        if node.kind is Kind.ASSET:
            self.naming.opened(opened.handle, node.id)
        return opened

    def stored(self, inode: int) -> StoredObject | None:
        """Facts of a file that UP42 signs links to; None for all others."""
        node, sizes = self._node(inode), self.tree.sizes
        if node.kind not in LINKED_KINDS:
            return None
        version = self.tree.files.version(node.id)
        return StoredObject(
            node.id, sizes.known(node), sizes.label(node), sizes.stamp(node), version
        )

    async def link(self, inode: int, lasts_s: float) -> SignedUrl:
        """Return a link to the file that works for `lasts_s` more seconds, if links last so long.

        It is the one that this program's own reads use. Raises InvalidArgument, or another
        `Up42fsError` if UP42 signs none.
        """
        node = self._node(inode)
        if node.kind not in LINKED_KINDS:
            raise InvalidArgument(f"UP42 signs no link to {node.kind.value} {node.id}")
        await self.tree.layout.prepare(node)
        return await self.tree.files.link(node.id, lasts_s)

    async def readlink(self, inode: int) -> bytes:
        """Return a link's target; raises InvalidArgument. One link also looks for changes."""
        node = self._node(inode)
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
        node = self._node(inode)
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
        node = self._node(inode)
        if node.kind in _PREPARED_KINDS:
            await self.tree.layout.prepare(node)
        await self._described(node)
        names = self.xattrs.listed(node).keys()
        return names if is_trusted else [name for name in names if name not in ACCOUNT]

    # changes -------------------------------------------------------------------------------

    def apply(self, delta: Delta) -> list[Invalidation]:
        """Follow a change of the catalogue; return what the kernel must forget."""
        self.tree.branches.transformations.follow(delta)
        self.naming.follow(delta)
        changes = list(self.tree.layout.apply(delta))
        moved = self.tree.moments.follow(delta, [change.parent for change in changes])
        self._siblings.changed(change.parent for change in changes)
        stale = [item for change in changes for item in self._stale_names(change)]
        for asset_id in delta.assets:
            asset = self.tree.index.assets.get(asset_id)
            if asset is None:
                self.tree.files.forget(asset_id)
                # If it comes back, the kernel's cached pages are not trusted.
                self.tree.versions.doubt(asset_id)
                self.tree.versions.doubt_members(asset_id)
            elif asset.size is not None:
                stale += self._moved(self.tree.versions.resized(asset_id, asset.size))
        touched = [Node(Kind.ASSET, asset_id) for asset_id in delta.assets]
        touched += moved
        stale += [
            Invalidation(inode)
            for node in touched
            for inode in self.tree.inodes.held(node)
            if self.tree.layout.exists(node)
        ]
        return stale

    def learn_size(self, object_id: str, size: int | None) -> list[Invalidation]:
        """Take over another version of `size` bytes; if None, only give up the kernel's pages."""
        stale = self._moved(self.tree.versions.doubt(object_id))
        stale += self._outdated_members(member_ids.asset_id_of(object_id))
        if size is None or member_ids.is_member_id(object_id):
            return stale
        if object_id in self.tree.index.assets:
            return stale + self.apply(self.tree.index.learn_size(object_id, size))
        inode = inode_of(Node(Kind.FILE, object_id))
        node = self.tree.inodes.key(inode) or self.tree.versions.node_of(object_id)
        if node is None or node.id != object_id:
            return stale
        self.tree.sizes.learn(node, size)
        return [*stale, Invalidation(self.tree.inodes.number(node))]

    def gauges(self) -> dict[str, int]:
        """Numbers of open handles and known inodes, for `status.json`."""
        return {
            "open_files": len(self.open_files),
            "open_directories": len(self._dirs),
            "inodes": len(self.tree.inodes),
        }

    # inside --------------------------------------------------------------------------------

    def _node(self, inode: int) -> Node:
        node = self.tree.inodes.key(inode)
        if node is None:
            raise NotFound(f"inode {inode} is not known")
        if node.kind is Kind.SIDECAR and self.sidecars is not None:
            self.sidecars.of(node)
        elif not self.tree.layout.exists(node):
            raise VersionChanged(f"{node.kind.value} {node.id} is no longer in UP42 storage")
        return node

    def _directory(self, inode: int) -> Node:
        node = self._node(inode)
        if node.kind in FILE_KINDS:
            raise NotADirectory(f"{node.kind.value} {node.id} is a file")
        return node

    async def _described(self, node: Node) -> None:
        """Load what STAC says of a delivery from the snapshot; sends no request."""
        asset = self.tree.index.assets.get(node.id) if node.kind is Kind.ASSET else None
        if asset is not None:
            descriptions = self.tree.branches.descriptions
            if descriptions.known(asset.id) is None:
                await descriptions.recall(self._dirs.following(asset))

    async def _made(self, node: Node) -> None:
        """Make a document, once the directory that it is about is known."""
        subject = self.tree.branches.subject_of(node)
        if subject is not None:
            await self._listed(Node(Kind.ASSETS) if subject.kind is Kind.ROOT else subject)
        await self.tree.branches.ensure(node, self.tree.layout)

    async def _listed(self, directory: Node, name: str | None = None) -> None:
        """Return once the directory is known, or at least the `name` that is looked up in it."""
        needs = _NEEDS.get(directory.kind)
        asks = name is not None and self._catalogue.asks_for_names
        if asks and await self._is_asked_for(directory, name or ""):
            return
        if needs:
            await self._catalogue.ready(*needs, timeout_s=LISTING_TIMEOUT_S)
        elif directory.kind is Kind.ORDER:
            await self._catalogue.ready_order(directory.id, timeout_s=LISTING_TIMEOUT_S)
        if directory.kind is Kind.MEMBERS:
            await self._prepared(directory)  # waits while bytes arrive, by a rule of its own
        elif directory.kind in BRANCH_KINDS:
            late = f"UP42 has not told within {BRANCH_TIMEOUT_S:.0f} s what is in here: try again"
            with within(BRANCH_TIMEOUT_S, late):
                await self._prepared(directory)

    async def _is_asked_for(self, directory: Node, name: str) -> bool:
        """Whether a name in a long listing is known after asking for it alone."""
        kind = _LONG.get(directory.kind)
        if kind is None:
            return False
        await self._catalogue.ready_name(kind, name, by_id=is_id(name), timeout_s=LISTING_TIMEOUT_S)
        return self._find(directory, name) is not None

    async def _prepared(self, directory: Node) -> None:
        """Load a directory of a branch; invalidate it if its times changed."""
        asset_id = self.tree.branches.asset_id_of(directory)
        if asset_id is None or directory.kind is Kind.MEMBERS:
            if await self.tree.layout.prepare(directory):
                self.tree.moments.move(directory)
                self._outdated(directory)
            return
        before_ns = self.tree.branches.registry.latest_ns(asset_id)
        await self.tree.layout.prepare(directory)
        self.tree.layout.children(directory)
        if self.tree.branches.registry.latest_ns(asset_id) != before_ns:
            self._outdated(directory)

    async def _found(self, directory: Node, name: str) -> Node | None:
        node = self._find(directory, name)
        is_order = directory.kind is Kind.ORDERS
        if node is None and is_order and self._catalogue.may_know_more(by_id=is_id(name)):
            # An order that UP42 does not list is known only through its assets.
            await self._catalogue.ready(ListingKind.ASSETS, timeout_s=LISTING_TIMEOUT_S)
            node = self._find(directory, name)
        return node

    def _find(self, directory: Node, name: str) -> Node | None:
        listed = self.tree.layout.find(directory, name)
        return listed if listed is not None else self.tree.branches.made_in(directory, name)

    def _require_known(self, directory: Node, program: Callable[[], str]) -> None:
        """Keep crowds, which open every directory, from reading the table of every archive."""
        archives = self.tree.branches.archives
        if directory.kind is not Kind.MEMBERS or archives is None or self._watch is None:
            return
        archive_id = member_ids.archive_of(directory)
        if archives.tables.held(archive_id) is not None:
            return
        if not self._watch.is_crowd(name := program()):
            return
        if not (archives.is_quickly_read(archive_id) and self._watch.may_look(name)):
            raise CrowdRefused(f"{name} may not look into archives; see the option crowd")

    def _refuted(self, archive_id: str, note: Callable[[], None]) -> None:
        """Withdraw the directories of what turned out to be no archive."""
        changes = list(self.tree.layout.withdraw(archive_id, note))
        self._siblings.changed(change.parent for change in changes)
        stale = [item for change in changes for item in self._stale_names(change)]
        stale += [
            Invalidation(inode)
            for change in changes
            for inode in self.tree.inodes.held(change.parent)
        ]
        if stale:
            self.tell_kernel(stale)

    def _outdated_members(self, asset_id: str) -> list[Invalidation]:
        """Give up the members of an archive whose bytes are of another version by now."""
        archives = self.tree.branches.archives
        if archives is None or not archives.tables.forget(asset_id):
            return []
        stale = self._moved(self.tree.versions.doubt_members(asset_id))
        changes = list(self.tree.layout.outdated(asset_id))
        return stale + [item for change in changes for item in self._stale_names(change)]

    def _outdated(self, node: Node) -> None:
        """Invalidate a node's attributes that the kernel may have cached."""
        stale = [Invalidation(inode) for inode in self.tree.inodes.held(node)]
        if stale:
            self.tell_kernel(stale)

    def _moved(self, nodes: Iterable[Node]) -> list[Invalidation]:
        changes = [change for node in nodes for change in self.tree.layout.places(node)]
        return [item for change in changes for item in self._stale_names(change)]

    def _stale_names(self, change: Change) -> Iterator[Invalidation]:
        if not self.tree.inodes.holds(change.parent):
            return
        parent = self.tree.inodes.number(change.parent)
        if self._stats.ttl_s(change.parent):
            yield from (Invalidation(parent, name) for name in change.names)
