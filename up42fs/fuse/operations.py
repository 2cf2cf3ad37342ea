"""The handlers as pyfuse3 calls them: its objects in, its objects out, and no decision.

pyfuse3's default answers calls that are not defined with ENOSYS, after which the kernel sends no
more of them: access (the kernel checks modes itself); and, without sidecars, flush and fsync. A
result of the wrong type kills the mount as an exception does, so mypy checks the types strictly.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from up42fs.fs.tree.nodes import Absent, Attributes, Opened
from up42fs.fuse.boundary import boundary
from up42fs.fuse.handlers import Handlers, NewAttributes
from up42fs.fuse.protocol import BLOCK_SIZE_BYTES, MOST_NAME_BYTES, STATFS_BLOCK_BYTES, bytes_of

#: Calls whose arguments and results need no conversion: the handlers themselves.
AS_THEY_ARE = (
    "readlink", "opendir", "releasedir", "read", "write", "flush", "fsync", "release", "getxattr",
    "listxattr", "setxattr", "removexattr", "rmdir", "unlink", "rename", "mknod", "symlink",
)  # fmt: skip

#: The deadlines are the handlers'; a conversion that fails must not kill the mount either.
_converts = boundary(None)


class Operations(pyfuse3.Operations):
    """The calls of pyfuse3 to one file system."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, handlers: Handlers) -> None:
        super().__init__()
        self.metrics = handlers.metrics
        self._handlers = handlers
        for name in AS_THEY_ARE:
            setattr(self, name, getattr(handlers, name))

    @_converts
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """A miss is an entry without an inode, so that the kernel caches it."""
        found = await self._handlers.lookup(parent_inode, name)
        if isinstance(found, Absent):
            entry = EntryAttributes()
            entry.st_ino = 0
            entry.entry_timeout = found.ttl_s
            return entry
        return self._entry(found)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        self._handlers.forget(inode_list)

    @_converts
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._entry(await self._handlers.getattr(inode, ctx))

    @_converts
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """Entries with all attributes, until the kernel's buffer is full."""
        entry = self._blank_entry()  # reused: the reply is written entry by entry
        reply, fill = pyfuse3.readdir_reply, _fill

        def take(name: str, attributes: Attributes, after: int) -> bool:
            fill(entry, attributes)
            return reply(token, bytes_of(name), entry, after)

        await self._handlers.readdir(fh, start_id, take)

    @_converts
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        return _file_info(await self._handlers.open(inode, flags, ctx))

    @_converts
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        attributes, opened = await self._handlers.create(parent_inode, name)
        return _file_info(opened), self._entry(attributes)

    @_converts
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        return self._entry(await self._handlers.mkdir(parent_inode, name))

    @_converts
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        return self._entry(await self._handlers.link(inode, new_parent_inode, new_name))

    @_converts
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        new = NewAttributes(
            size=attr.st_size if fields.update_size else None,
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return self._entry(await self._handlers.setattr(inode, new))

    @_converts
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        data = StatvfsData()
        data.f_bsize = data.f_frsize = STATFS_BLOCK_BYTES
        data.f_blocks, data.f_bfree, data.f_files = await self._handlers.statfs()
        data.f_bavail = data.f_bfree
        data.f_namemax = MOST_NAME_BYTES
        return data

    def _entry(self, attributes: Attributes) -> EntryAttributes:
        entry = self._blank_entry()
        _fill(entry, attributes)
        return entry

    def _blank_entry(self) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_uid = self._handlers.uid
        entry.st_gid = self._handlers.gid
        entry.st_blksize = BLOCK_SIZE_BYTES
        return entry


def _file_info(opened: Opened) -> FileInfo:
    return FileInfo(fh=opened.handle, keep_cache=opened.keep_cache, direct_io=opened.direct_io)


def _fill(entry: EntryAttributes, attributes: Attributes) -> None:
    (
        inode, mode, nlink, size, mtime_ns, ctime_ns, ttl_s, attr_ttl_s, generation, _, is_part,
    ) = attributes  # fmt: skip
    entry.st_ino = inode
    entry.generation = generation
    entry.st_mode = mode
    entry.st_nlink = nlink
    entry.st_size = size
    entry.st_blocks = 0 if is_part else -(-size // 512)
    entry.st_atime_ns = entry.st_mtime_ns = mtime_ns
    entry.st_ctime_ns = ctime_ns
    entry.entry_timeout = ttl_s
    entry.attr_timeout = ttl_s if attr_ttl_s is None else attr_ttl_s


assert pyfuse3.ENOATTR == errno.ENODATA
