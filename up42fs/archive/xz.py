"""The index at the end of an xz file: its blocks are ready seek points.

Theory (xz file format 1.1). A file is one stream or several. A stream is a header of 12 bytes, its
blocks, an index of their sizes, and a footer of 12 bytes that says how long the index is. So all is
found from the end: footer, index, and by their sizes the end of the stream before. A block can be
unpacked alone by a decoder that has read the header of its stream (`XzIndexReader.prefix`).

A wrong index costs bytes, never correctness: blocks have checksums of their own, and a block that
does not unpack to its size is an error of the reader.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterator
from operator import itemgetter

from up42fs.archive.points import MOST_POINTS, Point, Points
from up42fs.types import ByteRange, Bytes

HEADER_BYTES = FOOTER_BYTES = 12
_HEADER_MAGIC, _FOOTER_MAGIC = b"\xfd7zXZ\0", b"YZ"
#: What is read from the end first: the footer, and the index of about 4000 blocks.
TAIL_BYTES = 32 << 10
#: A longer index is not read: 2^20 blocks take less.
MOST_INDEX_BYTES = 16 << 20
#: Files of more streams are read without their indexes, each of which costs a request.
MOST_STREAMS = 64
_LARGEST = (1 << 63) - 1


class _UnusableError(ValueError):
    """The end of the file is not that of a sound xz file."""


class XzIndexReader:
    """Reads the indexes of all streams, from the last one to the first.

    Fetch `next_range` and `feed` its bytes until it is None. If the file has no usable index,
    `points` stays empty and `size` None.
    """

    def __init__(self, file_size: int) -> None:
        self.points = Points()
        #: Bytes of the unpacked file, once all indexes are read.
        self.size: int | None = None
        self._end = file_size
        self._tail_bytes = TAIL_BYTES
        self._ranges = 0
        #: From the last stream on: its start, its flags, the padded and full sizes of its blocks.
        self._streams: list[tuple[int, bytes, list[tuple[int, int]]]] = []
        #: Of each stream: its start, its header, and the end of its last block.
        self._headers: list[tuple[int, bytes, int]] = []
        self.next_range = self._range_before(file_size)

    def feed(self, data: Bytes) -> None:
        """Take the bytes of `next_range`."""
        if self.next_range is None or len(data) != len(self.next_range):
            raise ValueError("not the bytes of the range that is needed")
        at, self.next_range = self.next_range.start, None
        try:
            self.next_range = self._read(bytes(data), at)
        except _UnusableError:
            return
        if self.next_range is None:
            self._finish()

    def prefix(self, in_at: int) -> bytes:
        """The bytes that a decoder needs before those of the block at `in_at`."""
        found = self._stream_of(in_at)
        return found[1] if found else b""

    def feed_until(self, in_at: int) -> int | None:
        """Where the input of a decoder that began at the block at `in_at` must end.

        Behind it stands the index of all blocks, which it would find wrong.
        """
        found = self._stream_of(in_at)
        return found[2] if found else None

    def _stream_of(self, in_at: int) -> tuple[int, bytes, int] | None:
        place = bisect_right(self._headers, in_at, key=itemgetter(0)) - 1
        return self._headers[place] if place >= 0 else None

    def _range_before(self, end: int) -> ByteRange | None:
        if end % 4 or end < HEADER_BYTES + FOOTER_BYTES + 8:
            return None
        return ByteRange(max(0, end - self._tail_bytes), end)

    def _read(self, data: bytes, at: int) -> ByteRange | None:
        """Read the streams whose ends are in `data`; return the range that is needed next."""
        while self._end > 0:
            end = self._end - at
            if end < 4:
                return self._needed(self._end)
            if data[end - 4 : end] == bytes(4):
                self._end -= 4  # padding behind streams comes in fours
                continue
            if end < FOOTER_BYTES:
                return self._needed(self._end)
            index_bytes, flags = _parse_footer(data[end - FOOTER_BYTES : end])
            start = end - FOOTER_BYTES - index_bytes
            if start < 0:
                self._tail_bytes = index_bytes + FOOTER_BYTES
                return self._needed(self._end)
            blocks = list(_parse_index(data[start : end - FOOTER_BYTES]))
            packed = sum(padded for padded, _ in blocks)
            begin = at + start - packed - HEADER_BYTES
            if begin < 0 or len(self._streams) >= MOST_STREAMS:
                raise _UnusableError
            self._streams.append((begin, flags, blocks))
            self._end = begin
            self._tail_bytes = TAIL_BYTES
        return None

    def _needed(self, end: int) -> ByteRange:
        found = self._range_before(end)
        self._ranges += 1
        if found is None or self._ranges > 2 * MOST_STREAMS:
            raise _UnusableError
        return found

    def _finish(self) -> None:
        if sum(len(blocks) for _, _, blocks in self._streams) > MOST_POINTS:
            return
        out_at = 0
        for begin, flags, blocks in reversed(self._streams):
            in_at = begin + HEADER_BYTES
            for padded, full in blocks:
                if out_at:
                    self.points.add(Point(out_at, in_at))
                in_at, out_at = in_at + padded, out_at + full
            self._headers.append((begin, _HEADER_MAGIC + flags + _crc(flags), in_at))
        if out_at <= _LARGEST:
            self.size = out_at


def _parse_footer(footer: bytes) -> tuple[int, bytes]:
    """Bytes of the index, and the stream's flags."""
    flags = footer[8:10]
    if (
        footer[10:] != _FOOTER_MAGIC
        or footer[:4] != _crc(footer[4:10])
        or flags[0]
        or flags[1] > 15
    ):
        raise _UnusableError
    index_bytes = (int.from_bytes(footer[4:8], "little") + 1) * 4
    if index_bytes > MOST_INDEX_BYTES:
        raise _UnusableError
    return index_bytes, flags


def _parse_index(index: bytes) -> Iterator[tuple[int, int]]:
    """The padded and the unpacked size of each block."""
    if index[0] != 0 or index[-4:] != _crc(index[:-4]):
        raise _UnusableError
    count, at = _varint(index, 1)
    if count > len(index):
        raise _UnusableError
    for _ in range(count):
        unpadded, at = _varint(index, at)
        full, at = _varint(index, at)
        if not unpadded:
            raise _UnusableError
        yield -(-unpadded // 4) * 4, full
    if any(index[at:-4]) or len(index) - 4 - at > 3:
        raise _UnusableError


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 63, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise _UnusableError


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")
