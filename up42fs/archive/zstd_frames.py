"""Frames of zstd files that a seek table names: each is a ready seek point.

Theory. A file is frames one after the other; each can be unpacked alone. The seekable format
(`zstd_seekable_compression_format.md` in zstd's sources; t2sz and others write it) adds a table of
the frames' sizes at the file's end, in a frame that decoders skip. Without it, no frame says where
it ends, so there is nothing to be ready.

A wrong table costs bytes, never correctness: a frame begins with a magic number, and one that does
not unpack to its size is an error of the reader.
"""

from __future__ import annotations

import struct

from up42fs.archive.points import MOST_POINTS, Point, Points
from up42fs.types import ByteRange, Bytes

_TABLE_MAGIC, _FOOTER_MAGIC = 0x184D2A5E, 0x8F92EAB1
_FOOTER = struct.Struct("<LBL")
_HEAD = struct.Struct("<LL")
#: What is read from the end first: a table of about 4000 frames.
TAIL_BYTES = 32 << 10
_HAS_CHECKSUMS, _RESERVED = 0x80, 0x7C


class SeekTableReader:
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
                points.add(Point(out_at, in_at))
            in_at, out_at = in_at + packed, out_at + full
        if in_at == packed_size:
            self.points, self.size = points, out_at
