"""Frames of zstd files: those that a seek table names, and those that pass by.

Theory. A file is frames one after the other; each can be unpacked alone. The seekable format
(`zstd_seekable_compression_format.md` in zstd's sources; t2sz and others write it) adds a table of
the frames' sizes at the file's end, in a frame that decoders skip. Without it, frames are found
only by walking them: their blocks have sizes, but no frame says its own.

A wrong table costs bytes, never correctness: a frame begins with a magic number, and one that does
not unpack to its size is an error of the reader.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from up42fs.archive.points import MOST_POINTS, Point, Points
from up42fs.types import ByteRange, Bytes

_MAGIC = 0xFD2FB528
_SKIPPABLE = 0x184D2A50  # to 0x184D2A5F
_TABLE_MAGIC, _FOOTER_MAGIC = 0x184D2A5E, 0x8F92EAB1
_FOOTER = struct.Struct("<LBL")
_HEAD = struct.Struct("<LL")
#: What is read from the end first: a table of about 4000 frames.
TAIL_BYTES = 32 << 10
_HAS_CHECKSUMS, _RESERVED = 0x80, 0x7C
#: The longest header of a frame.
_MOST_HEADER_BYTES = 18


class IndexReader:
    """Reads the seek table of the seekable format.

    Fetch `next_range` and `feed` its bytes until it is None. If the file has no usable table,
    `points` stays empty and `size` None.
    """

    def __init__(self, file_size: int) -> None:
        self.points = Points()
        #: Bytes of the unpacked file, if a table says so.
        self.size: int | None = None
        self._file_size = file_size
        self.next_range: ByteRange | None = None
        if file_size > _FOOTER.size + _HEAD.size:
            self.next_range = ByteRange(max(0, file_size - TAIL_BYTES), file_size)

    def feed(self, data: Bytes) -> None:
        """Take the bytes of `next_range`."""
        if self.next_range is None or len(data) != len(self.next_range):
            raise ValueError("not the bytes of the range that is needed")
        self.next_range = None
        tail = bytes(data)
        count, descriptor, magic = _FOOTER.unpack_from(tail, len(tail) - _FOOTER.size)
        if magic != _FOOTER_MAGIC or descriptor & _RESERVED or not 0 < count <= MOST_POINTS:
            return
        row = struct.Struct("<LLL" if descriptor & _HAS_CHECKSUMS else "<LL")
        whole = _HEAD.size + count * row.size + _FOOTER.size
        if whole > self._file_size:
            return
        if whole > len(tail):
            self.next_range = ByteRange(self._file_size - whole, self._file_size)
            return
        table = tail[len(tail) - whole :]
        if _HEAD.unpack_from(table) == (_TABLE_MAGIC, whole - _HEAD.size):
            self._read(row, table[_HEAD.size : -_FOOTER.size], self._file_size - whole)

    def prefix(self, in_at: int) -> bytes:  # noqa: ARG002 (as xz has it)
        """Nothing: a frame needs no bytes before it."""
        return b""

    def feed_until(self, in_at: int) -> int | None:  # noqa: ARG002
        """Nothing: a decoder that began at a frame may be fed all that follows."""
        return None

    def _read(self, row: struct.Struct, table: bytes, packed_size: int) -> None:
        in_at = out_at = 0
        points = Points()
        for packed, full, *_ in row.iter_unpack(table):
            if out_at and full:
                points.add(Point(out_at, in_at, 0, b"", None))
            in_at, out_at = in_at + packed, out_at + full
        if in_at == packed_size:
            self.points, self.size = points, out_at


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The header of a frame. `content_size` is None if it does not say how much it unpacks to."""

    header_bytes: int
    content_size: int | None
    #: Memory that unpacking needs for earlier output, bytes.
    window_bytes: int
    has_checksum: bool


def parse_frame_header(data: Bytes) -> FrameHeader | None:
    """The header of a frame that begins with `data`; None if it is none, or not whole.

    Skippable frames have none.
    """
    head = bytes(data[:_MOST_HEADER_BYTES])
    if len(head) < 6 or int.from_bytes(head[:4], "little") != _MAGIC:
        return None
    flags, at = head[4], 5
    is_single = bool(flags & 0x20)
    window = 0
    if not is_single:
        exponent, mantissa = divmod(head[at], 8)
        window = (1 << (10 + exponent)) + ((1 << (10 + exponent)) >> 3) * mantissa
        at += 1
    at += (0, 1, 2, 4)[flags & 3]  # the dictionary's ID
    size_bytes = (1 if is_single else 0, 2, 4, 8)[flags >> 6]
    if flags & 0x08 or len(head) < at + size_bytes:
        return None
    size = int.from_bytes(head[at : at + size_bytes], "little") if size_bytes else None
    if size is not None and size_bytes == 2:
        size += 256
    if is_single:
        window = size or 0
    return FrameHeader(at + size_bytes, size, window, bool(flags & 0x04))


class Walker:
    """Finds the frames of a file from its front, by the bytes as they pass by.

    `points` are those frames whose place in the output is known: all before say their sizes.
    """

    def __init__(self) -> None:
        self.points = Points()
        #: Whether the bytes are no zstd, or a frame does not say its size.
        self.is_over = False
        self._at = 0  # of the next header in the file
        self._out_at = 0
        self._fed = 0
        self._held = b""
        self._frame: FrameHeader | None = None

    def feed(self, data: Bytes) -> None:
        """Take the next bytes of the file."""
        start = self._fed - len(self._held)
        text = self._held + bytes(data)
        self._fed += len(data)
        while not self.is_over:
            rest = text[self._at - start : self._at - start + _MOST_HEADER_BYTES]
            if self._at >= self._fed or not self._step(rest):
                break
        self._held = text[max(0, self._at - start) :]

    def _step(self, rest: bytes) -> bool:
        """Go on behind one header; False if it is not whole yet."""
        return self._block(rest) if self._frame is not None else self._begin(rest)

    def _begin(self, rest: bytes) -> bool:
        if len(rest) < 8:
            return False
        magic, length = _HEAD.unpack_from(rest)
        if magic & 0xFFFFFFF0 == _SKIPPABLE:
            self._at += 8 + length
            return True
        header = parse_frame_header(rest)
        if header is None and magic == _MAGIC and len(rest) < _MOST_HEADER_BYTES:
            return False
        if header is None or header.content_size is None:
            self.is_over = True
            return False
        if self._out_at and not self.points.add(Point(self._out_at, self._at, 0, b"", None)):
            self.is_over = True
            return False
        self._frame = header
        self._at += header.header_bytes
        return True

    def _block(self, rest: bytes) -> bool:
        frame = self._frame
        if len(rest) < 3 or frame is None:
            return False
        head = int.from_bytes(rest[:3], "little")
        is_last, kind, size = head & 1, head >> 1 & 3, head >> 3
        if kind == 3 or size > 1 << 17:
            self.is_over = True
            return False
        self._at += 3 + (1 if kind == 1 else size)  # 1: one byte, repeated
        if is_last:
            self._at += 4 if frame.has_checksum else 0
            self._out_at += frame.content_size or 0
            self._frame = None
        return True
