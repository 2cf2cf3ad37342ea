"""Where a zip archive keeps its members, read from its last bytes.

Knows the central directory (zip and zip64); nothing of compression. A stored member's data is a
range of the archive, a deflated one's is not of use to anybody but from its beginning. Hostile
input yields no members, never an exception.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from up42fs.types import ByteRange, Bytes

#: The end record and the longest comment after it fit in as many bytes.
TAIL_BYTES = 22 + 20 + (1 << 16)
_END = b"PK\x05\x06"
_END64 = b"PK\x06\x06"
_LOCATOR = b"PK\x06\x07"
_ENTRY = b"PK\x01\x02"
_LOCAL = b"PK\x03\x04"
_END_BYTES, _LOCATOR_BYTES, _ENTRY_BYTES, LOCAL_BYTES = 22, 20, 46, 30
_MOST_MEMBERS = 1 << 16
_HUGE = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Member:
    """A member by its local header's offset; `size` of its stored data, bytes."""

    header_at: int
    size: int
    is_stored: bool


@dataclass(frozen=True, slots=True)
class Directory:
    """The central directory: how many members it has, and where it lies."""

    count: int
    span: ByteRange


def find_directory(size: int, tail: Bytes) -> Directory | None:
    """Where the archive of `size` bytes that ends with `tail` keeps its directory; None: no zip."""
    data = bytes(tail)
    end = data.rfind(_END)
    if end < 0 or len(data) - end < _END_BYTES:
        return None
    count, length, start = _end64(size, data, end) or struct.unpack_from("<HLL", data, end + 10)
    if not 0 < count <= _MOST_MEMBERS or not length or start + length > size:
        return None
    return Directory(count, ByteRange(start, start + length))


def parse_directory(directory: Directory, data: Bytes) -> list[Member]:
    """The members, by their place; none where `data`, the directory's bytes, makes no sense."""
    return sorted(_members(bytes(data), directory.count), key=lambda member: member.header_at)


def data_start(member: Member, header: Bytes) -> int | None:
    """Where the member's data begins, by its local header (30 bytes); None if it is none."""
    head = bytes(header[:LOCAL_BYTES])
    if len(head) < LOCAL_BYTES or not head.startswith(_LOCAL):
        return None
    name, extra = struct.unpack_from("<HH", head, 26)
    return member.header_at + LOCAL_BYTES + int(name) + int(extra)


def local_header(member: Member) -> ByteRange:
    """The range of the member's local header, names left out."""
    return ByteRange(member.header_at, member.header_at + LOCAL_BYTES)


def _end64(size: int, data: bytes, end: int) -> tuple[int, int, int] | None:
    at = end - _LOCATOR_BYTES
    if at < 0 or not data.startswith(_LOCATOR, at):
        return None
    record = struct.unpack_from("<Q", data, at + 8)[0] - (size - len(data))
    if not 0 <= record <= len(data) - 56 or not data.startswith(_END64, record):
        return None
    count, length, start = struct.unpack_from("<QQQ", data, record + 32)
    return count, length, start


def _members(data: bytes, count: int) -> list[Member]:
    members: list[Member] = []
    at = 0
    for _ in range(count):
        if not data.startswith(_ENTRY, at) or at + _ENTRY_BYTES > len(data):
            return []
        method, packed, unpacked = struct.unpack_from("<H8xLL", data, at + 10)
        name, extra, comment = struct.unpack_from("<HHH", data, at + 28)
        header_at = struct.unpack_from("<L", data, at + 42)[0]
        rest = data[at + _ENTRY_BYTES + name : at + _ENTRY_BYTES + name + extra]
        if _HUGE in (packed, unpacked, header_at):
            packed, header_at = _wide(rest, unpacked, packed, header_at)
        members.append(Member(header_at, packed, method == 0))
        at += _ENTRY_BYTES + name + extra + comment
    return members


def _wide(extra: bytes, unpacked: int, packed: int, header_at: int) -> tuple[int, int]:
    """Packed size and header offset with what the zip64 field says in place of 2^32-1."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1 and at + 4 + length <= len(extra):
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            if unpacked == _HUGE:
                next(wide, 0)
            if packed == _HUGE:
                packed = next(wide, packed)
            if header_at == _HUGE:
                header_at = next(wide, header_at)
            break
        at += 4 + length
    return packed, header_at
