"""Seek points that a file brings along: SOZip's index behind a member, zstd's behind its frames.

Knows where such indexes lie; `up42fs.archive` parses them. Between two ready points lies a segment
that any fresh engine inflates. So members that have them need no run: each read inflates its own
segments, and they are passed on if they take exactly the packed bytes and make exactly the bytes
that the index says. A wrong index costs bytes: the member is inflated from its front then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from up42fs.archive import sozip, xz, zstd_frames
from up42fs.archive.member import Member, MemberKind
from up42fs.archive.points import Points
from up42fs.archive.table import Method
from up42fs.readahead.placed import LOCAL_BYTES
from up42fs.store.members.extent import Extent
from up42fs.store.members.inflate.engines import FEED_BYTES, DamagedStreamError
from up42fs.store.members.inflate.inflater import engine_of
from up42fs.types import ByteRange, Bytes

#: Looking costs a request, so it is not done for a way shorter than this, bytes of output.
FROM_BYTES = 4 << 20
#: Segments that are inflated at once, and the longest that is used, bytes of output.
_TOGETHER_BYTES = 1 << 20
_MOST_SEGMENT_BYTES = 8 << 20
#: The bytes behind a member that are read at once: SOZip's index of 260 MB, mostly.
_BEHIND_BYTES = 64 << 10
#: Names and extra fields of a local header, and a data descriptor, take no more, mostly.
_USUAL_BYTES = 1 << 10
#: Ranges that an index may take.
_MOST_RANGES = 16

Read = Callable[[ByteRange], Awaitable[Bytes]]


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes `out` of a member, made of the bytes `packed` of its archive behind `prefix`."""

    out: ByteRange
    packed: ByteRange
    prefix: bytes = b""


@dataclass(frozen=True, slots=True)
class Start:
    """A point at which a run may begin; behind `prefix` its packed bytes up to `in_stop` are one.

    They become output up to `out_stop`. Offsets of packed bytes are the archive's.
    """

    out_at: int
    in_at: int
    out_stop: int
    in_stop: int
    prefix: bytes


class Ready:
    """The ready points of a member of `size` bytes, whose packed bytes are `packed`."""

    def __init__(
        self,
        points: Points,
        packed: ByteRange,
        size: int,
        prefix: Callable[[int], bytes] = lambda _: b"",
        feed_until: Callable[[int], int | None] = lambda _: None,
        *,
        is_run_through: bool = False,
    ) -> None:
        """`is_run_through`: a fresh engine may go on from a point, and notices what is wrong."""
        self.size = size
        self._is_run_through = is_run_through
        self._points = points
        self._packed = packed
        self._prefix = prefix
        self._feed_until = feed_until

    def segment(self, at: int, stop: int) -> Segment | None:
        """The segments that hold the bytes from `at` on; None if they are too long."""
        points, data_at = self._points, self._packed.start
        first = points.before(at)
        out_at, in_at = (first.out_at, first.in_at) if first is not None else (0, 0)
        until = self._feed_until(in_at)
        wanted = min(stop, out_at + _TOGETHER_BYTES)
        last = points.after(max(at, wanted - 1))
        length = (last.out_at if last is not None else self.size) - out_at
        if until is not None or length > _MOST_SEGMENT_BYTES:
            last = points.after(at)
        out_stop = last.out_at if last is not None else self.size
        in_stop = last.in_at if last is not None else len(self._packed)
        if not out_at < out_stop <= out_at + _MOST_SEGMENT_BYTES or in_at >= in_stop:
            return None
        return Segment(
            ByteRange(out_at, out_stop),
            ByteRange(data_at + in_at, data_at + in_stop),
            self._prefix(in_at),
        )

    def packed(self, out: ByteRange) -> ByteRange:
        """The bytes of the archive that hold output."""
        first, last = self._points.before(out.start), self._points.after(out.stop - 1)
        return ByteRange(
            self._packed.start + (first.in_at if first is not None else 0),
            self._packed.start + (last.in_at if last is not None else len(self._packed)),
        )

    def start(self, at: int) -> Start | None:
        """The last point at which a run to offset `at` may begin, if segments are too long."""
        point = self._points.before(at)
        if point is None or not self._is_run_through:
            return None
        until = self._feed_until(point.in_at)
        data_at, length = self._packed.start, len(self._packed) if until is None else until
        after = self._points.reaching(length)
        return Start(
            point.out_at,
            data_at + point.in_at,
            self.size if after is None else after.out_at,
            data_at + length,
            self._prefix(point.in_at),
        )


def inflated(method: Method, segment: Segment, packed: Bytes, into: memoryview) -> None:
    """Inflate a segment into memory that is one byte longer; raises DamagedStreamError."""
    engine = engine_of(method, None, makes_points=False)
    made = 0
    try:
        for text in (memoryview(segment.prefix), memoryview(packed)):
            used = 0
            while used < len(text) or made < len(into):
                taken, more = engine.inflate(text[used : used + FEED_BYTES], into[made:])
                used, made = used + taken, made + more
                if not taken and not more:
                    break
            if used < len(text) and not engine.is_over:
                break
    finally:
        engine.close()
    if made != len(segment.out):
        raise DamagedStreamError("its index leads to other bytes")


def may_have(extent: Extent) -> bool:
    """Whether a file of its method may bring points along."""
    return extent.method in (Method.XZ, Method.ZSTD) or (
        extent.method is Method.DEFLATED and _gap_bytes(extent) > 0
    )


def is_likely(extent: Extent) -> bool:
    """Whether more follows a member than its names and extra fields explain: look there first."""
    return extent.method is not Method.DEFLATED or _gap_bytes(extent) > _USUAL_BYTES


def _gap_bytes(extent: Extent) -> int:
    """The most bytes that stand in a zip between a member and the next one, beside its header."""
    if extent.room is None:
        return _USUAL_BYTES + 1
    data_at = extent.header_at + LOCAL_BYTES if extent.data_at is None else extent.data_at
    return extent.room - data_at - extent.packed_size


async def find(
    extent: Extent, size: int | None, data_at: int, archive_size: int, read: Read
) -> Ready | None:
    """The points of a member whose packed bytes begin at `data_at`; None if it has none.

    `read` returns bytes of the archive.
    """
    packed = ByteRange(data_at, data_at + extent.packed_size)
    if extent.method is Method.DEFLATED and size is not None:
        points = await _of_sozip(extent, size, data_at, archive_size, read)
        return Ready(points, packed, size) if len(points) else None
    if extent.method not in (Method.XZ, Method.ZSTD):
        return None
    reader: xz.XzIndexReader | zstd_frames.SeekTableReader
    make = xz.XzIndexReader if extent.method is Method.XZ else zstd_frames.SeekTableReader
    reader = make(extent.packed_size)
    for _ in range(_MOST_RANGES):
        span = reader.next_range
        if span is None:
            break
        reader.feed(await read(ByteRange(data_at + span.start, data_at + span.stop)))
    if not len(reader.points) or reader.size is None or reader.next_range is not None:
        return None
    return Ready(
        reader.points, packed, reader.size, reader.prefix, reader.feed_until, is_run_through=True
    )


async def _of_sozip(
    extent: Extent, size: int, data_at: int, archive_size: int, read: Read
) -> Points:
    member = Member(
        0, "", MemberKind.FILE, extent.header_at, data_at, extent.packed_size, size,
        extent.method, extent.crc32, 0, None,
    )  # fmt: skip
    room = archive_size if extent.room is None else min(extent.room, archive_size)
    if sozip.may_have_index(member, data_at, room) is None:
        return Points()
    end = data_at + extent.packed_size
    head = await read(ByteRange(end, min(end + _BEHIND_BYTES, room)))
    index = sozip.find_index(member, head, end, room)
    if index is None:
        return Points()
    if index.span.stop <= end + len(head):
        data: Bytes = head[index.span.start - end : index.span.stop - end]
    else:
        data = await read(index.span)
    return sozip.points_of(index, member, data)
