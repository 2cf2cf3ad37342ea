"""Members of gzip files, each of which can be unpacked alone; BGZF, whose headers say how long.

Theory. gzip files may be one after the other; each member resets the window, so its start is a seek
point that needs none. BGZF (the SAM/BAM specification; `bgzip` writes it) makes members of at most
64 KiB and writes the packed size of each into its header, and gzip writes the full size
behind it. So points are found from headers and trailers, without unpacking. Plain gzip does not say
where a member ends; unpacking it shows that.
"""

from __future__ import annotations

from dataclasses import dataclass

from up42fs.archive.points import Point, Points
from up42fs.types import Bytes

TRAILER_BYTES = 8
_FIXED_BYTES = 10
_MAGIC = b"\x1f\x8b\x08"
_EXTRA, _NAME, _COMMENT, _HEADER_CRC, _RESERVED = 4, 8, 16, 2, 0xE0
#: A header may hold a name and a comment of any length; more than this is none of ours.
MOST_HEADER_BYTES = 128 << 10
#: Header fields, deflate's empty block, and trailer.
_LEAST_BLOCK = 28
#: Output between two points; a BGZF block alone would be too little to keep a point for.
_SPAN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class GzipHeader:
    """The header of a gzip member; `block_bytes` is the whole member's size if BGZF says so."""

    header_bytes: int
    block_bytes: int | None


class NotGzipError(ValueError):
    """The bytes begin no gzip member."""


def parse_header(data: Bytes) -> GzipHeader | None:
    """The header that `data` begins with; None if it is not whole; raises NotGzipError."""
    head = bytes(data[:MOST_HEADER_BYTES])
    if not head.startswith(_MAGIC[: len(head)]) or (len(head) > 3 and head[3] & _RESERVED):
        raise NotGzipError
    end = _header_end(head)
    if end is None or end > len(head):
        if len(head) >= MOST_HEADER_BYTES:
            raise NotGzipError
        return None
    return GzipHeader(end, _block_bytes(head) if head[3] & _EXTRA else None)


def parse_trailer(data: Bytes) -> tuple[int, int]:
    """CRC-32 and size modulo 2^32 of a member, from the 8 bytes behind its deflate stream."""
    trailer = bytes(data[:TRAILER_BYTES])
    return int.from_bytes(trailer[:4], "little"), int.from_bytes(trailer[4:], "little")


def _header_end(head: bytes) -> int | None:
    if len(head) < _FIXED_BYTES:
        return None
    flags, at = head[3], _FIXED_BYTES
    if flags & _EXTRA:
        if len(head) < at + 2:
            return None
        at += 2 + int.from_bytes(head[at : at + 2], "little")
    for flag in (_NAME, _COMMENT):
        if flags & flag:
            end = head.find(0, at)
            if end < 0:
                return None
            at = end + 1
    return at + (2 if flags & _HEADER_CRC else 0)


def _block_bytes(head: bytes) -> int | None:
    at = _FIXED_BYTES + 2
    end = at + int.from_bytes(head[_FIXED_BYTES:at], "little")
    while at + 4 <= end:
        length = int.from_bytes(head[at + 2 : at + 4], "little")
        if head[at : at + 2] == b"BC" and length == 2 and at + 6 <= end:
            size = int.from_bytes(head[at + 4 : at + 6], "little") + 1
            return size if size >= _LEAST_BLOCK else None
        at += 4 + length
    return None


class Walker:
    """Finds the members of a BGZF file from its front, by the bytes as they pass by.

    `points` are about 1 MiB of output apart. `is_over`: what comes is not BGZF, or the points are
    too many.
    """

    def __init__(self) -> None:
        self.points = Points()
        self.is_over = False
        #: Output that all members so far unpack to.
        self.out_at = 0
        self._held = bytearray()
        self._held_at = 0
        self._next_point = _SPAN_BYTES

    def feed(self, data: Bytes) -> None:
        """Take the next bytes of the file."""
        if self.is_over:
            return
        self._held += data
        used = 0
        while not self.is_over and (taken := self._take(used)):
            used += taken
        del self._held[:used]
        self._held_at += used

    def _take(self, at: int) -> int:
        """Take the member at `at`; return its bytes, 0 if it is not whole yet."""
        rest = memoryview(self._held)[at:]
        with rest:
            try:
                header = parse_header(rest[:_LEAST_BLOCK]) or parse_header(rest)
            except NotGzipError:
                self.is_over = len(rest) > 0
                return 0
            if header is None:
                return 0
            size = header.block_bytes
            if size is None or size < header.header_bytes + TRAILER_BYTES:
                self.is_over = True
                return 0
            if len(rest) < size:
                return 0
            full = parse_trailer(rest[size - TRAILER_BYTES : size])[1]
        if full > 1 << 16:
            self.is_over = True  # the format allows 64 KiB
            return 0
        if self.out_at >= self._next_point and full:
            point = Point(self.out_at, self._held_at + at, 0, b"", None)
            self.is_over = not self.points.add(point)
            self._next_point = self.out_at + _SPAN_BYTES
        self.out_at += full
        return size
