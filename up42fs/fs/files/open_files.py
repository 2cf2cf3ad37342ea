"""Open files: the object behind a handle, and whether the kernel may keep its cached pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from up42fs.errors import BadHandle, Up42fsError
from up42fs.fs.branches.spool import Content, Spool
from up42fs.fs.files.ledger import Watch, Watched
from up42fs.fs.files.readahead import Siblings
from up42fs.fs.files.sizes import Sizes
from up42fs.fs.files.versions import Versions
from up42fs.fs.sidecars.file import OpenSidecar
from up42fs.fs.tree.handles import HandleTable
from up42fs.fs.tree.nodes import Node, Opened
from up42fs.readahead.folder.walk import Visit
from up42fs.readahead.tuning import Reading, reading_of
from up42fs.store.handle import OpenFile
from up42fs.store.members.extent import StoredObject
from up42fs.store.store import FileStore
from up42fs.types import ByteRange, Bytes, Version


class _Pages:
    """The page cache's content of a document, as long as anybody has it open: one rendering.

    Two would be mixed page by page, and what one reader may see another one could find there.
    """

    def __init__(self, render: Callable[[], Content]) -> None:
        self.handles = 0
        self._render = render

    @cached_property
    def content(self) -> Content:
        return self._render()


class _Document(NamedTuple):
    """An open document: as its reader may see it, and as mappings show it."""

    content: Content
    inode: int
    pages: _Pages


class StoredFile:
    """An open object of `size` bytes, whose reads are observed.

    `watched` accounts for them and limits crowds; `siblings` follows the reads of `node` along its
    directory. Either may be None.
    """

    def __init__(
        self,
        file: OpenFile,
        node: Node,
        size: int,
        *,
        inode: int = 0,
        watched: Watched | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        self.inode = inode
        self.stored = file
        self._node = node
        self._size = size
        self._watched = watched
        self._siblings = siblings
        self._is_read = False
        self._is_head_read = False
        self._visit: Visit | None = None

    def read_again(self, offset: int, size: int) -> memoryview | None:
        """Like `read` of bytes in memory that were read before; None for all other reads."""
        watched = self._watched
        if not (self._is_head_read if offset == 0 else self._is_read):
            return None  # the first read, and the first one of the head, are observed in full
        if watched is not None and watched.refuse is not None:
            return None
        data = self.stored.read_again(offset, size)
        if data is None:
            return None
        stop = offset + len(data)
        if self._visit is not None and self._visit.is_news(offset, stop):
            self._follow(offset, stop)
        if watched is not None:
            watched.account.note_hit(offset, stop, watched.clock)
        return data

    def ahead(self, offset: int, most: int) -> Bytes:
        """The bytes from `offset` on that are in memory as one piece; does not count as a read."""
        if self._watched is not None and self._watched.refuse is not None:
            return b""
        return self.stored.ahead(offset, most)

    async def read(self, offset: int, size: int) -> Bytes:
        """Read from the file; raises CrowdRefused where a crowd may not read."""
        self._is_head_read |= offset == 0
        if self._watched is None:
            self._follow(offset, offset + size)
            return await self.stored.read(offset, size)
        self._watched.check(offset, size)
        account, clock = self._watched.account, self._watched.clock
        began_s = clock()
        self._follow(offset, offset + size)
        try:
            data = await self.stored.read(offset, size)
        except Up42fsError as error:
            account.errors[type(error).__name__] += 1
            raise
        if len(data):
            now_s = clock()
            account.note_read(ByteRange(offset, offset + len(data)), now_s - began_s, now_s)
        return data

    def _follow(self, offset: int, stop: int) -> None:
        if self._siblings is None:
            self._is_read = True
            return
        if not self._is_read:
            self._is_read = True
            self._visit = self._siblings.first_read(self._node, self._size)
        stop = min(stop, self._size)
        if self._visit is not None and offset < stop:
            self._siblings.read(self._visit, offset, stop)

    def close(self) -> None:
        if self._visit is not None and self._siblings is not None:
            self._siblings.closed(self._visit)
            self._visit = None
        self.stored.close()


class OpenFiles:
    """The open files of one mount."""

    def __init__(
        self,
        files: FileStore,
        sizes: Sizes,
        siblings: Siblings,
        *,
        versions: Versions,
        watch: Watch | None,
    ) -> None:
        self._files = files
        self._sizes = sizes
        self._siblings = siblings
        self._watch = watch
        #: Whether images that are read in pieces bypass the kernel's page cache.
        self.are_images_direct = False
        self._open: HandleTable[StoredFile | OpenSidecar | _Document] = HandleTable()
        self._pages: dict[int, _Pages] = {}  # of open documents, by inode
        self._versions = versions

    def open(
        self,
        inode: int,
        node: Node,
        size: int,
        program: str,
        *,
        chosen: Reading | None = None,
    ) -> Opened:
        """Open an object of `size` bytes for `program`; waits for nothing.

        `chosen` says how a caller that is no kernel reads; else `program` tells. Raises
        OtherVersion if `inode` shows another version to its open handles.
        """
        stamp, label = self._sizes.stamp(node), self._sizes.label(node)
        reading = reading_of(self._sizes.name(node), program)
        pieces = reading in (Reading.DIRECT, Reading.EXACT)
        direct = pieces and self.are_images_direct
        if reading is Reading.DIRECT and not direct:
            reading = Reading.ANY
        extent = self._sizes.extent(node)
        is_packed = extent is not None and not extent.is_view
        if is_packed and self._watch is not None and self._watch.is_crowd(program):
            reading = Reading.EXACT  # nothing beyond the head is inflated ahead of it
        reading = chosen or reading
        expected = self._versions.expected(inode, size, stamp)
        stored = self._files.open(
            StoredObject(node.id, size, label, stamp, extent, expected), reading
        )
        try:
            keep, is_apart = self._versions.admit(inode, node, size, stamp=stamp, pin=stored.pin)
        except BaseException:
            stored.close()
            raise
        try:
            watched = None
            if self._watch is not None:
                watched = self._watch.open(
                    node.id, name=label, size=size, program=program, has_tail=not is_packed
                )
            is_crowd = watched is not None and watched.refuse is not None
            siblings = None if is_crowd else self._siblings
            file = StoredFile(stored, node, size, inode=inode, watched=watched, siblings=siblings)
            handle = self._open.add(file)
        except BaseException:  # no memory: a handle that nobody has must not count
            self._versions.release(inode)
            stored.close()
            raise
        return Opened(handle, keep_cache=keep, direct_io=direct or is_apart, in_pieces=pieces)

    def open_rendered(
        self, content: Content, inode: int, for_pages: Callable[[], Content]
    ) -> Opened:
        """Open a document; the kernel keeps of it only what `for_pages` makes, for mappings."""
        pages = self._pages.get(inode) or _Pages(for_pages)
        handle = self._open.add(_Document(content, inode, pages))
        self._pages[inode] = pages
        pages.handles += 1
        return Opened(handle, keep_cache=False, direct_io=True)

    def open_sidecar(self, sidecar: OpenSidecar) -> Opened:
        """Open a sidecar; drops the kernel's pages, since other mounts may have changed it."""
        return Opened(self._open.add(sidecar), keep_cache=False, direct_io=False)

    def sidecar(self, handle: int) -> OpenSidecar:
        """The open sidecar of a handle; raises BadHandle for other handles."""
        sidecar = self.sidecar_or_none(handle)
        if sidecar is None:
            raise BadHandle(f"handle {handle} is not open for writing")
        return sidecar

    def sidecar_or_none(self, handle: int) -> OpenSidecar | None:
        file = self._open[handle]
        return file if isinstance(file, OpenSidecar) else None

    def version(self, handle: int) -> Version | None:
        """The version of a stored file that was read; else None."""
        file = self._open.get(handle)
        return file.stored.version if isinstance(file, StoredFile) else None

    def is_unpacked(self, handle: int) -> bool:
        """Whether the bytes of a stored file are inflated, from an archive."""
        file = self._open.get(handle)
        return isinstance(file, StoredFile) and file.stored.is_unpacked

    def read_again(self, handle: int, offset: int, size: int) -> memoryview | None:
        """Like `read` of a file's bytes that were read before and are in memory; else None."""
        file = self._open.get(handle)
        return file.read_again(offset, size) if isinstance(file, StoredFile) else None

    def ahead(self, handle: int, offset: int, most: int) -> Bytes:
        """The bytes of a stored file from `offset` on that one piece of memory holds."""
        file = self._open.get(handle)
        return file.ahead(offset, most) if isinstance(file, StoredFile) else b""

    async def read(self, handle: int, offset: int, size: int, *, is_mapped: bool = False) -> Bytes:
        """Exactly the bytes asked for, fewer only at the end of the file; or an error."""
        file = self._open[handle]
        if isinstance(file, _Document):
            if is_mapped:
                # At a short read the kernel would cut the file there, and a mapping of the size
                # that its opener was told would end with SIGBUS.
                return file.pages.content[offset : offset + size].ljust(size, b"\0")
            if isinstance(file.content, Spool):
                return file.content[offset : offset + size]
            return memoryview(file.content)[offset : offset + size]
        return await file.read(offset, size)

    def release(self, handle: int) -> None:
        file = self._open.pop(handle, None)
        if isinstance(file, StoredFile):
            self._versions.release(file.inode)
        if isinstance(file, _Document):
            file.pages.handles -= 1
            if not file.pages.handles:
                self._pages.pop(file.inode, None)
        elif file is not None:
            file.close()

    def __len__(self) -> int:
        return len(self._open)
