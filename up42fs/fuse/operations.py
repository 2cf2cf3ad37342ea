"""pyfuse3's handlers over `fs.Filesystem`: convert arguments, one call, convert the result.

Knows no rule of the file system; `handlers` has the frequent requests. pyfuse3's default answers
handlers that are not defined with ENOSYS, after which the kernel sends no more such requests:
access (the kernel checks modes itself); and, without sidecars, flush and fsync.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import cast

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from up42fs.errors import ReadOnly
from up42fs.fs.filesystem import Filesystem
from up42fs.fs.privacy import Privacy
from up42fs.fs.tree.nodes import Absent, Attributes, Opened
from up42fs.fs.writing import Writing
from up42fs.fuse.boundary import METADATA_DEADLINE_S, READ_DEADLINE_S, boundary
from up42fs.fuse.handlers import Handlers
from up42fs.fuse.protocol import (
    BLOCK_SIZE_BYTES,
    MOST_NAME_BYTES,
    STATFS_BLOCK_BYTES,
    bytes_of,
    text_of,
)
from up42fs.metrics import Metrics

_metadata = boundary(METADATA_DEADLINE_S)
#: For handlers that are always answered from memory.
_at_once = boundary(None)


class Operations(pyfuse3.Operations):
    """The adapter that pyfuse3 calls."""

    supports_dot_lookup = False
    enable_writeback_cache = False

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
        super().__init__()
        self._writing = writing or Writing(filesystem)
        #: The frequent requests; they can be served without pyfuse3.
        self.handlers = Handlers(
            filesystem, metrics, self._writing, privacy or Privacy(os.getuid())
        )
        self.metrics = metrics
        self._fs = filesystem
        self.uid = uid
        self.gid = gid

    @_at_once
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Return a name's attributes; a miss is answered so that the kernel caches it."""
        found = await self.handlers.lookup(parent_inode, name)
        if isinstance(found, Absent):
            return _negative_entry(found.ttl_s)
        return self._entry(found)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Drop references; must not raise."""
        self.handlers.forget(inode_list)

    @_at_once
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """Return an inode's attributes."""
        return self._entry(await self.handlers.getattr(inode))

    @_at_once
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        """Return the target of a symbolic link."""
        return self._fs.readlink(inode)

    @_at_once
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Open a frozen listing; return its handle."""
        return await self.handlers.opendir(inode)

    @_at_once
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """List entries with attributes until the kernel's buffer is full."""

        entry = self._blank_entry()  # reused: the reply is written entry by entry
        reply, fill = pyfuse3.readdir_reply, _fill

        def take(name: str, attributes: Attributes, after: int) -> bool:
            fill(entry, attributes)
            return reply(token, bytes_of(name), entry, after)

        await self.handlers.readdir(fh, start_id, take)

    @_at_once
    async def releasedir(self, fh: int) -> None:
        """Release a listing."""
        await self.handlers.releasedir(fh)

    @_at_once
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open a file for reading; sends no request to UP42 before the first read."""
        return _file_info(await self.handlers.open(inode, flags, ctx.pid, ctx.uid))

    @_metadata
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Create a sidecar of an image."""
        attributes, opened = await self._writing.create(parent_inode, text_of(name))
        return _file_info(opened), self._entry(attributes)

    @_at_once
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """Write all bytes to a sidecar; return their number."""
        return await self.handlers.write(fh, off, buf)

    @boundary(READ_DEADLINE_S)
    async def flush(self, fh: int) -> None:
        """Store written bytes when a descriptor is closed."""
        self._require_sidecars()
        await self._writing.flush(fh)

    @boundary(READ_DEADLINE_S)
    async def fsync(self, fh: int, datasync: bool) -> None:
        """Store written bytes now."""
        self._require_sidecars()
        await self._writing.sync(fh)

    @_at_once
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Return all bytes or fail."""
        # pyfuse3 accepts any buffer although its stub requires bytes: a memoryview saves one copy.
        return cast(bytes, await self.handlers.read(fh, off, size))

    @_at_once
    async def release(self, fh: int) -> None:
        """Close the last descriptor."""
        await self.handlers.release(fh)

    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Report for `df`: storage counts as used; only the room for sidecars is free."""
        data = StatvfsData()
        data.f_bsize = data.f_frsize = STATFS_BLOCK_BYTES
        data.f_blocks, data.f_bfree, data.f_files = await self.handlers.statfs()
        data.f_bavail = data.f_bfree
        data.f_namemax = MOST_NAME_BYTES
        return data

    @_at_once
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """Return an extended attribute's value."""
        return await self.handlers.getxattr(inode, name, ctx.uid)

    @_at_once
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        """Return the names of the listed extended attributes."""
        return await self.handlers.listxattr(inode, ctx.uid)

    @_metadata
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """Set an asset's title or tags."""
        if self._writing.is_possible and not name.startswith(b"user."):
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        await self._writing.setxattr(inode, text_of(name), value)

    @_metadata
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        """Clear an asset's title or tags."""
        await self._writing.editing.removexattr(inode, text_of(name))

    @_metadata
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        """Create a tag that no asset has yet."""
        return self._entry(await self._writing.editing.mkdir(parent_inode, text_of(name)))

    @_metadata
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove an empty tag."""
        await self._writing.editing.rmdir(parent_inode, text_of(name))

    @_metadata
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """Add a tag to an asset."""
        editing = self._writing.editing
        return self._entry(await editing.link(inode, new_parent_inode, text_of(new_name)))

    @_metadata
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
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
        ctx: RequestContext,
    ) -> None:
        """Rename a sidecar or a tag, or change an asset's tags."""
        await self._writing.rename(
            parent_inode_old, text_of(name_old), parent_inode_new, text_of(name_new), flags
        )

    @_metadata
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Set size and times of sidecars; elsewhere accept only unchanged values (`rsync`)."""
        size, times_ns = _size_and_times(attr, fields)
        if await self._writing.change(inode, size=size, times_ns=times_ns):
            return self._entry(await self._fs.getattr(inode))
        _ = self._writing.editing
        shown = self._entry(await self._fs.getattr(inode))
        if fields.update_size or any(
            getattr(attr, name) != getattr(shown, name)
            for name, is_set in _settable(fields)
            if is_set
        ):
            raise ReadOnly("modes, owners, times and sizes cannot be changed")
        return shown

    def _require_sidecars(self) -> None:
        """Fail with ENOSYS without sidecars; the kernel then stops sending FLUSH and FSYNC."""
        if not self._writing.keeps_sidecars:
            raise pyfuse3.FUSEError(errno.ENOSYS)

    def _entry(self, attributes: Attributes) -> EntryAttributes:
        entry = self._blank_entry()
        _fill(entry, attributes)
        return entry

    def _blank_entry(self) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_uid = self.uid
        entry.st_gid = self.gid
        entry.st_blksize = BLOCK_SIZE_BYTES
        return entry


def _file_info(opened: Opened) -> FileInfo:
    return FileInfo(fh=opened.handle, keep_cache=opened.keep_cache, direct_io=opened.direct_io)


def _size_and_times(
    attr: EntryAttributes, fields: SetattrFields
) -> tuple[int | None, tuple[int, int] | None]:
    """The values that setattr sets: size in bytes, and (access, change) times in nanoseconds."""
    size = attr.st_size if fields.update_size else None
    if not fields.update_mtime:
        return size, None
    return size, (attr.st_atime_ns if fields.update_atime else attr.st_mtime_ns, attr.st_mtime_ns)


def _fill(entry: EntryAttributes, attributes: Attributes) -> None:
    inode, mode, nlink, size, mtime_ns, ctime_ns, ttl_s, attr_ttl_s, generation, _ = attributes
    entry.st_ino = inode
    entry.generation = generation
    entry.st_mode = mode
    entry.st_nlink = nlink
    entry.st_size = size
    entry.st_blocks = -(-size // 512)
    entry.st_atime_ns = entry.st_mtime_ns = mtime_ns
    entry.st_ctime_ns = ctime_ns
    entry.entry_timeout = ttl_s
    entry.attr_timeout = ttl_s if attr_ttl_s is None else attr_ttl_s


def _settable(fields: SetattrFields) -> Iterator[tuple[str, bool]]:
    yield "st_mode", fields.update_mode
    yield "st_uid", fields.update_uid
    yield "st_gid", fields.update_gid
    yield "st_atime_ns", fields.update_atime
    yield "st_mtime_ns", fields.update_mtime


def _negative_entry(ttl_s: float) -> EntryAttributes:
    entry = EntryAttributes()
    entry.st_ino = 0
    entry.entry_timeout = ttl_s
    return entry


def _refuse(name: str) -> Callable[..., Awaitable[None]]:
    async def refuse(*_args: object) -> None:
        raise pyfuse3.FUSEError(ReadOnly.errno)

    refuse.__name__ = name
    refuse.__doc__ = "Writing is refused with EROFS."
    return refuse


for _name in ("mknod", "symlink"):
    setattr(Operations, _name, _refuse(_name))

assert pyfuse3.ENOATTR == errno.ENODATA
