"""Arithmetic on half-open byte ranges, and a set of byte offsets kept as disjoint ranges.

Every function is total over valid ranges and raises `ValueError` only for a unit or a limit that is
not positive.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from up42fs.types import ByteRange


def floor_to(offset: int, unit: int) -> int:
    """The largest multiple of `unit` bytes that is not above `offset`."""
    return offset // unit * unit


def ceil_to(offset: int, unit: int) -> int:
    """The smallest multiple of `unit` bytes that is not below `offset`."""
    return -(-offset // unit) * unit


def align(span: ByteRange, unit: int, size: int) -> ByteRange:
    """`span` grown outward to multiples of `unit`, cut at `size`; `span` begins below `size`."""
    if unit <= 0:
        raise ValueError(f"not a unit: {unit}")
    return ByteRange(floor_to(span.start, unit), min(ceil_to(span.stop, unit), size))


def split(span: ByteRange, most: int) -> list[ByteRange]:
    """`span` cut at absolute multiples of `most` bytes, in order, so no piece is longer."""
    if most <= 0:
        raise ValueError(f"not a length: {most}")
    cuts = [span.start, *range(floor_to(span.start, most) + most, span.stop, most), span.stop]
    return [ByteRange(start, stop) for start, stop in itertools.pairwise(cuts)]


def divide(span: ByteRange, most: int) -> list[ByteRange]:
    """Split `span` into the fewest pieces of about equal length, at most `most` bytes, in order."""
    if most <= 0:
        raise ValueError(f"not a length: {most}")
    count = -(-len(span) // most)
    cuts = [span.start + len(span) * number // count for number in range(count + 1)]
    return [ByteRange(start, stop) for start, stop in itertools.pairwise(cuts)]


def intersect(one: ByteRange, other: ByteRange) -> ByteRange | None:
    """The bytes in both ranges; None if there are none."""
    start, stop = max(one.start, other.start), min(one.stop, other.stop)
    return ByteRange(start, stop) if start < stop else None


def coalesce(spans: Iterable[ByteRange], gap: int = 0) -> list[ByteRange]:
    """The ranges sorted and joined if they overlap, touch, or lie at most `gap` bytes apart."""
    joined: list[ByteRange] = []
    for span in sorted(spans):
        if joined and span.start <= joined[-1].stop + gap:
            joined[-1] = ByteRange(joined[-1].start, max(joined[-1].stop, span.stop))
        else:
            joined.append(span)
    return joined


def subtract(span: ByteRange, others: Iterable[ByteRange]) -> list[ByteRange]:
    """The rest of `span` without `others`, in order."""
    left: list[ByteRange] = []
    position = span.start
    for other in coalesce(others):
        if other.stop <= position:
            continue
        if other.start >= span.stop:
            break
        if other.start > position:
            left.append(ByteRange(position, other.start))
        position = other.stop
    if position < span.stop:
        left.append(ByteRange(position, span.stop))
    return left


class RangeSet:
    """A mutable set of byte offsets, held as sorted, disjoint, never touching ranges."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, spans: Iterable[ByteRange] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for span in spans:
            self.add(span)

    def add(self, span: ByteRange) -> None:
        """Add every offset of `span`."""
        first, last = self._touched(span)
        start, stop = span.start, span.stop
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def discard(self, span: ByteRange) -> None:
        """Remove every offset of `span` that the set contains."""
        first, last = self._touched(span)
        kept: list[ByteRange] = []
        for index in range(first, last):
            kept += subtract(ByteRange(self._starts[index], self._stops[index]), (span,))
        self._starts[first:last] = [piece.start for piece in kept]
        self._stops[first:last] = [piece.stop for piece in kept]

    def missing(self, span: ByteRange) -> list[ByteRange]:
        """The parts of `span` that are not in the set, in order."""
        if self.covers(span):
            return []  # as for each read that memory answers
        first = bisect_right(self._stops, span.start)
        last = bisect_left(self._starts, span.stop)
        held = (ByteRange(self._starts[i], self._stops[i]) for i in range(first, last))
        return subtract(span, held)

    def covers(self, span: ByteRange) -> bool:
        """Whether every offset of `span` is in the set."""
        return self.holds(span.start, span.stop)

    def holds(self, start: int, stop: int) -> bool:
        """Whether every offset from `start` to before `stop` is in the set."""
        index = bisect_right(self._starts, start) - 1
        return index >= 0 and self._stops[index] >= stop

    def around(self, offset: int) -> ByteRange | None:
        """The longest range of offsets in the set that holds `offset`; None without it."""
        index = bisect_right(self._starts, offset) - 1
        if index < 0 or self._stops[index] <= offset:
            return None
        return ByteRange(self._starts[index], self._stops[index])

    def clear(self) -> None:
        """Remove everything."""
        self._starts.clear()
        self._stops.clear()

    @property
    def total(self) -> int:
        """How many bytes the set contains."""
        return sum(self._stops) - sum(self._starts)

    @property
    def count(self) -> int:
        """How many ranges the set consists of."""
        return len(self._starts)

    def __iter__(self) -> Iterator[ByteRange]:
        pairs = list(zip(self._starts, self._stops, strict=True))
        return (ByteRange(start, stop) for start, stop in pairs)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __repr__(self) -> str:
        return f"RangeSet({', '.join(f'[{r.start}, {r.stop})' for r in self)})"

    def _touched(self, span: ByteRange) -> tuple[int, int]:
        # Indexes of the held ranges that overlap `span` or touch its ends.
        return bisect_left(self._stops, span.start), bisect_right(self._starts, span.stop)
