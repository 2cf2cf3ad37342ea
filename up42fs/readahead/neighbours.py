"""Small members that are read one after another: how many of their neighbours come along.

Knows ranges of one archive and which of them were read as members; nothing of names or tables.

Theory. Most members of a delivery are small: 74 of the 103 files of a Sentinel-2 product are below
5 KB. A request for each costs a round trip, for bytes that the line passes in no time. Members that
stand together in an archive are mostly read together, so once a second one near the first is read,
a request extends to the members that follow it (or precede it, where they are read in that order):
by `LEAST_BYTES`, twice as much for each further member up to `USUAL_BYTES` (a round trip of a
middling line), or by as many bytes as were read there, less those that came along before and were
not read. So a folder of n bytes takes about log(n) requests in any order (`cp -r` reads in the
order of inode numbers), and a reader that stops or leaves members out wastes no more than that, and
the rest of the blocks in which it read two.
Bytes, not members, are counted: nothing here depends on the archive's table, and what follows a
member is requested whole. Prefetches of single members (`readahead.folder`) come one at a time, so
they are left out while enough is on its way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from up42fs.ranges import RangeSet, align, subtract
from up42fs.readahead.plan import Coverage
from up42fs.readahead.tuning import KIB, MIB
from up42fs.types import ByteRange

#: Members up to this size are small: they are fetched whole in any case.
SMALL_BYTES = MIB
#: How far apart members of one run may be.
NEAR_BYTES = MIB
#: What may come along unread: at first, after some members, and at most.
LEAST_BYTES = 128 * KIB
USUAL_BYTES = 768 * KIB
MOST_BYTES = 4 * MIB
#: Readers whose members are followed at once.
_MOST_RUNS = 4
#: Size of a cell of the disk cache.
CELL_BYTES = 128 * KIB
#: Members that make a run.
_ENOUGH = 2


@dataclass(slots=True)
class _Run:
    """Members read within `[start, stop)`, in one direction or all over."""

    start: int
    stop: int
    last: ByteRange
    members: int = 0
    goes_down: bool = False
    read: RangeSet = field(default_factory=RangeSet)
    unread: RangeSet = field(default_factory=RangeSet)  # what came along

    @property
    def trusted_bytes(self) -> int:
        """How much may come along unread."""
        if self.members < _ENOUGH:
            return 0
        doubled = LEAST_BYTES << min(self.members - _ENOUGH, 8)
        return min(max(min(doubled, USUAL_BYTES), self.read.total), MOST_BYTES)

    def is_near(self, span: ByteRange) -> bool:
        reach = max(NEAR_BYTES, self.trusted_bytes)
        return self.start - reach <= span.stop and span.start <= self.stop + reach

    def take(self, span: ByteRange) -> None:
        if not self.read.covers(span):
            self.goes_down = span.start < self.start
            self.start, self.stop = min(self.start, span.start), max(self.stop, span.stop)
            self.members += 1
            self.read.add(span)
            self.unread.discard(span)
        self.last = span

    @property
    def is_supplied(self) -> bool:
        """Whether more than half of what may come along lies before the reader."""
        before = [
            len(one)
            for one in self.unread
            if (one.stop <= self.last.start if self.goes_down else one.start >= self.last.stop)
        ]
        return 2 * sum(before) > self.trusted_bytes


class Neighbours:
    """The runs of small members in one archive of `size` bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._runs: list[_Run] = []  # least recently read first

    def note(self, span: ByteRange) -> None:
        """Note that a small member, the bytes `span`, begins to be read."""
        run = self._run_of(span)
        if run is None:
            run = _Run(span.start, span.stop, span)
        else:
            self._runs.remove(run)
        run.take(span)
        self._runs = [*self._runs[1 - _MOST_RUNS :], run]

    def grown(self, span: ByteRange, have: Coverage) -> ByteRange:
        """The range to request instead of `span`, which is missing: all of it is missing."""
        run = self._run_of(span)
        if run is None or run.members < _ENOUGH:
            return span
        more_bytes = run.trusted_bytes - run.unread.total
        if more_bytes > 0:
            found = self._extended(span, have, more_bytes, goes_down=run.goes_down)
        else:
            # The second one in a cell brings the rest of it: two runs would not be kept.
            cells = align(span, CELL_BYTES, self._size)
            holes = have.missing(cells)
            found = span if holes == [cells] else _hole(holes, span)
        for piece in subtract(found, [span]):
            run.unread.add(piece)
        return found

    def _extended(
        self, span: ByteRange, have: Coverage, more_bytes: int, *, goes_down: bool
    ) -> ByteRange:
        start = max(0, span.start - more_bytes)
        stop = min(span.stop + more_bytes, self._size)
        if not goes_down:
            # Members left out since the bytes that are present come too: they fill gaps on disk.
            before = have.missing(ByteRange(start, span.stop))[-1].start
            start = before if before > start else span.start
            stop = min(stop, start + len(span) + more_bytes)
        # A cell of the disk cache holds one run of bytes: so each is asked for to its ends.
        around = align(ByteRange(start, max(stop, span.stop)), CELL_BYTES, self._size)
        return _hole(have.missing(around), span) if span.stop <= around.stop else span

    def grown_ahead(self, span: ByteRange, have: Coverage) -> ByteRange | None:
        """Like `grown`, of a range that nobody waits for; None while enough is on its way."""
        run = self._run_of(span)
        return None if run is not None and run.is_supplied else self.grown(span, have)

    def _run_of(self, span: ByteRange) -> _Run | None:
        return next((run for run in reversed(self._runs) if run.is_near(span)), None)


def _hole(holes: list[ByteRange], span: ByteRange) -> ByteRange:
    """The one of `holes` that holds `span`."""
    return next((one for one in holes if one.start <= span.start < one.stop), span)
