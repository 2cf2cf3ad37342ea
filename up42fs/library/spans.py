"""Which ranges to fetch for many small ones: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from up42fs.types import ByteRange

#: Ranges with at most this much between them are fetched as one: a request takes longer.
MOST_GAP = 64 << 10
#: How a file is opened whose whole span is copied to a file of this machine: see `calls.opened`.
COPY = "COPY"


def span_within(start: int | None, end: int | None, size: int) -> tuple[int, int]:
    """The half-open span that fsspec means by `start` and `end` in a file of `size` bytes.

    None is the start and the end of the file; negative numbers count from its end.
    """
    first = 0 if start is None else start if start >= 0 else max(0, size + start)
    stop = size if end is None else end if end >= 0 else size + end
    first, stop = min(first, size), min(stop, size)
    return first, max(first, stop)


def merged(spans: Iterable[tuple[int, int]], most_gap: int = MOST_GAP) -> list[ByteRange]:
    """The ranges to fetch for all spans: sorted, disjoint, with larger gaps between them."""
    fetched: list[ByteRange] = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if fetched and start - fetched[-1].stop <= most_gap:
            last = fetched.pop()
            fetched.append(ByteRange(last.start, max(last.stop, stop)))
        else:
            fetched.append(ByteRange(start, stop))
    return fetched


def holder(fetched: Sequence[ByteRange], start: int) -> int:
    """The place of the range in `fetched` that holds the byte `start`."""
    low, high = 0, len(fetched)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fetched[middle].start <= start else (low, middle)
    return low
