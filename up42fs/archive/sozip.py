"""SOZip: the hidden index of a deflated member whose chunks were flushed when it was written.

Theory (specification 0.5). The deflate stream is flushed after each chunk, so that inflating can
start there without a window. A stored file `.NAME.sozip.idx` follows the member's data directly; it
has a local header, but no entry in the directory, so only the gap before the next member can hold
it. The index is a hint by somebody else: sizes must match the directory, offsets must grow and stay
inside; a wrong one then fails when its chunk does not inflate to its size, and never yields bytes
of another place unnoticed, since the member's CRC is checked as for any other.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass

from up42fs.archive.points import MOST_POINTS, Point, Points
from up42fs.archive.table import Member, Method
from up42fs.types import ByteRange, Bytes

#: Bytes from the end of a member's data on that show whether an index follows: a data descriptor,
#: a local header with the longest name that a member may have, and the index's own header.
HEAD_BYTES = 24 + 30 + 512 + 32
#: A longer index is not read; GDAL's has 8 bytes for 32 KiB, so this one serves 16 GiB.
MOST_INDEX_BYTES = 4 << 20
_LOCAL = struct.Struct("<4s5H3L2H")
_MAGIC = b"PK\x03\x04"
#: Bytes of a data descriptor: none, or with and without a signature, narrow and wide.
_DESCRIPTORS = (0, 12, 16, 20, 24)
_PREFIX, _SUFFIX = b".", b".sozip.idx"
_HEAD = struct.Struct("<4L2Q")
_VERSION = 1
_OFFSET_BYTES = {4: "<{}L", 8: "<{}Q"}


@dataclass(frozen=True, slots=True)
class SozipIndex:
    """Where the index of a member lies, and the size of its chunks."""

    span: ByteRange
    chunk_bytes: int


def may_have_index(member: Member, data_at: int, room: int | None) -> ByteRange | None:
    """The range that shows whether an index follows the member; None if there cannot be one.

    `room` is `Table.room_of(member)`: directly adjoining members have no index between them.
    """
    end = data_at + member.packed_size
    if member.method is not Method.DEFLATED or room is None:
        return None
    if room - end < _LOCAL.size + len(_PREFIX + _SUFFIX) + _HEAD.size:
        return None
    return ByteRange(end, min(end + HEAD_BYTES, room))


def find_index(member: Member, head: Bytes, head_at: int, room: int) -> SozipIndex | None:
    """The index by the bytes of `may_have_index`; None if none follows, or if it is not usable."""
    data = bytes(head)
    for skipped in _DESCRIPTORS:
        if data.startswith(_MAGIC, skipped) and len(data) >= skipped + _LOCAL.size:
            return _index(member, data, skipped, head_at, room)
    return None


def points_of(index: SozipIndex, member: Member, data: Bytes) -> Points:
    """The points of an index whose bytes (`index.span`) are `data`; none if it is malformed."""
    found = _Header.of(bytes(data), member)
    if found is None or len(data) < len(index.span):
        return Points()
    code = _OFFSET_BYTES[found.offset_bytes].format(found.offsets)
    offsets = struct.unpack_from(code, data, _HEAD.size + found.skipped_bytes)
    points = Points()
    # A chunk has some bytes at least: its flush marks have nine.
    if any(before >= after for before, after in itertools.pairwise((0, *offsets))):
        return points
    if offsets and offsets[-1] >= member.packed_size:
        return points
    for number, in_at in enumerate(offsets, 1):
        points.add(Point(number * found.chunk_bytes, in_at))
    return points


@dataclass(frozen=True, slots=True)
class _Header:
    skipped_bytes: int
    chunk_bytes: int
    offset_bytes: int
    offsets: int

    @property
    def index_bytes(self) -> int:
        return _HEAD.size + self.skipped_bytes + self.offset_bytes * self.offsets

    @classmethod
    def of(cls, data: bytes, member: Member, at: int = 0) -> _Header | None:
        """The header of an index at `at` in `data`, if it is one for this member."""
        if len(data) < at + _HEAD.size:
            return None
        version, skipped, chunk, offset_bytes, size, packed = _HEAD.unpack_from(data, at)
        if version != _VERSION or offset_bytes not in _OFFSET_BYTES or not chunk:
            return None
        if (size, packed) != (member.size, member.packed_size):
            return None
        found = cls(skipped, chunk, offset_bytes, max(-(-size // chunk) - 1, 0))
        is_usable = 0 < found.offsets <= MOST_POINTS and found.index_bytes <= MOST_INDEX_BYTES
        return found if is_usable else None


def _index(member: Member, data: bytes, at: int, head_at: int, room: int) -> SozipIndex | None:
    _, _, _, method, _, _, _, _, size, name_bytes, extra_bytes = _LOCAL.unpack_from(data, at)
    name_at = at + _LOCAL.size
    name = data[name_at : name_at + name_bytes].rpartition(b"/")[2]
    if method or not (name.startswith(_PREFIX) and name.endswith(_SUFFIX)):
        return None
    start = name_at + name_bytes + extra_bytes
    header = _Header.of(data, member, start)
    # The size in the local header is zero if it was streamed.
    if header is None or size not in (0, header.index_bytes):
        return None
    if head_at + start + header.index_bytes > room:
        return None
    span = ByteRange(head_at + start, head_at + start + header.index_bytes)
    return SozipIndex(span, header.chunk_bytes)
