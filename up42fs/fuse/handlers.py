"""Frequent requests, independent of the engine: one call of `fs` each, within a deadline.

Knows neither the file system's rules nor message formats: `server` calls these with requests that
it read from the device, `operations` with those that pyfuse3 read. They raise only FUSEError.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

import pyfuse3

from up42fs import supervise
from up42fs.fs.directories import Take, TakeName
from up42fs.fs.filesystem import Filesystem
from up42fs.fs.privacy import Privacy
from up42fs.fs.tree.nodes import Absent, Attributes, Opened
from up42fs.fs.writing import Writing
from up42fs.fuse.boundary import LISTING_DEADLINE_S, METADATA_DEADLINE_S, READ_DEADLINE_S, boundary
from up42fs.fuse.callers import program_of
from up42fs.fuse.protocol import MOST_NAME_BYTES, STATFS_BLOCK_BYTES, bytes_of, text_of
from up42fs.fuse.read_ahead import ReadAhead
from up42fs.metrics import Metrics
from up42fs.types import Bytes

#: Namespaces that are not supported here, as on FAT: `ls -l` applies "not supported" to the whole
#: file system after one request, whereas "no such attribute" makes it send three for every entry.
_FOREIGN_XATTRS = (b"security.", b"system.", b"trusted.")

_metadata = boundary(METADATA_DEADLINE_S)
_listing = boundary(LISTING_DEADLINE_S)
#: For handlers that are always answered from memory.
_at_once = boundary(None)


class Handlers:
    """The frequent requests to one file system."""

    def __init__(
        self, filesystem: Filesystem, metrics: Metrics, writing: Writing, privacy: Privacy
    ) -> None:
        self.metrics = metrics
        self.read_ahead: ReadAhead | None = None  # set once it is mounted
        self._fs = filesystem
        self._writing = writing
        self._privacy = privacy

    @_listing
    async def lookup(self, parent: int, name: bytes) -> Attributes | Absent:
        """Return a name's attributes and take one reference, or `Absent`."""
        if len(name) > MOST_NAME_BYTES:  # the kernel allows more; each call begins with a lookup
            raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
        return await self._fs.lookup(parent, text_of(name))

    def forget(self, inodes: Iterable[tuple[int, int]]) -> None:
        """Drop references, as (inode, count); never raises."""
        try:
            for inode, count in inodes:
                self._fs.forget(inode, count)
        except Exception as error:
            supervise.report(self.forget, error)

    @_metadata
    async def getattr(self, inode: int) -> Attributes:
        """Return an inode's attributes."""
        return await self._fs.getattr(inode)

    @_listing
    async def opendir(self, inode: int) -> int:
        """Open a frozen listing; return its handle."""
        return await self._fs.opendir(inode)

    @_at_once
    async def readdir(
        self, handle: int, offset: int, take: Take, take_file: TakeName | None = None
    ) -> None:
        """Offer entries until one is refused; each entry that `take` accepts is one reference."""
        self._fs.readdir(handle, offset, take, take_file)

    @_at_once
    async def list_names(self, handle: int, offset: int, take: TakeName) -> None:
        """Offer names until one is refused."""
        self._fs.list_names(handle, offset, take)

    @_at_once
    async def releasedir(self, handle: int) -> None:
        """Release a listing."""
        self._fs.releasedir(handle)

    @_metadata
    async def open(self, inode: int, flags: int, thread_id: int, uid: int) -> Opened:
        """Open a file for reading; sends no request to UP42 before the first read."""
        opened = await self._fs.open(
            inode, flags, program_of(thread_id), is_trusted=self._privacy.trusts(uid)
        )
        if self.read_ahead is not None and (opened.in_pieces or not opened.direct_io):
            # No await is allowed between this and the reply.
            self.read_ahead.prepare(in_pieces=opened.in_pieces)
        return opened

    @boundary(READ_DEADLINE_S)
    async def read(self, handle: int, offset: int, size: int, is_mapped: bool = False) -> Bytes:
        """The bytes, whole or not at all: a short answer would cut the file in the kernel.

        With `is_mapped` they are for the page cache, where whoever has the file open finds them.
        """
        return await self._fs.read(handle, offset, size, is_mapped=is_mapped)

    @boundary(READ_DEADLINE_S)
    async def write(self, handle: int, offset: int, data: bytes) -> int:
        """Write all bytes to a sidecar; return their number."""
        return await self._writing.write(handle, offset, data)

    @_metadata
    async def release(self, handle: int) -> None:
        """Close the last descriptor; flush writes that came through a memory mapping."""
        try:
            if self._writing.keeps_sidecars:
                await self._writing.flush(handle)
        finally:
            self._fs.release(handle)

    @_metadata
    async def statfs(self) -> tuple[int, int, int]:
        """Return (blocks, free blocks, files) for `df`; free blocks are room for sidecars."""
        used = self._fs.statfs()
        free = await self._writing.free_bytes() // STATFS_BLOCK_BYTES
        return -(-used.used_bytes // STATFS_BLOCK_BYTES) + free, free, used.files

    @_metadata
    async def getxattr(self, inode: int, name: bytes, uid: int) -> bytes:
        """Return an extended attribute's value."""
        if name.startswith(_FOREIGN_XATTRS):
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        is_trusted = self._privacy.trusts(uid)
        return await self._fs.getxattr(inode, text_of(name), is_trusted=is_trusted)

    @_metadata
    async def listxattr(self, inode: int, uid: int) -> list[bytes]:
        """Return the names of the listed extended attributes."""
        names = await self._fs.listxattr(inode, is_trusted=self._privacy.trusts(uid))
        return [bytes_of(name) for name in names]
