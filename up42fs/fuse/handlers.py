"""The calls of FUSE over `fs.Filesystem`: one call of `fs` each, within a deadline.

`server` serves the frequent calls, with requests that it read from the device; pyfuse3 serves the
rest, and all of them where libfuse has the device (see `session`). Both use the same methods, which
raise only FUSEError. If pyfuse3 needs an object of its own, the call stands twice in a row: what
it means, for `server`, and its conversion, under the name that pyfuse3 calls.

pyfuse3's default answers handlers that are not defined with ENOSYS, after which the kernel sends no
more such requests: access (the kernel checks modes itself); and, without sidecars, flush and fsync.
A result of the wrong type kills the mount as an exception does, so mypy checks the types strictly.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

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
    BLOCK_SIZE_BYTES,
    MOST_NAME_BYTES,
    STATFS_BLOCK_BYTES,
    RequestHead,
    bytes_of,
    text_of,
)
from up42fs.fuse.tuning import ReadAhead
from up42fs.metrics import Metrics
from up42fs.types import Bytes

#: Namespaces that are not supported here, as on FAT: `ls -l` applies "not supported" to the whole
#: file system after one request, whereas "no such attribute" makes it send three for every entry.
_FOREIGN_XATTRS = (b"security.", b"system.", b"trusted.")

#: The program that made a request: its `pid` (of the thread) and `uid`.
Caller = RequestContext | RequestHead

_metadata = boundary(METADATA_DEADLINE_S)
_reading = boundary(READ_DEADLINE_S)
#: For handlers that are always answered from memory, and for conversions.
_at_once = boundary(None)


class Handlers(pyfuse3.Operations):
    """The calls to one file system."""

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
        self.metrics = metrics
        self.uid = uid
        self.gid = gid
        self.read_ahead: ReadAhead | None = None  # set once it is mounted
        self._fs = filesystem
        self._writing = writing or Writing(filesystem)
        self._privacy = privacy or Privacy(os.getuid())

    # names and attributes ------------------------------------------------------------------

    @boundary(LISTING_DEADLINE_S, "lookup")
    async def find(self, parent: int, name: bytes) -> Attributes | Absent:
        """Return a name's attributes and take one reference, or `Absent`."""
        if len(name) > MOST_NAME_BYTES:  # the kernel allows more; each call begins with a lookup
            raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
        return await self._fs.lookup(parent, text_of(name))

    @_at_once
    async def lookup(self, parent_inode: int, name: bytes, ctx: Caller) -> EntryAttributes:
        """Convert `find`; a miss is an entry without an inode, so that the kernel caches it."""
        found = await self.find(parent_inode, name)
        if isinstance(found, Absent):
            entry = EntryAttributes()
            entry.st_ino = 0
            entry.entry_timeout = found.ttl_s
            return entry
        return self._entry(found)

    def drop(self, inodes: Iterable[tuple[int, int]]) -> None:
        """Drop references, as (inode, count); never raises."""
        try:
            for inode, count in inodes:
                self._fs.forget(inode, count)
        except Exception as error:
            supervise.report(self.drop, error)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        self.drop(inode_list)

    @boundary(METADATA_DEADLINE_S, "getattr")
    async def attributes(self, inode: int) -> Attributes:
        return await self._fs.getattr(inode)

    @_at_once
    async def getattr(self, inode: int, ctx: Caller) -> EntryAttributes:
        return self._entry(await self.attributes(inode))

    @_metadata
    async def readlink(self, inode: int, ctx: Caller) -> bytes:
        return await self._fs.readlink(inode)

    # directories ---------------------------------------------------------------------------

    @boundary(LISTING_DEADLINE_S)
    async def opendir(self, inode: int, ctx: Caller) -> int:
        """Open a frozen listing; return its handle."""
        return await self._fs.opendir(inode, lambda: program_of(ctx.pid))

    @boundary(None, "readdir")
    async def list_entries(
        self, handle: int, offset: int, take: Take, take_file: TakeName | None = None
    ) -> None:
        """Offer entries until one is refused; each entry that `take` accepts is one reference."""
        self._fs.readdir(handle, offset, take, take_file)

    @_at_once
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """Convert `list_entries`: with all attributes, until the kernel's buffer is full."""
        entry = self._blank_entry()  # reused: the reply is written entry by entry
        reply, fill = pyfuse3.readdir_reply, _fill

        def take(name: str, attributes: Attributes, after: int) -> bool:
            fill(entry, attributes)
            return reply(token, bytes_of(name), entry, after)

        await self.list_entries(fh, start_id, take)

    @_at_once
    async def list_names(self, handle: int, offset: int, take: TakeName) -> None:
        """Offer names until one is refused; pyfuse3 has no such call."""
        self._fs.list_names(handle, offset, take)

    @_at_once
    async def releasedir(self, fh: int) -> None:
        self._fs.releasedir(fh)

    # files ---------------------------------------------------------------------------------

    @boundary(METADATA_DEADLINE_S, "open")
    async def open_file(self, inode: int, flags: int, ctx: Caller) -> Opened:
        """Open a file for reading; sends no request to UP42 before the first read."""
        opened = await self._fs.open(
            inode, flags, program_of(ctx.pid), is_trusted=self._privacy.trusts(ctx.uid)
        )
        if self.read_ahead is not None and (opened.in_pieces or not opened.direct_io):
            # No await is allowed between this and the reply.
            self.read_ahead.prepare(in_pieces=opened.in_pieces)
        return opened

    @_at_once
    async def open(self, inode: int, flags: int, ctx: Caller) -> FileInfo:
        return _file_info(await self.open_file(inode, flags, ctx))

    def read_again(self, handle: int, offset: int, size: int) -> Bytes | None:
        """Like `read` of bytes in memory that were read before; None for all other reads.

        Most reads of a busy mount are such: they pay for no deadline and no task.
        """
        return self._fs.read_again(handle, offset, size)

    def takes_long(self, handle: int) -> bool:
        """Whether reads of a handle may take as long as a first listing."""
        return self._fs.is_unpacked(handle)

    @boundary(READ_DEADLINE_S, unpacks=takes_long)
    async def read(  # type: ignore[override]  # any buffer will do, which saves a copy
        self, fh: int, off: int, size: int, is_mapped: bool = False
    ) -> Bytes:
        """The bytes, whole or not at all: a short answer would cut the file in the kernel.

        With `is_mapped` they are for the page cache, where whoever has the file open finds them.
        """
        return await self._fs.read(fh, off, size, is_mapped=is_mapped)

    @_reading
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._writing.write(fh, off, buf)

    @_metadata
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: Caller
    ) -> tuple[FileInfo, EntryAttributes]:
        attributes, opened = await self._writing.create(parent_inode, text_of(name))
        return _file_info(opened), self._entry(attributes)

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

    @boundary(METADATA_DEADLINE_S, "statfs")
    async def usage(self) -> tuple[int, int, int]:
        """Return (blocks, free blocks, files) for `df`; free blocks are room for sidecars."""
        used = self._fs.statfs()
        free = await self._writing.free_bytes() // STATFS_BLOCK_BYTES
        return -(-used.used_bytes // STATFS_BLOCK_BYTES) + free, free, used.files

    @_at_once
    async def statfs(self, ctx: Caller) -> StatvfsData:
        data = StatvfsData()
        data.f_bsize = data.f_frsize = STATFS_BLOCK_BYTES
        data.f_blocks, data.f_bfree, data.f_files = await self.usage()
        data.f_bavail = data.f_bfree
        data.f_namemax = MOST_NAME_BYTES
        return data

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
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: Caller
    ) -> EntryAttributes:
        """Create a tag that no asset has yet."""
        return self._entry(await self._writing.editing.mkdir(parent_inode, text_of(name)))

    @_metadata
    async def rmdir(self, parent_inode: int, name: bytes, ctx: Caller) -> None:
        """Remove an empty tag."""
        await self._writing.editing.rmdir(parent_inode, text_of(name))

    @_metadata
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: Caller
    ) -> EntryAttributes:
        """Add a tag to an asset."""
        editing = self._writing.editing
        return self._entry(await editing.link(inode, new_parent_inode, text_of(new_name)))

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
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: Caller,
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


def _settable(fields: SetattrFields) -> Iterator[tuple[str, bool]]:
    yield "st_mode", fields.update_mode
    yield "st_uid", fields.update_uid
    yield "st_gid", fields.update_gid
    yield "st_atime_ns", fields.update_atime
    yield "st_mtime_ns", fields.update_mtime


def _refuse(name: str) -> Callable[..., Awaitable[None]]:
    async def refuse(*_args: object) -> None:
        raise pyfuse3.FUSEError(ReadOnly.errno)

    refuse.__name__ = name
    refuse.__doc__ = "Writing is refused with EROFS."
    return refuse


for _name in ("mknod", "symlink"):
    setattr(Handlers, _name, _refuse(_name))

assert pyfuse3.ENOATTR == errno.ENODATA
