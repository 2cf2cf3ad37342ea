"""Small members that are read one after another: how many of their neighbours come along.

Knows ranges of one archive and which of them were read as members; nothing of names or tables.

Theory. Most members of a delivery are small: 74 of the 103 files of a Sentinel-2 product are below
5 KB. A request for each costs a round trip, for bytes that the line passes in no time. Members that
stand together in an archive are mostly read together, so once a second one near the first is read,
a request extends to the members that follow it (or precede it, where they are read in that order):
by as many bytes as were read there, at least `LEAST_BYTES`, less those that came along before and
were not read. So a folder of n bytes takes about log(n) requests, and a reader that stops or leaves
members out has wasted no more than it read. Bytes, not members, are counted: nothing here depends
on the archive's table, and what follows a member is requested whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from up42fs.ranges import RangeSet, subtract
from up42fs.readahead.plan import Coverage
from up42fs.readahead.tuning import KIB, MIB
from up42fs.types import ByteRange

#: Members up to this size are small: they are fetched whole in any case.
SMALL_BYTES = MIB
#: The least and the most that a request is extended by.
LEAST_BYTES = 128 * KIB
MOST_BYTES = 4 * MIB
#: Readers whose members are followed at once.
_MOST_RUNS = 4
#: Members read before neighbours come along.
_ENOUGH = 2


@dataclass(slots=True)
class _Run:
    """Members read within `[start, stop)`, in one direction or all over."""

    start: int
    stop: int
    members: int = 1
    goes_down: bool = False
    read: RangeSet = field(default_factory=RangeSet)
    unread: RangeSet = field(default_factory=RangeSet)  # what came along

    @property
    def allowed_bytes(self) -> int:
        return min(max(LEAST_BYTES, self.read.total) - self.unread.total, MOST_BYTES)

    def is_near(self, span: ByteRange) -> bool:
        reach = min(max(LEAST_BYTES, self.read.total), MOST_BYTES)
        return self.start - reach <= span.stop and span.start <= self.stop + reach

    def take(self, span: ByteRange) -> None:
        if self.read.covers(span):
            return
        self.goes_down = span.start < self.start
        self.start, self.stop = min(self.start, span.start), max(self.stop, span.stop)
        self.members += 1
        self.read.add(span)
        self.unread.discard(span)


class Neighbours:
    """The runs of small members in one archive of `size` bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._runs: list[_Run] = []  # least recently read first

    def note(self, span: ByteRange) -> None:
        """Note that a small member, the bytes `span`, begins to be read."""
        run = self._run_of(span)
        if run is None:
            run = _Run(span.start, span.stop)
            run.read.add(span)
        else:
            self._runs.remove(run)
            run.take(span)
        self._runs = [*self._runs[1 - _MOST_RUNS :], run]

    def grown(self, span: ByteRange, have: Coverage) -> ByteRange:
        """The range to request instead of `span`, which is missing: all of it is missing."""
        run = self._run_of(span)
        more_bytes = run.allowed_bytes if run is not None and run.members >= _ENOUGH else 0
        if run is None or more_bytes <= 0:
            return span
        start, stop = span.start, span.stop
        if run.goes_down and start <= run.start:
            start = max(0, start - more_bytes)
        else:
            stop = max(stop, min(stop + more_bytes, self._size))
        holes = have.missing(ByteRange(start, stop))
        around = [hole for hole in holes if hole.start <= span.start and span.stop <= hole.stop]
        found = around[0] if around else span
        for piece in subtract(found, [span]):
            run.unread.add(piece)
        return found

    def _run_of(self, span: ByteRange) -> _Run | None:
        return next((run for run in reversed(self._runs) if run.is_near(span)), None)
