"""One object's parts in memory: what is cached, what is being fetched, which readers wait.

Theory. An object is a list of *parts*, sorted, never overlapping; `coverage` is the set of their
offsets. A part is

    queued  -> fetching -> full
       |           |----> cut short: the bytes received stay as a smaller part, the rest is missing
       |----> withdrawn: gone

and *wanted* once a reader waited for it. A read looks at `coverage`: offsets in it are cached or
being fetched, so the read only waits; missing offsets get a new part. Hence each range is fetched
once however many readers wait, without a lock: looking, planning and creating parts never await,
and all of it runs on the trio thread. The only state shared with worker threads is a part's buffer,
its fill count and the count at which to wake (see `Part.write`).

A reader pins the parts under its range, waits until each has the bytes it needs (not until it is
full), and copies nothing if one part holds them all. If a part ends without the bytes, the outcome
depends on whether it was wanted when it failed. If it was, its error is raised to the reader. If it
was read-ahead that failed or was given up, the bytes are simply missing and the reader fetches them
itself. Each reader has its own deadline; a part's deadline is the latest of its readers'.

The disk cache is surveyed before the first plan; then the plan's ranges are cut into pieces to load
from disk and pieces to fetch from the network, each a part of its own.

What a long run has read goes from memory at once: the kernel has these bytes as pages, a disk cache
has them as well, other files' stay, and their buffers are still in the processor's cache when the
next parts come (docs/transport.md). Without a kernel above (a server, a library) the next reader
comes here, so a share of the memory keeps what the run read first.

Read-ahead is admitted only within the budget, demand always. Guesses are left out as long as a
handle finds here or on disk all that it reads: what it goes on to was most likely read, or warmed,
before. Nothing is read ahead while the first answer may tell that the disk has it. Failed
read-ahead is not repeated until a demand succeeded. A fetch is cancelled only where
nobody waits and more than `KEEP_BYTES` are to come: cancelling costs the connection. With the last
handle all such go; and with any, what an interrupted reader waited for, however little is to come.

A changed object ends all: every read of this fetcher, now and later, answers VersionChanged.
Never await: `_start`, `_finish`, `cancel`, `let_go`, `may_go`, `stop`, `_change`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from up42fs import supervise
from up42fs.deadlines import watched
from up42fs.errors import DeadlineExceeded, Up42fsError, VersionChanged, copied
from up42fs.ranges import RangeSet, intersect, split
from up42fs.readahead.plan import Coverage, Insight, Plan
from up42fs.readahead.tiff import Get
from up42fs.store.buffers import Buffers
from up42fs.store.copying import Copying
from up42fs.store.disk.layered import ObjectSource
from up42fs.store.http.tally import Tally
from up42fs.store.memory import MemoryCache
from up42fs.store.part import Carrier, Part, covers, pinned
from up42fs.store.slots import Slots
from up42fs.types import ByteRange, Bytes, Version

#: Read-ahead with at most this many bytes outstanding is not cancelled: that costs the connection.
KEEP_BYTES = 512 << 10
#: The largest part of a prefetch that starts before the file is opened.
AHEAD_PART_BYTES = 4 << 20
#: A run longer than this is a scan: its bytes are unlikely to be read again.
SCAN_BYTES = 64 << 20
#: A run of at least PASS_BYTES evicts from memory what it has read, except the last LAG_BYTES.
PASS_BYTES = 16 << 20
LAG_BYTES = 4 << 20


class Planner(Protocol):
    """Plans the fetches of one handle, like `Access`, in the object's offsets."""

    has_missed: bool

    @property
    def is_passing(self) -> bool: ...

    @property
    def run_bytes(self) -> int: ...

    def reads_again(self, start: int, stop: int, have: Coverage) -> bool: ...

    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan: ...

    def learn(self, near: ByteRange, get: Get) -> None: ...


class Fetcher:
    """The parts of one version of one object."""

    def __init__(
        self,
        size: int,
        source: ObjectSource,
        *,
        slots: Slots[tuple[Carrier, Part]],
        cache: MemoryCache,
        buffers: Buffers,
        tally: Tally,
        read_deadline_s: float,
        on_changed: Callable[[Fetcher, Version | None], None],
    ) -> None:
        self.size = size
        self.handles = 0
        self.source = source
        self.insight = Insight(size)
        self._slots = slots
        self._cache = cache
        self._buffers = buffers
        self._tally = tally
        self._read_deadline_s = read_deadline_s
        self._on_changed = on_changed
        self._parts: list[Part] = []
        self._starts: list[int] = []  # of the parts
        #: The bytes in memory, or being fetched.
        self.coverage = RangeSet()
        self._over: Up42fsError | None = None
        self._may_read_ahead = True

    @property
    def version(self) -> Version | None:
        """The version that the first answer pinned."""
        return self.source.pin.version

    @property
    def spans(self) -> list[ByteRange]:
        """The ranges in memory."""
        filled = [(part.span.start, part.filled) for part in self._parts]
        return [ByteRange(start, start + count) for start, count in filled if count]

    @property
    def cached_bytes(self) -> int:
        """Bytes in memory."""
        return sum(part.filled for part in self._parts)

    @property
    def insight_bytes(self) -> int:
        """Memory that the object's parsed structure takes, in bytes."""
        return self.insight.structure.held_bytes

    def forget_insight(self) -> None:
        """Drop the object's parsed structure; it is parsed again after the next open."""
        self.insight.structure.forget()

    def opened(self) -> Insight:
        """Count one more open handle; return the object's parsed structure."""
        if not self.handles and self.insight.structure.is_forgotten:
            self.insight = Insight(self.size, self.insight.structure.budget.renewed())
        self.handles += 1
        return self.insight

    @property
    def is_idle(self) -> bool:
        """Whether no part is in memory and no handle is open."""
        return not self._parts and not self.handles

    def read_again(self, access: Planner, start: int, stop: int) -> memoryview | None:
        """The bytes `[start, stop)` if memory holds them and they were read before; else None.

        Such a read is planned later, with those that follow it (`Access.reads_again`).
        """
        place = bisect_right(self._starts, start) - 1
        if place < 0 or self._over is not None:
            return None
        part = self._parts[place]
        data = part.again(start, stop)
        if data is None or not access.reads_again(start, stop, self.coverage):
            return None
        access.has_missed |= part.is_foreseen
        self._cache.touch(part)
        return data

    async def read(
        self, access: Planner, wanted: ByteRange, window_bytes: int, tally: Tally | None = None
    ) -> Bytes:
        """Return all bytes of `wanted` (within the object); raises an `Up42fsError`.

        `tally` counts the read and what is requested for it; by default the object's own.
        """
        tally = tally or self._tally
        self._check()
        deadline_s = trio.current_time() + self._read_deadline_s
        if not self.source.is_ready and self.coverage.missing(wanted):
            await self.source.ready()
            self._check()
        access.has_missed = access.has_missed or self._is_new(wanted)
        plan = access.on_read(wanted, self.coverage, window_bytes)
        self.cancel(plan.cancel)
        passing = access.is_passing
        scan_from = wanted.stop + SCAN_BYTES - access.run_bytes
        for span in self._cut(plan.demand, wanted):
            self._start(span, deadline_s, tally, in_scan=span.stop > scan_from, passing=passing)
        guesses = plan.guesses if access.has_missed else ()
        may_read_ahead = self._may_read_ahead and not self.source.is_in_doubt
        # Guesses are left out as long as this handle finds everything it reads in memory or on
        # disk: the bytes it reads next were most likely read, or warmed, before. Nothing is read
        # ahead while the first answer may show that the disk already has it, nor after a failed
        # read-ahead until a demand succeeds.
        ahead = (*plan.ahead, *guesses) if may_read_ahead else ()
        for span in self._cut(ahead, None):
            if not self._cache.make_room(len(span)):
                break
            self._start(span, None, tally, in_scan=span.stop > scan_from, passing=passing)
        parts = self._under(wanted)
        if covers(parts, wanted):
            tally.count("store.hits")
            data = self._joined(parts, wanted, tally)
        else:
            tally.count("store.waits")
            try:
                data = await self._wait(wanted, deadline_s, tally, passing=passing)
            except trio.Cancelled:
                self._abandon(wanted)
                raise
            finally:
                self._cache.shrink(0)  # evict what demand added beyond the budget
        access.learn(wanted, self._peek)
        # Evict what a long run has read at once: the kernel has these bytes as pages and a disk
        # cache has them as well, other files' parts stay, and the freed buffers are still in the
        # processor's cache when the next parts come (docs/transport.md).
        is_pass = access.run_bytes >= PASS_BYTES
        if is_pass and self.cached_bytes >= self._cache.scan_bytes:
            self._drop_behind(wanted.start - LAG_BYTES)
        return data

    def adopt(self, head: bytes) -> None:
        """Take over the object's first bytes, which came with its size."""
        if not head or self._parts:
            return
        part = Part(ByteRange(0, len(head)), self, wanted=True, deadline_s=-math.inf)
        part.begin(self._buffers)
        part.write(head)
        part.finish(None)
        self._insert(part)
        self.coverage.add(part.span)
        self._cache.add(part)
        self._cache.shrink(0)

    def lacks(self, span: ByteRange) -> bool:
        """Whether reading `span` needs a request."""
        return any(map(self.source.lacks, self.coverage.missing(span)))

    async def fetch_ahead(self, spans: Iterable[ByteRange], tally: Tally | None = None) -> None:
        """Prefetch the missing bytes of `spans`; on cancellation, cancel the fetches as well."""
        tally = tally or self._tally
        missing = [hole for span in spans for hole in self.coverage.missing(span)]
        pieces = [piece for hole in missing for piece in split(hole, AHEAD_PART_BYTES)]
        for span in self._cut(pieces, None) if self._may_read_ahead and not self._over else ():
            if not self._cache.make_room(len(span)):
                break
            self._start(span, None, tally)
        try:
            for part in [part for piece in pieces for part in self._under(piece)]:
                await part.until(part.span.stop)
        except trio.Cancelled:
            self.cancel(pieces)
            raise

    def copying(self, tally: Tally | None = None) -> Copying | None:
        """What copies missing bytes to a file past memory; None if the disk cache keeps them."""
        if not self.source.is_network_only:
            return None
        self._check()
        return Copying(
            self.source, self._slots, tally or self._tally, self.coverage.missing,
            read_deadline_s=self._read_deadline_s, on_changed=self._change,
        )  # fmt: skip

    def cancel(self, spans: Iterable[ByteRange]) -> None:
        """Cancel outstanding fetches within `spans` that no reader waits for."""
        for span in spans:
            for part in self._under(span):
                to_come = len(part.span) - part.filled
                if part.is_over or part.pins:
                    continue
                if to_come <= KEEP_BYTES and not self._slots.is_queued((self, part)):
                    continue
                if part.wanted and self.handles > 1:
                    continue  # another handle that reads it may go on reading
                self._tally.count("store.cancelled")
                self._stop_part(part)

    def give_up_abandoned(self) -> None:
        """A handle is closed: give up what interrupted readers waited for, and nobody else.

        However little is to come: a store that fell silent would keep its place from others.
        """
        for part in list(self._parts):
            if part.is_abandoned and not (part.is_over or part.is_awaited):
                self._tally.count("store.cancelled")
                self._stop_part(part)

    def _abandon(self, wanted: ByteRange) -> None:
        """A reader was interrupted. It may read once more, so this counts when it closes."""
        for part in self._under(wanted):
            is_read_ahead = part.is_foreseen and self.handles > 1
            part.is_abandoned = not (part.is_over or part.is_awaited or is_read_ahead)

    def forget(self) -> None:
        """Drop the bytes in memory that are not in use."""
        for part in [part for part in self._parts if not part.in_use]:
            self._cache.remove(part)
            self.let_go(part)

    def stop(self, error: Up42fsError) -> None:
        """End every fetch and every read, now and later, with `error`."""
        self._over = self._over or error
        for part in list(self._parts):
            if not part.is_over:
                self._stop_part(part)
        self.forget()

    def let_go(self, part: Part) -> None:
        """Forget `part`, which the cache evicted."""
        self._remove(part)
        self.coverage.discard(part.span)
        self._tally.count("store.wasted_bytes", max(0, part.filled - part.delivered))

    def may_go(self) -> None:
        """Evict parts over the budget: one whose write to disk ended may be evicted now."""
        self._cache.shrink(0)

    # reading -------------------------------------------------------------------------------

    async def _wait(
        self, wanted: ByteRange, deadline_s: float, tally: Tally, *, passing: bool
    ) -> Bytes:
        """Wait for the bytes of `wanted`, fetching again what read-ahead failed to bring."""
        parts: list[Part] = []
        with trio.move_on_at(deadline_s):
            while trio.current_time() < deadline_s:
                with pinned(self._under(wanted)):  # or the new parts could evict them
                    for span in self.coverage.missing(wanted):
                        self._start(span, deadline_s, tally, passing=passing)
                    parts = self._under(wanted)
                    with pinned(parts):
                        await self._gather(parts, wanted, deadline_s)
                self._check()
                if covers(parts, wanted):
                    return self._joined(parts, wanted, tally)
        raise self._late(parts)

    async def _gather(self, parts: list[Part], wanted: ByteRange, deadline_s: float) -> None:
        lacking = [part for part in parts if not part.has(wanted.stop)]
        self._slots.go_on()
        for part in lacking:
            self._want(part, deadline_s)
        for part in lacking:
            await part.until(wanted.stop)
            if part.error is not None and not part.has(wanted.stop):
                self._check()
                raise copied(part.error) from part.error

    def _joined(self, parts: list[Part], wanted: ByteRange, tally: Tally) -> Bytes:
        tally.count("store.bytes_delivered", len(wanted))
        if len(parts) == 1:
            self._cache.touch(parts[0])
            return parts[0].view(wanted)
        pieces: list[memoryview] = []
        for part in parts:
            span = intersect(part.span, wanted)
            assert span is not None, "parts lie under the range"
            pieces.append(part.view(span))
            self._cache.touch(part)
        return b"".join(pieces)

    def _is_new(self, wanted: ByteRange) -> bool:
        """Whether `wanted` has to be fetched, or was prefetched on a guess."""
        return self.lacks(wanted) or any(part.is_foreseen for part in self._under(wanted))

    def _peek(self, span: ByteRange) -> Bytes | None:
        """Return the bytes of `span` if all are in memory; does not count as a read."""
        parts = self._under(span)
        if not covers(parts, span):
            return None
        pieces = [part.peek(both) for part in parts if (both := intersect(part.span, span))]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def ahead(self, start: int, stop: int) -> Bytes:
        """The bytes from `start` on that one part holds, up to `stop`; does not count as a read."""
        place = bisect_right(self._starts, start) - 1
        if place < 0 or start >= stop or self._over is not None:
            return b""
        part = self._parts[place]
        stop = min(part.span.start + part.filled, stop)
        return part.peek(ByteRange(start, stop)) if start < stop else b""

    def _drop_behind(self, stop: int) -> None:
        """Evict parts before `stop` that a run has read."""
        if stop <= 0:  # the run began again at offset 0
            return
        for part in self._under(ByteRange(max(0, stop - PASS_BYTES), stop)):
            is_read = part.delivered >= len(part.span) and part.span.stop <= stop
            if is_read and not part.in_use:
                self._cache.remove(part)
                self.let_go(part)

    def _want(self, part: Part, deadline_s: float) -> None:
        part.is_abandoned = False
        part.deadline_s = max(part.deadline_s, deadline_s)
        part.scope.deadline = part.deadline_s
        if not part.wanted:
            part.wanted = True
            self._slots.promote((self, part))

    def _late(self, parts: list[Part]) -> Up42fsError:
        told = next((told for part in parts if (told := part.trouble.told())), None)
        return told or self.source.error(
            DeadlineExceeded, f"its bytes did not come within {self._read_deadline_s:.0f} s"
        )

    def _check(self) -> None:
        if self._over is not None:
            raise copied(self._over) from self._over

    # fetching ------------------------------------------------------------------------------

    def _cut(self, spans: Iterable[ByteRange], wanted: ByteRange | None) -> list[ByteRange]:
        return [piece for span in spans for piece in self.source.cut(span, wanted)]

    def _start(
        self,
        span: ByteRange,
        deadline_s: float | None,
        tally: Tally,
        *,
        in_scan: bool = False,
        passing: bool = False,
    ) -> None:
        """Create a part for `span`, which is missing; without a deadline it is read-ahead."""
        wanted = deadline_s is not None
        if deadline_s is None:
            deadline_s = -math.inf  # its time begins when it leaves the queue
            tally.count("store.prefetched_bytes", len(span))
        part = Part(span, self, wanted=wanted, deadline_s=deadline_s)
        part.tally = tally
        part.in_scan = in_scan
        part.is_passing = passing
        part.is_foreseen = not wanted and self.source.lacks(span)
        self._cache.shrink(len(span))
        self._insert(part)
        try:
            self.coverage.add(span)
            self._cache.add(part)
            self.source.foresee(span, wanted=wanted)
            self._slots.submit((self, part), urgent=wanted)
        except BaseException:
            # No memory: a part that nobody fetches would make later readers wait for it in vain.
            if self._slots.withdraw((self, part)) or not self._slots.is_running((self, part)):
                self._finish(part, None)
            raise

    async def run(self, part: Part) -> None:
        """Fetch `part` to its end; the slots call it."""
        if not part.wanted:
            part.deadline_s = trio.current_time() + self._read_deadline_s
        part.scope.deadline = part.deadline_s
        error: Up42fsError | None = None
        try:
            part.begin(self._buffers)
            with watched(part.trouble), part.scope:
                await self.source.fetch(part)
            if part.missing is not None and not part.wanted and not part.stopped:
                error = self._late([part])
            # A timed-out wanted part raises no error: a reader with time left fetches it again.
        except Up42fsError as caught:
            error = caught
        except Exception as caught:
            supervise.report(self.run, caught)
            kind = type(supervise.failure(caught, "reading"))
            error = self.source.error(kind, f"reading failed: {supervise.words(caught)}")
        finally:
            self._finish(part, error)

    def _finish(self, part: Part, error: Up42fsError | None) -> None:
        if part.wanted and part.missing is None:
            self._may_read_ahead = True
        elif error is not None and not part.wanted:
            self._may_read_ahead = False
        whole = part.span
        self.source.filled(whole)
        part.finish(error if part.wanted or isinstance(error, VersionChanged) else None)
        if part.filled < len(whole):
            self.coverage.discard(ByteRange(whole.start + part.filled, whole.stop))
        if part.filled:
            self._cache.recount(part)
        else:
            self._cache.remove(part)
            self._remove(part)
        if isinstance(error, VersionChanged):
            self._change(error)
        elif self._over is not None:
            self.forget()
        self._cache.shrink(0)

    def _stop_part(self, part: Part) -> None:
        part.stopped = True
        if self._slots.withdraw((self, part)):
            self._finish(part, None)
        else:
            part.scope.cancel()

    def _change(self, error: VersionChanged) -> None:
        if self._over is None:
            self.stop(error)
            self._on_changed(self, self.source.pin.changed_to)

    # places --------------------------------------------------------------------------------

    def _under(self, span: ByteRange) -> list[Part]:
        """The parts that overlap `span`, in order."""
        first = bisect_right(self._starts, span.start) - 1
        last = bisect_left(self._starts, span.stop)
        return [p for p in self._parts[max(first, 0) : last] if p.span.stop > span.start]

    def _insert(self, part: Part) -> None:
        index = bisect_right(self._starts, part.span.start)
        self._starts.insert(index, part.span.start)
        try:
            self._parts.insert(index, part)
        except MemoryError:
            del self._starts[index]  # the two lists belong together
            raise

    def _remove(self, part: Part) -> None:
        index = bisect_left(self._starts, part.span.start)
        assert self._parts[index] is part, "parts never overlap"
        del self._starts[index], self._parts[index]
