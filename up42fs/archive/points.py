"""Ready seek points of a packed stream: the file itself names places where inflating may start.

SOZip, xz and zstd bring such points along. They need no window and have no checksum. `slots` holds
the points that up42fs makes of a deflate stream, which need both.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

#: The last output of a deflate stream that later output may repeat, bytes.
WINDOW_BYTES = 1 << 15
#: Output between two made points, and the size up to which it stays at its least.
_LEAST_SPAN, _MOST_SPAN, _SPANS = 2 << 20, 8 << 20, 512
#: Points of one stream. Ready ones are as dense as the file wants; 2^20 take 16 MB.
MOST_POINTS = 1 << 20


@dataclass(frozen=True, slots=True)
class Point:
    """A place where inflating may start: offsets of the output and of the packed data."""

    out_at: int
    in_at: int


def span_bytes(size: int) -> int:
    """Output between two made points of a stream of `size` bytes of output.

    A jump inflates half a span on average; each point takes 33 KB. So the number of points is
    bounded, except for streams above 4 GiB, for which jumps matter more than their 0.4 %.
    """
    return min(max(_LEAST_SPAN, size // _SPANS), _MOST_SPAN)


class Points:
    """The points of one stream, in order."""

    def __init__(self) -> None:
        self._out_at = array("Q")
        self._in_at = array("Q")

    def add(self, point: Point) -> bool:
        """Add a point behind the last one; False if it is not behind it, or one too many."""
        if len(self) >= MOST_POINTS or point.out_at <= (self._out_at[-1] if self._out_at else 0):
            return False
        if self._in_at and point.in_at < self._in_at[-1]:
            return False
        self._out_at.append(point.out_at)
        self._in_at.append(point.in_at)
        return True

    def before(self, out_at: int) -> Point | None:
        """The last point up to `out_at`; None if inflating must start at the stream's start."""
        place = bisect_right(self._out_at, out_at) - 1
        return self[place] if place >= 0 else None

    def after(self, out_at: int) -> Point | None:
        """The first point behind `out_at`."""
        place = bisect_right(self._out_at, out_at)
        return self[place] if place < len(self) else None

    def reaching(self, in_at: int) -> Point | None:
        """The first point whose packed bytes begin at `in_at` or behind it."""
        place = bisect_left(self._in_at, in_at)
        return self[place] if place < len(self) else None

    def __getitem__(self, number: int) -> Point:
        return Point(self._out_at[number], self._in_at[number])

    def __len__(self) -> int:
        return len(self._out_at)

    def __iter__(self) -> Iterator[Point]:
        return map(self.__getitem__, range(len(self)))
