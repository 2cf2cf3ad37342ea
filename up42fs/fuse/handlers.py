"""The calls of FUSE over `fs.Filesystem`: one call of `fs` each, within a deadline.

Each call stands here once, in values of `fs`. `server` serves the frequent calls, with requests
that it read from the device; pyfuse3 serves the rest, and all of them where libfuse has the device
(see `session`). Both call these methods, which raise only FUSEError, and add what their side of the
wire looks like: `protocol` for the server, `operations` for pyfuse3. Calls whose values pyfuse3
takes as they are have its signature, unused arguments included.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple, NoReturn

import pyfuse3
from pyfuse3 import RequestContext

from up42fs import supervise
from up42fs.errors import ReadOnly
from up42fs.fs.directories import Take, TakeName
from up42fs.fs.filesystem import Filesystem
from up42fs.fs.privacy import Privacy
from up42fs.fs.tree.nodes import Absent, Attributes, Opened
from up42fs.fs.writing import Writing
from up42fs.fuse.boundary import LISTING_DEADLINE_S, METADATA_DEADLINE_S, READ_DEADLINE_S, boundary
from up42fs.fuse.callers import program_of
from up42fs.fuse.protocol import (
    MOST_NAME_BYTES,
    STATFS_BLOCK_BYTES,
    RequestHead,
    bytes_of,
    text_of,
)
from up42fs.fuse.tuning import ReadAhead
from up42fs.metrics import Metrics
from up42fs.readahead.heads import Asker
from up42fs.types import Bytes

#: Namespaces that are not supported here, as on FAT: `ls -l` applies "not supported" to the whole
#: file system after one request, whereas "no such attribute" makes it send three for every entry.
_FOREIGN_XATTRS = (b"security.", b"system.", b"trusted.")

#: The program that made a request: its `pid` (of the thread) and `uid`.
Caller = RequestContext | RequestHead

_metadata = boundary(METADATA_DEADLINE_S)
_reading = boundary(READ_DEADLINE_S)
#: For handlers that are always answered from memory.
_at_once = boundary(None)


class NewAttributes(NamedTuple):
    """What setattr sets; None where a value stays. Times in nanoseconds."""

    size: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None

    @property
    def times_ns(self) -> tuple[int, int] | None:
        """The times of the last access and change; an access that is not told is the change."""
        if self.mtime_ns is None:
            return None
        return self.mtime_ns if self.atime_ns is None else self.atime_ns, self.mtime_ns


class Handlers:
    """The calls to one file system."""

    def __init__(
        self,
        filesystem: Filesystem,
        metrics: Metrics,
        *,
        uid: int,
        gid: int,
        writing: Writing | None = None,
        privacy: Privacy | None = None,
    ) -> None:
        """Without `writing` the mount is read-only; without `privacy` it belongs to this user."""
        self.metrics = metrics
        self.uid = uid
        self.gid = gid
        self.read_ahead: ReadAhead | None = None  # set once it is mounted
        self._fs = filesystem
        #: Like `read` of bytes in memory that were read before; None for all other reads. Most
        #: reads of a busy mount are such: they pay for no deadline and no task.
        self.read_again: Callable[[int, int, int], Bytes | None] = filesystem.read_again
        self._writing = writing or Writing(filesystem)
        self._privacy = privacy or Privacy(os.getuid())

    # names and attributes ------------------------------------------------------------------

    @boundary(LISTING_DEADLINE_S)
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
    async def getattr(self, inode: int, ctx: Caller) -> Attributes:
        return await self._fs.getattr(inode, lambda: Asker(program_of(ctx.pid), ctx.pid))

    @_metadata
    async def readlink(self, inode: int, ctx: Caller) -> bytes:
        return await self._fs.readlink(inode)

    # directories ---------------------------------------------------------------------------

    @boundary(LISTING_DEADLINE_S)
    async def opendir(self, inode: int, ctx: Caller) -> int:
        """Open a frozen listing; return its handle."""
        return await self._fs.opendir(inode, lambda: program_of(ctx.pid))

    @_at_once
    async def readdir(
        self, handle: int, offset: int, take: Take, take_file: TakeName | None = None
    ) -> None:
        """Offer entries until one is refused; each entry that `take` accepts is one reference."""
        self._fs.directories.read(handle, offset, take, take_file)

    @_at_once
    async def list_names(self, handle: int, offset: int, take: TakeName) -> None:
        """Like `readdir`, but names alone, which are no references; pyfuse3 has no such call."""
        self._fs.directories.read_names(handle, offset, take)

    @_at_once
    async def releasedir(self, fh: int) -> None:
        self._fs.directories.close(fh)

    # files ---------------------------------------------------------------------------------

    @_metadata
    async def open(self, inode: int, flags: int, ctx: Caller) -> Opened:
        """Open a file for reading; sends no request to UP42 before the first read."""
        opened = await self._fs.open(
            inode, flags, program_of(ctx.pid), is_trusted=self._privacy.trusts(ctx.uid)
        )
        if self.read_ahead is not None and (opened.in_pieces or not opened.direct_io):
            # No await is allowed between this and the reply.
            self.read_ahead.prepare(in_pieces=opened.in_pieces)
        return opened

    def takes_long(self, handle: int) -> bool:
        """Whether reads of a handle may take as long as a first listing."""
        return self._fs.is_unpacked(handle)

    @boundary(READ_DEADLINE_S, unpacks=takes_long)
    async def read(self, fh: int, off: int, size: int, is_mapped: bool = False) -> Bytes:
        """The bytes, whole or not at all: a short answer would cut the file in the kernel.

        With `is_mapped` they are for the page cache, where whoever has the file open finds them.
        """
        return await self._fs.read(fh, off, size, is_mapped=is_mapped)

    @_reading
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._writing.write(fh, off, buf)

    @_metadata
    async def create(self, parent: int, name: bytes) -> tuple[Attributes, Opened]:
        """Create a sidecar and open it."""
        return await self._writing.create(parent, text_of(name))

    @_reading
    async def flush(self, fh: int) -> None:
        """Store written bytes when a descriptor is closed."""
        self._require_sidecars()
        await self._writing.flush(fh)

    @_reading
    async def fsync(self, fh: int, datasync: bool) -> None:
        """Store written bytes now."""
        self._require_sidecars()
        await self._writing.sync(fh)

    @_metadata
    async def release(self, fh: int) -> None:
        """Close the last descriptor; flush writes that came through a memory mapping."""
        try:
            if self._writing.keeps_sidecars:
                await self._writing.flush(fh)
        finally:
            self._fs.release(fh)

    # the storage, extended attributes ------------------------------------------------------

    @_metadata
    async def statfs(self) -> tuple[int, int, int]:
        """Return (blocks, free blocks, files) for `df`; free blocks are room for sidecars."""
        used = self._fs.statfs()
        free = await self._writing.free_bytes() // STATFS_BLOCK_BYTES
        return -(-used.used_bytes // STATFS_BLOCK_BYTES) + free, free, used.files

    @_metadata
    async def getxattr(self, inode: int, name: bytes, ctx: Caller) -> bytes:
        if name.startswith(_FOREIGN_XATTRS):
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        is_trusted = self._privacy.trusts(ctx.uid)
        return await self._fs.getxattr(inode, text_of(name), is_trusted=is_trusted)

    @_metadata
    async def listxattr(self, inode: int, ctx: Caller) -> list[bytes]:
        names = await self._fs.listxattr(inode, is_trusted=self._privacy.trusts(ctx.uid))
        return [bytes_of(name) for name in names]

    @_metadata
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Caller) -> None:
        """Set an asset's title or tags."""
        if self._writing.is_possible and not name.startswith(b"user."):
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        await self._writing.setxattr(inode, text_of(name), value)

    @_metadata
    async def removexattr(self, inode: int, name: bytes, ctx: Caller) -> None:
        await self._writing.editing.removexattr(inode, text_of(name))

    # edits ---------------------------------------------------------------------------------

    @_metadata
    async def mkdir(self, parent: int, name: bytes) -> Attributes:
        """Create a tag that no asset has yet."""
        return await self._writing.editing.mkdir(parent, text_of(name))

    @_metadata
    async def rmdir(self, parent_inode: int, name: bytes, ctx: Caller) -> None:
        """Remove an empty tag."""
        await self._writing.editing.rmdir(parent_inode, text_of(name))

    @_metadata
    async def link(self, inode: int, new_parent: int, new_name: bytes) -> Attributes:
        """Add a tag to an asset."""
        return await self._writing.editing.link(inode, new_parent, text_of(new_name))

    @_metadata
    async def unlink(self, parent_inode: int, name: bytes, ctx: Caller) -> None:
        """Delete a sidecar, or remove a tag from an asset."""
        await self._writing.unlink(parent_inode, text_of(name))

    @_metadata
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: Caller,
    ) -> None:
        """Rename a sidecar or a tag, or change an asset's tags."""
        await self._writing.rename(
            parent_inode_old, text_of(name_old), parent_inode_new, text_of(name_new), flags
        )

    @_metadata
    async def setattr(self, inode: int, new: NewAttributes) -> Attributes:
        """Set size and times of sidecars; elsewhere accept only unchanged values (`rsync`)."""
        if await self._writing.change(inode, size=new.size, times_ns=new.times_ns):
            return await self._fs.getattr(inode)
        _ = self._writing.editing  # fails where the mount is read-only
        shown = await self._fs.getattr(inode)
        # The time of the last access is not kept: it is shown as that of the last change.
        kept = NewAttributes(None, shown.mode, self.uid, self.gid, shown.mtime_ns, shown.mtime_ns)
        for wanted, is_now in zip(new, kept, strict=True):
            if wanted is not None and wanted != is_now:
                raise ReadOnly("modes, owners, times and sizes cannot be changed")
        return shown

    @_at_once
    async def mknod(self, *_: object) -> NoReturn:
        raise ReadOnly("devices and sockets cannot be created")

    @_at_once
    async def symlink(self, *_: object) -> NoReturn:
        raise ReadOnly("symbolic links cannot be created")

    def _require_sidecars(self) -> None:
        """Fail with ENOSYS without sidecars; the kernel then stops sending FLUSH and FSYNC."""
        if not self._writing.keeps_sidecars:
            raise pyfuse3.FUSEError(errno.ENOSYS)
