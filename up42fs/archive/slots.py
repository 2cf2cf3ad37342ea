"""Seek points as the disk cache keeps them: one slot each, with checksums by pieces.

Knows offsets, windows and checksums; nothing of engines, files or requests.

Theory. `points` are those that files bring along. Those that we make of a deflate stream need a
window, and what is inflated once more from them shall be checked before anybody gets it. So each
has the checksums of the output between the point before it and itself, by pieces. Each lies in a
slot of one size, and there is one slot for each `span_bytes` of output: two points are at least a
span apart, so no two share a slot, and a slot can be found, written and lost by itself.
"""

from __future__ import annotations

import struct
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from up42fs.archive.points import WINDOW_BYTES

MIB = 1 << 20
#: Output that one checksum covers, bytes, if there are few enough of them.
PIECE_BYTES = 128 << 10
MOST_PIECE_BYTES = MIB
_MOST_PIECES = 192
SLOT_BYTES = WINDOW_BYTES + 1024

_MAGIC = b"upt1"
_SLOT = struct.Struct("<4sQQQBBHIIIH")


@dataclass(frozen=True, slots=True)
class State:
    """A state from which inflating may go on. Offsets `in_at` and `data_at` are the archive's.

    `bits` of `last`, the byte before `in_at`, are unread. `crc32` is that of all output before the
    point; None if it is not known, and such a point has no slot. `checks` are those of the pieces
    of `piece_bytes` between `after` and the point; `after` is the offset of the point before, or 0.
    Without `checks` that output cannot be checked.
    """

    out_at: int
    in_at: int
    data_at: int
    bits: int = 0
    last: int = 0
    window: bytes = b""
    crc32: int | None = 0
    after: int = 0
    piece_bytes: int = PIECE_BYTES
    checks: tuple[int, ...] = ()


def slot_of(out_at: int, span: int) -> int:
    """The slot of a point."""
    return out_at // span


def slots_bytes(size: int, span: int) -> int:
    """Room for the slots of all points of a member of `size` bytes."""
    return (size // span + 1) * SLOT_BYTES


def encode(point: State) -> bytes:
    """The content of the point's slot."""
    checks = point.checks if len(point.checks) <= _MOST_PIECES else ()
    head = _SLOT.pack(
        _MAGIC, point.out_at, point.in_at, point.data_at, point.bits, point.last,
        len(checks), point.crc32 or 0, point.piece_bytes, point.out_at - point.after,
        len(point.window),
    )  # fmt: skip
    text = head + struct.pack(f"<{len(checks)}I", *checks)
    return text.ljust(SLOT_BYTES - WINDOW_BYTES, b"\0") + point.window.ljust(WINDOW_BYTES, b"\0")


def decode(slot: bytes | memoryview) -> State | None:
    """The point in a slot; None if there is none, or not a possible one."""
    if len(slot) != SLOT_BYTES:
        return None
    magic, out_at, in_at, data_at, bits, last, count, crc, piece, back, length = _SLOT.unpack_from(
        slot
    )
    if magic != _MAGIC or bits > 7 or length > WINDOW_BYTES or count > _MOST_PIECES:
        return None
    after = out_at - back
    if not 0 <= after < out_at or data_at > in_at or not PIECE_BYTES <= piece <= MOST_PIECE_BYTES:
        return None
    if count not in (0, -(-back // piece)):
        return None
    checks = struct.unpack_from(f"<{count}I", slot, _SLOT.size)
    start = SLOT_BYTES - WINDOW_BYTES
    window = bytes(slot[start : start + length])
    return State(out_at, in_at, data_at, bits, last, window, crc, after, piece, checks)


@dataclass(frozen=True, slots=True)
class Piece:
    """Output `[start, stop)` and its checksum."""

    start: int
    stop: int
    crc32: int


class States:
    """The points of one member in order, without their windows: these may lie elsewhere."""

    def __init__(self, points: Iterable[State] = ()) -> None:
        self._points: dict[int, State] = {}
        self._places: list[int] = []
        for point in points:
            self.add(point)

    def add(self, point: State) -> None:
        """Add a point; one at the same offset is replaced."""
        if point.out_at not in self._points:
            insort(self._places, point.out_at)
        self._points[point.out_at] = replace(point, window=b"")

    def discard(self, out_at: int) -> None:
        """Remove the point at this offset, if there is one."""
        if self._points.pop(out_at, None) is not None:
            self._places.remove(out_at)

    def clear(self) -> None:
        """Remove all."""
        self._points.clear()
        self._places.clear()

    def before(self, out_at: int) -> State | None:
        """The last point at or before an offset."""
        place = bisect_right(self._places, out_at)
        return self._points[self._places[place - 1]] if place else None

    def after(self, out_at: int) -> State | None:
        """The first point behind an offset."""
        place = bisect_right(self._places, out_at)
        return self._points[self._places[place]] if place < len(self._places) else None

    @property
    def last(self) -> State | None:
        """The last point."""
        return self._points[self._places[-1]] if self._places else None

    def piece(self, out_at: int) -> Piece | None:
        """The piece that holds an offset and can be checked; None if it cannot."""
        point = self.after(out_at)
        if point is None or not point.checks or out_at < point.after:
            return None
        number = (out_at - point.after) // point.piece_bytes
        start = point.after + number * point.piece_bytes
        stop = min(start + point.piece_bytes, point.out_at)
        return Piece(start, stop, point.checks[number])

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[State]:
        return (self._points[place] for place in self._places)


def choose(at: int, running: Sequence[int], point_at: int | None, span: int) -> int | None:
    """The start from which the bytes from offset `at` on come: the offset of a run, or of a point.

    `running` are the offsets that runs have reached, `point_at` is that of the last point before
    `at`. A run that is less than a span behind is better than another start, and so is any run if
    no point lies between. None: start at the beginning.
    """
    nearest = max((one for one in running if one <= at), default=None)
    if nearest is not None and (point_at is None or point_at <= nearest or at - nearest < span):
        return nearest
    return point_at
