"""The calls that come often, engine-neutral: one call of `fs` each, within a deadline.

Knows no rule of the file system and no message: `lane` calls these with what it read from the
device, `operations` with what pyfuse3 read. Refusals leave as FUSEError, nothing else does.
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

#: Namespaces that are not supported here, as on FAT: `ls -l` takes "not supported" for the whole
#: file system and asks once, where "no such attribute" makes it ask three times for every entry.
_FOREIGN_XATTRS = (b"security.", b"system.", b"trusted.")

_metadata = boundary(METADATA_DEADLINE_S)
_listing = boundary(LISTING_DEADLINE_S)
#: For handlers that are answered from memory, always.
_at_once = boundary(None)


class Handlers:
    """What a kernel asks all the time of one file system."""

    def __init__(
        self, filesystem: Filesystem, metrics: Metrics, writing: Writing, privacy: Privacy
    ) -> None:
        self.metrics = metrics
        self.read_ahead: ReadAhead | None = None  # known once the mount is there
        self._fs = filesystem
        self._writing = writing
        self._privacy = privacy

    @_listing
    async def lookup(self, parent: int, name: bytes) -> Attributes | Absent:
        """Name to attributes, one reference taken; or that nothing has that name."""
        if len(name) > MOST_NAME_BYTES:  # the kernel sends more; each call begins with a lookup
            raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
        return await self._fs.lookup(parent, text_of(name))

    def forget(self, inodes: Iterable[tuple[int, int]]) -> None:
        """References given back: (inode, how many); never raises."""
        try:
            for inode, count in inodes:
                self._fs.forget(inode, count)
        except Exception as error:
            supervise.report(self.forget, error)

    @_metadata
    async def getattr(self, inode: int) -> Attributes:
        """Attributes of an inode."""
        return await self._fs.getattr(inode)

    @_listing
    async def opendir(self, inode: int) -> int:
        """A frozen listing."""
        return await self._fs.opendir(inode)

    @_at_once
    async def readdir(
        self, handle: int, offset: int, take: Take, take_file: TakeName | None = None
    ) -> None:
        """Offer entries until one is refused; what `take` took is a reference each."""
        self._fs.readdir(handle, offset, take, take_file)

    @_at_once
    async def list_names(self, handle: int, offset: int, take: TakeName) -> None:
        """Offer names until one is refused."""
        self._fs.list_names(handle, offset, take)

    @_at_once
    async def releasedir(self, handle: int) -> None:
        """The listing is no longer needed."""
        self._fs.releasedir(handle)

    @_metadata
    async def open(self, inode: int, flags: int, thread_id: int, uid: int) -> Opened:
        """Open for reading; no request goes out before the first read."""
        opened = await self._fs.open(
            inode, flags, program_of(thread_id), is_trusted=self._privacy.trusts(uid)
        )
        if self.read_ahead is not None and (opened.in_pieces or not opened.direct_io):
            # Nothing may be awaited between this and the answer.
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
        """Bytes of a sidecar, all of them."""
        return await self._writing.write(handle, offset, data)

    @_metadata
    async def release(self, handle: int) -> None:
        """The last descriptor is closed, and what was written through a mapping is here."""
        try:
            if self._writing.keeps_sidecars:
                await self._writing.flush(handle)
        finally:
            self._fs.release(handle)

    @_metadata
    async def statfs(self) -> tuple[int, int, int]:
        """`df`: blocks, free ones, files. What lies in storage is used, free is for sidecars."""
        used = self._fs.statfs()
        free = await self._writing.free_bytes() // STATFS_BLOCK_BYTES
        return -(-used.used_bytes // STATFS_BLOCK_BYTES) + free, free, used.files

    @_metadata
    async def getxattr(self, inode: int, name: bytes, uid: int) -> bytes:
        """An attribute's value."""
        if name.startswith(_FOREIGN_XATTRS):
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        is_trusted = self._privacy.trusts(uid)
        return await self._fs.getxattr(inode, text_of(name), is_trusted=is_trusted)

    @_metadata
    async def listxattr(self, inode: int, uid: int) -> list[bytes]:
        """Names of the listed attributes."""
        names = await self._fs.listxattr(inode, is_trusted=self._privacy.trusts(uid))
        return [bytes_of(name) for name in names]
