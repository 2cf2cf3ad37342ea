"""Locates the members of a zip archive from its last bytes.

Reads zip and zip64. A stored member's data is a range of the archive; a deflated one's can only be
used from its beginning. Hostile input yields fewer members, never an exception, and costs no more
than its `ParseBudget`.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from up42fs.readahead.parse_budget import MalformedError, OverBudgetError, ParseBudget
from up42fs.types import ByteRange, Bytes

#: Size of the end record with the longest comment after it.
TAIL_BYTES = 22 + 20 + (1 << 16)
_END = b"PK\x05\x06"
_END64 = b"PK\x06\x06"
_LOCATOR = b"PK\x06\x07"
_ENTRY = b"PK\x01\x02"
_LOCAL = b"PK\x03\x04"
_END_BYTES, _LOCATOR_BYTES, _ENTRY_BYTES, LOCAL_BYTES = 22, 20, 46, 30
_MOST_MEMBERS = 1 << 16
#: A longer directory is not parsed: 65536 members whose names and extras have 450 bytes each.
MOST_DIRECTORY_BYTES = 32 << 20
_HUGE = 0xFFFFFFFF
#: Extra fields of a member that are examined; the needed one usually comes first.
_MOST_EXTRAS = 16
#: Cost of a member: steps of the budget, and memory in bytes.
_MEMBER_STEPS = 16
_MEMBER_BYTES = 17


@dataclass(frozen=True, slots=True)
class Member:
    """A member by its local header's offset; `size` of its stored data, bytes."""

    header_at: int
    size: int
    is_stored: bool


class Members:
    """The members of an archive by number, in the order of their local headers."""

    def __init__(self, members: list[tuple[int, int, bool]], largest: Member | None) -> None:
        members.sort()
        self._headers_at = array("Q", [header_at for header_at, _, _ in members])
        self._sizes = array("Q", [size for _, size, _ in members])
        self._are_stored = bytes(is_stored for _, _, is_stored in members)
        self.largest = largest

    @property
    def held_bytes(self) -> int:
        """Memory that they take, in bytes."""
        return _MEMBER_BYTES * len(self._headers_at)

    def at(self, offset: int) -> int | None:
        """The number of the member whose local header is the last one up to `offset`."""
        place = bisect_right(self._headers_at, offset) - 1
        return place if place >= 0 else None

    def __getitem__(self, number: int) -> Member:
        return Member(self._headers_at[number], self._sizes[number], bool(self._are_stored[number]))

    def __len__(self) -> int:
        return len(self._headers_at)

    def __iter__(self) -> Iterator[Member]:
        return map(self.__getitem__, range(len(self)))


@dataclass(frozen=True, slots=True)
class Directory:
    """The central directory: its number of members, and its range."""

    count: int
    span: ByteRange


def find_directory(size: int, tail: Bytes) -> Directory | None:
    """Find the directory of an archive of `size` bytes that ends with `tail`; None if not a zip."""
    data = bytes(tail)
    end = data.rfind(_END)
    if end < 0 or len(data) - end < _END_BYTES:
        return None
    count, length, start = _end64(size, data, end) or struct.unpack_from("<HLL", data, end + 10)
    if not 0 < count <= _MOST_MEMBERS or not length or start + length > size:
        return None
    if length > MOST_DIRECTORY_BYTES or length < count * _ENTRY_BYTES:
        return None
    return Directory(count, ByteRange(start, start + length))


def parse_directory(
    directory: Directory, data: Bytes, budget: ParseBudget | None = None
) -> Members:
    """Parse the members from `data`, the directory's bytes; empty if it is malformed.

    Members beyond the budget are left out.
    """
    found: list[tuple[int, int, bool]] = []
    try:
        # `extend` keeps the members that were parsed before the budget ran out.
        found.extend(_members(bytes(data), directory.count, budget or ParseBudget()))
    except OverBudgetError:
        pass
    except MalformedError:
        found.clear()
    largest = max(found, key=itemgetter(1), default=None)
    return Members(found, Member(*largest) if largest else None)


def data_start(member: Member, header: Bytes) -> int | None:
    """Offset of the member's data by its local header (30 bytes); None if that is invalid."""
    head = bytes(header[:LOCAL_BYTES])
    if len(head) < LOCAL_BYTES or not head.startswith(_LOCAL):
        return None
    name, extra = struct.unpack_from("<HH", head, 26)
    return member.header_at + LOCAL_BYTES + int(name) + int(extra)


def local_header(member: Member) -> ByteRange:
    """The range of the member's local header, without names."""
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


def _members(data: bytes, count: int, budget: ParseBudget) -> Iterator[tuple[int, int, bool]]:
    at = 0
    for _ in range(count):
        budget.spend(_MEMBER_STEPS, _MEMBER_BYTES)
        if not data.startswith(_ENTRY, at) or at + _ENTRY_BYTES > len(data):
            raise MalformedError
        method, packed, unpacked = struct.unpack_from("<H8xLL", data, at + 10)
        name, extra, comment = struct.unpack_from("<HHH", data, at + 28)
        header_at = struct.unpack_from("<L", data, at + 42)[0]
        rest = data[at + _ENTRY_BYTES + name : at + _ENTRY_BYTES + name + extra]
        if _HUGE in (packed, unpacked, header_at):
            budget.spend(_MEMBER_STEPS)
            packed, header_at = _wide(rest, unpacked, packed, header_at)
        yield header_at, packed, method == 0
        at += _ENTRY_BYTES + name + extra + comment


def _wide(extra: bytes, unpacked: int, packed: int, header_at: int) -> tuple[int, int]:
    """Packed size and header offset, with the zip64 field's values in place of 2^32-1."""
    at = 0
    for _ in range(_MOST_EXTRAS):
        if at + 4 > len(extra):
            break
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
