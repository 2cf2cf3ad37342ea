"""Seek points of a packed stream: places where inflating may start.

Theory. A deflate stream can be resumed at the border of a block if one knows the bit there and the
last 32 KiB of output, the window. A first pass makes such points (`span_bytes` apart) with the
CRC-32 of the output between each and the one before, so that a later read from a point can be
checked. Some files bring points along (`sozip`, BGZF, xz, zstd): these need no window and have no
CRC.

Windows are kept packed: pixels hardly pack, but the zeros of empty tiles do.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

WINDOW_BYTES = 1 << 15
#: Output between two points, and the size up to which it stays at its least.
_LEAST_SPAN, _MOST_SPAN, _SPANS = 2 << 20, 8 << 20, 512
#: Points of one stream. Ready ones are as dense as the file wants; 2^20 take 25 MB.
MOST_POINTS = 1 << 20
_MAGIC = b"u42p\x01"
#: Output and input offset, bits, CRC, length of the packed window; then a CRC-32 over these and it.
_RECORD = struct.Struct("<QQBqH")
_CHECK = struct.Struct("<L")
_NO_CRC = -1


@dataclass(frozen=True, slots=True)
class Point:
    """A place where inflating may start."""

    #: Offset of the next byte of output.
    out_at: int
    #: Offset of the first input byte that was not used, in the packed data.
    in_at: int
    #: Bits of the byte before `in_at` that are still to be used, 0 to 7.
    bits: int
    #: The last output before the point, up to 32 KiB; empty if none is needed.
    window: bytes
    #: CRC-32 of the output since the point before, or since the start; None if not known.
    crc32: int | None


def span_bytes(size: int) -> int:
    """Output between two points of a stream of `size` bytes of output.

    A jump inflates half a span on average; each point takes 25 KB. So the number of points is
    bounded, except for streams above 4 GiB, for which jumps matter more than their 0.3 %.
    """
    return min(max(_LEAST_SPAN, size // _SPANS), _MOST_SPAN)


class Points:
    """The points of one stream, in order."""

    def __init__(self) -> None:
        self._out_at = array("Q")
        self._in_at = array("Q")
        self._bits = bytearray()
        self._crcs = array("q")
        self._windows: dict[int, bytes] = {}  # packed, by number; most ready points have none
        self._window_bytes = 0

    def add(self, point: Point) -> bool:
        """Add a point behind the last one; False if it is not behind it, or one too many.

        Raises ValueError if it cannot be a point.
        """
        if not 0 <= point.bits < 8 or point.bits > 8 * point.in_at:
            raise ValueError("a point with impossible bits")
        if len(point.window) > min(WINDOW_BYTES, point.out_at):
            raise ValueError("a point with a window longer than the output before it")
        window = zlib.compress(point.window, 1) if point.window else b""
        return self._add(point.out_at, point.in_at, point.bits, point.crc32, window)

    def before(self, out_at: int) -> Point | None:
        """The last point up to `out_at`; None if inflating must start at the stream's start."""
        place = bisect_right(self._out_at, out_at) - 1
        return self[place] if place >= 0 else None

    def after(self, out_at: int) -> Point | None:
        """The first point behind `out_at`: its CRC is that of the span which `out_at` lies in."""
        place = bisect_right(self._out_at, out_at)
        return self[place] if place < len(self) else None

    def out_before(self, out_at: int) -> int:
        """Output offset of `before(out_at)`, 0 without one; costs no unpacking."""
        place = bisect_right(self._out_at, out_at) - 1
        return self._out_at[place] if place >= 0 else 0

    @property
    def last_out_at(self) -> int:
        """Output offset of the last point; 0 if there is none."""
        return self._out_at[-1] if self._out_at else 0

    @property
    def held_bytes(self) -> int:
        """Memory that they take, bytes, about."""
        return 25 * len(self) + self._window_bytes + 150 * len(self._windows)

    def packed(self) -> bytes:
        """All points as bytes. `packed_from` makes what can be appended to them."""
        return _MAGIC + self.packed_from(0)

    def packed_from(self, number: int) -> bytes:
        """The points from `number` on as bytes that continue earlier ones."""
        return b"".join(self._record(each) for each in range(number, len(self)))

    @classmethod
    def unpacked(cls, blob: bytes) -> Points:
        """The points in `blob`, up to a damaged one, as a crash leaves it at the end.

        Raises ValueError for bytes of another kind or version.
        """
        if not blob.startswith(_MAGIC):
            raise ValueError("packed points of another version")
        found = cls()
        at = len(_MAGIC)
        while at + _RECORD.size <= len(blob):
            out_at, in_at, bits, crc32, window_bytes = _RECORD.unpack_from(blob, at)
            end = at + _RECORD.size + window_bytes
            check = blob[end : end + _CHECK.size]
            if check != _CHECK.pack(zlib.crc32(blob[at:end])):
                break
            window = blob[at + _RECORD.size : end]
            if bits > 7 or not found._add(out_at, in_at, bits, _given(crc32), window):
                break
            at = end + _CHECK.size
        return found

    def __getitem__(self, number: int) -> Point:
        packed = self._windows.get(number)
        try:
            window = b"" if packed is None else _unpacked_window(packed)
        except zlib.error as error:
            raise ValueError("a packed window is damaged") from error
        return Point(
            self._out_at[number],
            self._in_at[number],
            self._bits[number],
            window,
            _given(self._crcs[number]),
        )

    def __len__(self) -> int:
        return len(self._out_at)

    def __iter__(self) -> Iterator[Point]:
        return map(self.__getitem__, range(len(self)))

    def _add(self, out_at: int, in_at: int, bits: int, crc32: int | None, window: bytes) -> bool:
        if len(self) >= MOST_POINTS or out_at <= self.last_out_at:
            return False
        if self._in_at and in_at < self._in_at[-1]:
            return False
        if window:
            self._windows[len(self)] = window
            self._window_bytes += len(window)
        self._out_at.append(out_at)
        self._in_at.append(in_at)
        self._bits.append(bits)
        self._crcs.append(_NO_CRC if crc32 is None else crc32)
        return True

    def _record(self, number: int) -> bytes:
        window = self._windows.get(number, b"")
        head = _RECORD.pack(
            self._out_at[number],
            self._in_at[number],
            self._bits[number],
            self._crcs[number],
            len(window),
        )
        return head + window + _CHECK.pack(zlib.crc32(window, zlib.crc32(head)))


def _unpacked_window(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    window = unpacker.decompress(packed, WINDOW_BYTES)
    if not unpacker.eof and unpacker.decompress(unpacker.unconsumed_tail, 1):
        raise ValueError("a packed window is too long")
    return window


def _given(crc32: int) -> int | None:
    return None if crc32 == _NO_CRC else crc32
