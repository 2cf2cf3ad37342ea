"""Members of a zip archive as hints for reading it: where they lie and whether they are stored.

`archive.zip` finds and reads the directory; this module keeps of it what a read plan needs, within
the file's `ParseBudget`. Hostile input yields fewer members, never an exception.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from up42fs.archive import zip as archives
from up42fs.archive.member import ArchiveError, TooLargeError
from up42fs.archive.zip import LOCAL_BYTES, TAIL_BYTES, Directory
from up42fs.readahead.parse_budget import OverBudgetError, ParseBudget
from up42fs.types import ByteRange, Bytes

__all__ = [
    "LOCAL_BYTES",
    "TAIL_BYTES",
    "Directory",
    "Members",
    "ZipMember",
    "data_start",
    "find_directory",
    "local_header",
    "parse_directory",
]

_LOCAL = b"PK\x03\x04"
#: Cost of a member: steps of the budget, and memory in bytes.
_MEMBER_STEPS = 16
_MEMBER_BYTES = 17
#: Offsets and sizes fit into 64 bits; larger ones are damage.
_LARGEST = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A member by its local header's offset; `size` of its stored data, bytes."""

    header_at: int
    size: int
    is_stored: bool


class Members:
    """The members of an archive by number, in the order of their local headers."""

    def __init__(self, members: list[tuple[int, int, bool]], largest: ZipMember | None) -> None:
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

    def __getitem__(self, number: int) -> ZipMember:
        return ZipMember(
            self._headers_at[number], self._sizes[number], bool(self._are_stored[number])
        )

    def __len__(self) -> int:
        return len(self._headers_at)

    def __iter__(self) -> Iterator[ZipMember]:
        return map(self.__getitem__, range(len(self)))


def find_directory(size: int, tail: Bytes) -> Directory | None:
    """Find the directory of an archive of `size` bytes that ends with `tail`; None if not a zip."""
    try:
        found = archives.find_directory(size, tail)
    except ArchiveError:
        return None
    return found if found.span is not None else None


def parse_directory(
    directory: Directory, data: Bytes, budget: ParseBudget | None = None
) -> Members:
    """Parse the members from `data`, the directory's bytes; empty if it is malformed.

    Members beyond the budget are left out.
    """
    found: list[tuple[int, int, bool]] = []
    try:
        # `extend` keeps the members that were parsed before the budget ran out.
        found.extend(_members(bytes(data), directory.shift, budget or ParseBudget()))
    except (OverBudgetError, TooLargeError):
        pass
    except ArchiveError:
        found.clear()
    largest = max(found, key=itemgetter(1), default=None)
    return Members(found, ZipMember(*largest) if largest else None)


def data_start(member: ZipMember, header: Bytes) -> int | None:
    """Offset of the member's data by its local header (30 bytes); None if that is invalid."""
    head = bytes(header[:LOCAL_BYTES])
    if len(head) < LOCAL_BYTES or not head.startswith(_LOCAL):
        return None
    name, extra = struct.unpack_from("<HH", head, 26)
    return member.header_at + LOCAL_BYTES + int(name) + int(extra)


def local_header(member: ZipMember) -> ByteRange:
    """The range of the member's local header, without names."""
    return ByteRange(member.header_at, member.header_at + LOCAL_BYTES)


def _members(data: bytes, shift: int, budget: ParseBudget) -> Iterator[tuple[int, int, bool]]:
    for entry in archives.entries(data, shift):
        budget.spend(_MEMBER_STEPS, _MEMBER_BYTES)
        if 0 <= entry.header_at <= _LARGEST:
            yield entry.header_at, entry.packed_size, entry.method == 0
