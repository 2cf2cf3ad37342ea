"""FUSE's messages as bytes: the requests that are answered without libfuse, and their replies.

Pure, except that a listing ends by the clock. The layouts are those of include/uapi/linux/fuse.h,
version 7, minor 31 and later, which only change by appended fields. Numbers are in the machine's
own byte order; names are bytes that end in NUL.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from enum import IntEnum
from time import perf_counter
from typing import NamedTuple

from up42fs.fs.tree.nodes import Absent, Attributes, Opened

#: `st_blksize`: the read size of `cp` and Python. A larger value would only inflate small reads.
BLOCK_SIZE_BYTES = 128 * 1024
#: The block size that `df` counts in, and the maximum length of names that it reports.
STATFS_BLOCK_BYTES = 4096
MOST_NAME_BYTES = 255

Buffer = bytes | bytearray | memoryview


def text_of(name: bytes) -> str:
    """Decode a name as the tree stores it: always UTF-8, independent of the process's locale.

    Bytes that are not UTF-8 become surrogates, which no listed name has. `os.fsdecode` would decode
    names by the locale, so that listed files could not be opened.
    """
    return name.decode("utf-8", "surrogateescape")


def bytes_of(name: str) -> bytes:
    """The inverse of `text_of`."""
    return name.encode("utf-8", "surrogateescape")


class Opcode(IntEnum):
    """The requests that this module parses."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    GETXATTR = 22
    LISTXATTR = 23
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    INTERRUPT = 36
    BATCH_FORGET = 42
    READDIRPLUS = 44


class RequestHead(NamedTuple):
    """The head of every request; `node` is its inode."""

    length: int
    opcode: int
    unique: int
    node: int
    uid: int
    gid: int
    pid: int
    extension: int
    padding: int


class ReadIn(NamedTuple):
    """The arguments of READ, READDIR and READDIRPLUS; `offset` and `size` in bytes."""

    handle: int
    offset: int
    size: int


_HEAD = struct.Struct("=IIQQIIIHH")
_HANDLE = struct.Struct("=Q")
_READ = struct.Struct("=QQI")
_WRITE = struct.Struct("=QQIIQII")
_FLAGS = struct.Struct("=I")
#: Behind handle, offset, size, and the flags and owner of locks.
_READ_FLAGS_AT = 32
#: Behind handle, offset and size; the flag says that the owner of locks is told.
_LOCK_FLAGS_AT = 20
_READ_LOCKOWNER = 1 << 1
_SIZE = struct.Struct("=II")
_ONE_FORGET = struct.Struct("=QQ")

HEAD_BYTES = _HEAD.size

_OUT = struct.Struct("=IiQ")
_ATTR = "QQQqqqIIIIIIIIII"
_ENTRY = struct.Struct("=QQQQII" + _ATTR)
_ATTR_OUT = struct.Struct("=QII" + _ATTR)
_DIRENT = struct.Struct("=QQII")
_DIRENTPLUS = struct.Struct("=QQQQII" + _ATTR + "QQII")
_STATFS = struct.Struct("=QQQQQIII28x")
_OPENED = struct.Struct("=QII")
_INVAL_INODE = struct.Struct("=Qqq")
_INVAL_ENTRY = struct.Struct("=QII")

OUT_BYTES = _OUT.size

_DIRECT_IO = 1 << 0
_KEEP_CACHE = 1 << 1
_NOTIFY_INVAL_INODE = 2
_NOTIFY_INVAL_ENTRY = 3
_NANOSECONDS = 1_000_000_000
#: Replaces an entry's attributes: the kernel gets none, and requests them if it needs them.
_NO_ENTRY = bytes(_ENTRY.size)
_PADS = tuple(b"\0" * ((8 - length) % 8) for length in range(8))


def head(message: Buffer) -> RequestHead:
    """The head of a request of at least `HEAD_BYTES`."""
    return RequestHead._make(_HEAD.unpack_from(message))


def name(message: Buffer, length: int) -> bytes:
    """The name that follows the head in a request of `length` bytes."""
    return bytes(message[HEAD_BYTES : length - 1])


def handle(message: Buffer) -> int:
    """The handle of RELEASE and RELEASEDIR, and the number of the request that INTERRUPT ends."""
    (number,) = _HANDLE.unpack_from(message, HEAD_BYTES)
    return int(number)


def read_in(message: Buffer) -> ReadIn:
    """The arguments of READ, READDIR or READDIRPLUS."""
    return ReadIn._make(_READ.unpack_from(message, HEAD_BYTES))


def fills_page_cache(message: Buffer) -> bool:
    """Whether READ is for the page cache, as of a mapping, and not for a program's own buffer.

    Only reads past the page cache name the owner of locks.
    """
    (flags,) = _FLAGS.unpack_from(message, HEAD_BYTES + _LOCK_FLAGS_AT)
    return not flags & _READ_LOCKOWNER


def is_direct(message: Buffer) -> bool:
    """Whether a READ is of a file that the program opened with O_DIRECT."""
    (flags,) = _FLAGS.unpack_from(message, HEAD_BYTES + _READ_FLAGS_AT)
    return bool(flags & os.O_DIRECT)


def write_in(message: Buffer) -> tuple[int, int, bytes]:
    """Handle, offset and bytes of WRITE."""
    number, offset, size, *_ = _WRITE.unpack_from(message, HEAD_BYTES)
    start = HEAD_BYTES + _WRITE.size
    return number, offset, bytes(message[start : start + size])


def open_flags(message: Buffer) -> int:
    """The flags of OPEN, as of open(2)."""
    (flags,) = _FLAGS.unpack_from(message, HEAD_BYTES)
    return int(flags)


def xattr_size(message: Buffer) -> int:
    """Room for the answer to GETXATTR or LISTXATTR, bytes; 0 requests the answer's size."""
    size, _ = _SIZE.unpack_from(message, HEAD_BYTES)
    return int(size)


def xattr_name(message: Buffer, length: int) -> bytes:
    return bytes(message[HEAD_BYTES + _SIZE.size : length - 1])


def forgets(message: Buffer, request: RequestHead) -> Sequence[tuple[int, int]]:
    """(inode, references given back) of FORGET and BATCH_FORGET."""
    if request.opcode == Opcode.FORGET:
        return [(request.node, handle(message))]
    count, _ = _SIZE.unpack_from(message, HEAD_BYTES)
    start = HEAD_BYTES + _SIZE.size
    return list(_ONE_FORGET.iter_unpack(message[start : start + count * _ONE_FORGET.size]))


def reply_head(unique: int, size: int) -> bytes:
    return _OUT.pack(OUT_BYTES + size, 0, unique)


def refusal(unique: int, number: int) -> bytes:
    """A complete reply with the errno `number`."""
    return _OUT.pack(OUT_BYTES, -number, unique)


def opened(file: Opened) -> bytes:
    """The reply to OPEN."""
    flags = (_DIRECT_IO if file.direct_io else 0) | (_KEEP_CACHE if file.keep_cache else 0)
    return _OPENED.pack(file.handle, flags, 0)


def opened_directory(number: int) -> bytes:
    """The reply to OPENDIR."""
    return _OPENED.pack(number, 0, 0)


def usage(blocks: int, free: int, files: int) -> bytes:
    """The reply to STATFS, in blocks of `STATFS_BLOCK_BYTES`."""
    return _STATFS.pack(
        blocks, free, free, files, 0, STATFS_BLOCK_BYTES, MOST_NAME_BYTES, STATFS_BLOCK_BYTES
    )


def count(size: int) -> bytes:
    """The reply to WRITE, and to xattr requests for a size: a number of bytes."""
    return _SIZE.pack(size, 0)


def forget_attributes(inode: int) -> bytes:
    """A notification that invalidates an inode's attributes; its pages stay cached."""
    return _notification(_NOTIFY_INVAL_INODE, _INVAL_INODE.pack(inode, -1, 0))


def forget_name(parent: int, entry: bytes) -> bytes:
    """A notification that invalidates a name, also a cached absence of one."""
    body = _INVAL_ENTRY.pack(parent, len(entry), 0) + entry + b"\0"
    return _notification(_NOTIFY_INVAL_ENTRY, body)


def _notification(code: int, body: bytes) -> bytes:
    return _OUT.pack(OUT_BYTES + len(body), code, 0) + body


class Entries:
    """Replies that contain attributes; all files belong to one user and group."""

    def __init__(self, uid: int, gid: int) -> None:
        self._uid = uid
        self._gid = gid

    def entry(self, found: Attributes | Absent) -> bytes:
        """The reply to LOOKUP."""
        if isinstance(found, Absent):
            return _ENTRY.pack(0, 0, *_seconds(found.ttl_s, 0.0), *(0,) * 16)
        lasts = _seconds(found.ttl_s, found.attr_ttl_s)
        return _ENTRY.pack(found.inode, found.generation, *lasts, *self._attributes(found))

    def attributes(self, found: Attributes) -> bytes:
        """The reply to GETATTR."""
        _, seconds, _, nanoseconds = _seconds(found.ttl_s, found.attr_ttl_s)
        return _ATTR_OUT.pack(seconds, nanoseconds, 0, *self._attributes(found))

    def _attributes(self, found: Attributes) -> tuple[int, ...]:
        inode, mode, nlink, size, mtime_ns, ctime_ns, _, _, _, shown, is_part = found
        number = shown or inode
        mtime, mtime_rest = divmod(mtime_ns, _NANOSECONDS)
        ctime, ctime_rest = divmod(ctime_ns, _NANOSECONDS)
        return (
            number, size, 0 if is_part else (size + 511) >> 9,
            mtime, mtime, ctime, mtime_rest, mtime_rest, ctime_rest,
            mode, nlink, self._uid, self._gid, 0, BLOCK_SIZE_BYTES, 0,
        )  # fmt: skip


def _seconds(ttl_s: float, attr_ttl_s: float | None) -> tuple[int, int, int, int]:
    """Lifetimes of name and attributes: seconds of both, then nanoseconds of both."""
    name_s = int(ttl_s)
    name_ns = int((ttl_s - name_s) * _NANOSECONDS)
    if attr_ttl_s is None or attr_ttl_s == ttl_s:
        return name_s, name_s, name_ns, name_ns
    attr_s = int(attr_ttl_s)
    return name_s, attr_s, name_ns, int((attr_ttl_s - attr_s) * _NANOSECONDS)


class _Records:
    """One reply of at most `room` bytes, built entry by entry; names are padded to eight bytes.

    After `until_s` (of `perf_counter`) it takes no more, but has one entry at least: an empty reply
    means the end of the directory.
    """

    def __init__(self, room: int, until_s: float = math.inf) -> None:
        self._left = room
        self._until_s = until_s
        self._pieces: list[bytes] = []

    def reply(self) -> bytes:
        """The bytes of the accepted entries."""
        return b"".join(self._pieces)


class Names(_Records):
    """The reply to READDIR."""

    def add(self, entry: str, inode: int, mode: int, after: int) -> bool:
        """Add an entry by name and type; `after` is the next one's offset. False if it is full."""
        text = entry.encode("utf-8", "surrogateescape")
        length = len(text)
        self._left -= _DIRENT.size + length + -length % 8
        if self._left < 0 or (perf_counter() > self._until_s and self._pieces):
            return False
        self._pieces += (_DIRENT.pack(inode, after, length, mode >> 12), text, _PADS[length % 8])
        return True


class NamesPlus(_Records):
    """The reply to READDIRPLUS."""

    def __init__(self, room: int, uid: int, gid: int, until_s: float = math.inf) -> None:
        super().__init__(room, until_s)
        self._uid = uid
        self._gid = gid
        #: Whether all entries were added with attributes.
        self.is_full = True

    def add(self, entry: str, found: Attributes, after: int) -> bool:
        """Add an entry with its attributes, which takes a reference; False if it is full."""
        text = entry.encode("utf-8", "surrogateescape")
        length = len(text)
        self._left -= _DIRENTPLUS.size + length + -length % 8
        if self._left < 0 or (perf_counter() > self._until_s and self._pieces):
            return False
        # Inlined for speed: listings of 100 000 entries are built here.
        (
            inode, mode, nlink, size, mtime_ns, ctime_ns, ttl_s, attr_ttl_s, generation, shown,
            is_part,
        ) = found  # fmt: skip
        number = shown or inode
        name_s, attr_s, name_ns, attr_ns = _seconds(ttl_s, attr_ttl_s)
        mtime, mtime_rest = divmod(mtime_ns, _NANOSECONDS)
        ctime, ctime_rest = divmod(ctime_ns, _NANOSECONDS)
        record = _DIRENTPLUS.pack(
            inode, generation, name_s, attr_s, name_ns, attr_ns,
            number, size, 0 if is_part else (size + 511) >> 9,
            mtime, mtime, ctime, mtime_rest, mtime_rest, ctime_rest,
            mode, nlink, self._uid, self._gid, 0, BLOCK_SIZE_BYTES, 0,
            number, after, length, mode >> 12,
        )  # fmt: skip
        self._pieces += (record, text, _PADS[length % 8])
        return True

    def add_name(self, entry: str, inode: int, mode: int, after: int) -> bool:
        """Add an entry by name and type, without a reference; False if it is full."""
        text = entry.encode("utf-8", "surrogateescape")
        length = len(text)
        self._left -= _DIRENTPLUS.size + length + -length % 8
        if self._left < 0 or (perf_counter() > self._until_s and self._pieces):
            return False
        self.is_full = False
        record = _DIRENT.pack(inode, after, length, mode >> 12)
        self._pieces += (_NO_ENTRY + record, text, _PADS[length % 8])
        return True

    def inodes(self) -> list[int]:
        """The inodes that were added with their attributes, one reference each."""
        records = (int(_HANDLE.unpack_from(record)[0]) for record in self._pieces[::3])
        return [inode for inode in records if inode]
