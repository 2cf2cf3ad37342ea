"""pyfuse3's handlers over `fs.Filesystem`: convert arguments, one call, convert the result.

Knows no rule of the file system; what comes often is in `handlers`. What is left out is answered
ENOSYS by pyfuse3's default, after which the kernel never asks again: access (the kernel checks
modes itself); and, where there are no sidecars to keep, flush and fsync.
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
#: For handlers that are answered from memory, always.
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
        """Without `writing` nothing can be changed; without `privacy` it is this user's mount."""
        super().__init__()
        self._writing = writing or Writing(filesystem)
        #: The calls that come often; they can be served without pyfuse3.
        self.handlers = Handlers(
            filesystem, metrics, self._writing, privacy or Privacy(os.getuid())
        )
        self.metrics = metrics
        self._fs = filesystem
        self.uid = uid
        self.gid = gid

    @_at_once
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Name to attributes; a miss is answered so that the kernel remembers it."""
        found = await self.handlers.lookup(parent_inode, name)
        if isinstance(found, Absent):
            return _negative_entry(found.ttl_s)
        return self._entry(found)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """References given back; must not raise."""
        self.handlers.forget(inode_list)

    @_at_once
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """Attributes of an inode."""
        return self._entry(await self.handlers.getattr(inode))

    @_at_once
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        """Where a symbolic link leads."""
        return self._fs.readlink(inode)

    @_at_once
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """A frozen listing."""
        return await self.handlers.opendir(inode)

    @_at_once
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """Entries with attributes until the kernel's buffer is full."""

        entry = self._blank_entry()  # one for all: the reply is written entry by entry
        reply, fill = pyfuse3.readdir_reply, _fill

        def take(name: str, attributes: Attributes, after: int) -> bool:
            fill(entry, attributes)
            return reply(token, bytes_of(name), entry, after)

        await self.handlers.readdir(fh, start_id, take)

    @_at_once
    async def releasedir(self, fh: int) -> None:
        """The listing is no longer needed."""
        await self.handlers.releasedir(fh)

    @_at_once
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open for reading; no request goes out before the first read."""
        return _file_info(await self.handlers.open(inode, flags, ctx.pid, ctx.uid))

    @_metadata
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """A new sidecar of an image."""
        attributes, opened = await self._writing.create(parent_inode, text_of(name))
        return _file_info(opened), self._entry(attributes)

    @_at_once
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """Bytes of a sidecar, all of them."""
        return await self.handlers.write(fh, off, buf)

    @boundary(READ_DEADLINE_S)
    async def flush(self, fh: int) -> None:
        """A descriptor is closed: what was written is kept when it is."""
        self._require_sidecars()
        await self._writing.flush(fh)

    @boundary(READ_DEADLINE_S)
    async def fsync(self, fh: int, datasync: bool) -> None:
        """What was written is kept now."""
        self._require_sidecars()
        await self._writing.sync(fh)

    @_at_once
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """The bytes, whole or not at all."""
        # pyfuse3 takes any buffer, its stub says bytes: a memoryview spares one copy.
        return cast(bytes, await self.handlers.read(fh, off, size))

    @_at_once
    async def release(self, fh: int) -> None:
        """The last descriptor is closed."""
        await self.handlers.release(fh)

    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """`df`: what lies in storage is used, nothing is free but room for sidecars."""
        data = StatvfsData()
        data.f_bsize = data.f_frsize = STATFS_BLOCK_BYTES
        data.f_blocks, data.f_bfree, data.f_files = await self.handlers.statfs()
        data.f_bavail = data.f_bfree
        data.f_namemax = MOST_NAME_BYTES
        return data

    @_at_once
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """An attribute's value."""
        return await self.handlers.getxattr(inode, name, ctx.uid)

    @_at_once
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        """Names of the listed attributes."""
        return await self.handlers.listxattr(inode, ctx.uid)

    @_metadata
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """Title and tags of an asset."""
        if self._writing.is_possible and not name.startswith(b"user."):
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        await self._writing.setxattr(inode, text_of(name), value)

    @_metadata
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        """Clears title or tags."""
        await self._writing.editing.removexattr(inode, text_of(name))

    @_metadata
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        """A tag that no asset has yet."""
        return self._entry(await self._writing.editing.mkdir(parent_inode, text_of(name)))

    @_metadata
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """An empty tag goes."""
        await self._writing.editing.rmdir(parent_inode, text_of(name))

    @_metadata
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """An asset gets a tag."""
        editing = self._writing.editing
        return self._entry(await editing.link(inode, new_parent_inode, text_of(new_name)))

    @_metadata
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """A sidecar goes, or an asset loses a tag."""
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
        """A sidecar or a tag changes its name, or an asset its tags."""
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
        """Size and times of sidecars; of all else nothing: `rsync` sets it to what it is."""
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
        """Where there are none the kernel need not tell of closed files, and never does again."""
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
    """What setattr is to set: the size in bytes, and (access, change) in nanoseconds."""
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
