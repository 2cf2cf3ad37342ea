"""The bytes of one packed member: inflated by runs, for parts, and kept on disk as they come.

Fills parts like `http.source.NetworkSource`. Knows a member's place and packing, its points and its
runs; nothing of readers, links or HTTP.

Theory. A part asks for output from an offset on. If the disk has it by now, or a chunk that is
still on its way there, it is taken from there; else from a run. `slots.choose` decides which: one
that is less than a span behind, or the nearest point's, or one from the beginning. Runs from points
check what they make and end where checksums end; there a run with points goes on, whose checksum
since the member's beginning is known.

If the member is damaged, every reader gets EIO from the byte on at which that shows. If its
checksum is wrong, what was passed on before was not proven: its cells and points are dropped.

Mounts that share a disk cache do not inflate one member twice: a run with points holds a lock, and
others look for its bytes on disk, as long as these grow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from up42fs.archive.points import span_bytes
from up42fs.archive.slots import MIB, State, choose
from up42fs.deadlines import note
from up42fs.errors import (
    CannotUnpack,
    DamagedArchive,
    DeadlineExceeded,
    Up42fsError,
    VersionChanged,
    copied,
)
from up42fs.store.disk.layered import ObjectSource
from up42fs.store.http.answer import VersionPin
from up42fs.store.http.race import lacking
from up42fs.store.members.extent import Extent
from up42fs.store.members.inflate.engines import DamagedStreamError, UnsupportedMethodError
from up42fs.store.members.inflate.identity import nominal_size
from up42fs.store.members.inflate.inflater import Packing, UntrueError
from up42fs.store.members.inflate.inflaters import (
    Inflaters,
    Upstream,
)
from up42fs.store.members.inflate.inflow import Inflow
from up42fs.store.members.inflate.kept_states import KeptStates
from up42fs.store.members.inflate.output import Output
from up42fs.store.members.inflate.packed_bytes import PackedBytes
from up42fs.store.members.inflate.patience import is_too_long, lacking_s
from up42fs.store.members.inflate.run import CHUNK_BYTES, LostPointError, Run
from up42fs.store.members.inflate.segments import Segments
from up42fs.store.members.inflate.sharing import OTHERS_S, PASSED_S, Turn
from up42fs.store.part import Part
from up42fs.types import ByteRange

#: Smaller members have no points: inflating them costs less than a request.
LEAST_POINTED_BYTES = 4 * MIB
#: The farthest that a prefetch may lie ahead of what is inflated, bytes.
FAR_BYTES = 64 * MIB
#: Interval at which the wait of a reader is judged, seconds.
_TICK_S = 0.5
_CURE = (
    "the archive is damaged: ask UP42 for a new delivery, or unpack the archive with a program "
    "that mends it"
)


@dataclass(slots=True, eq=False)
class _OutputWaiter:
    """A part that waits for output up to `stop`."""

    run: Run
    part: Part
    stop: int
    event: trio.Event = field(default_factory=trio.Event)


class InflatedSource:
    """The source of one packed member's bytes."""

    keeps = True

    def __init__(
        self,
        object_id: str,
        name: str,
        extent: Extent,
        size: int | None,
        *,
        upstream: Callable[[], Awaitable[Upstream]],
        inflaters: Inflaters,
        on_damaged: Callable[[], None] = lambda: None,
    ) -> None:
        """`size` is None for the unpacked stream of a compressed tar."""
        self.size = nominal_size(extent.packed_size) if size is None else size
        self.pin = VersionPin(self.size)
        #: The real end of a stream, once it is known.
        self.ends_at: int | None = size
        expected = self.size if size is not None else 2 * extent.packed_size
        span = span_bytes(expected)
        self.packing = Packing(extent.method, size, extent.crc32, span)
        self._kept_states = KeptStates(
            object_id, self.size, span, disk=inflaters.disk, cache=inflaters.cache
        )
        #: The points.
        self.index = self._kept_states.index
        self._object_id = object_id
        self._name = name
        self._packed = PackedBytes(extent, self.size, self.pin, upstream=upstream, error=self.error)
        self._segments = Segments(self.packing, self._packed, inflaters, self._near)
        self._inflaters = inflaters
        self._on_damaged = on_damaged
        self._runs: list[Run] = []
        self._waiters: list[_OutputWaiter] = []
        self._output = Output(inflaters.cache, self._kept)
        self._damage: Up42fsError | None = None
        self._is_doubted = False  # whether its points led to damaged bytes before
        self._turn = Turn(object_id, inflaters.disk) if inflaters.disk is not None else None

    def kept_by(self, keeper: ObjectSource) -> None:
        """Pass all output to `keeper`, and look there first."""
        self._output.keeper = keeper
        keeper.due = self._segments

    def error(self, error: type[Up42fsError], what: str, cure: str | None = None) -> Up42fsError:
        """An error that names the member and the cure."""
        return error(f"{self._name}: {what}; {cure or 'try again later'}")

    # filling parts -------------------------------------------------------------------------

    def _near(self, at: int) -> int:
        """The offset that a run has reached from which one could go on to `at`."""
        return max((run.out_at for run in self._runs if run.out_at <= at), default=0)

    async def fetch(self, part: Part, stop: int | None = None) -> None:
        """Fill `part`, up to offset `stop` if given, or until the disk has the next bytes.

        Raises an `Up42fsError`.
        """
        began_s = trio.current_time()
        try:
            with self._segments.used():
                while (asked := lacking(part, stop or part.span.stop)) and not part.stopped:
                    if not self._output.fill(part, asked) and not await self._fetch(
                        part, asked, began_s
                    ):
                        return
        finally:
            self._packed.close_left()

    async def _fetch(self, part: Part, asked: ByteRange, began_s: float) -> bool:
        """Bring some of `asked`; False if the part is stopped, or the disk has them by now."""
        self._check(asked.start, part)
        if part.stopped or await self._is_kept_now(asked.start):
            return False
        if await self._take_segments(part, asked):
            return True
        run = self._chosen(asked.start)
        if not part.wanted and not self._is_worth(asked.start, run):
            part.stop()
            return False
        if run is None:
            if not await self._may_begin(asked.start):
                return False
            run = self._chosen(asked.start) or self._start(asked.start)
        await self._wait(_OutputWaiter(run, part, asked.stop), began_s)
        return True

    async def _take_segments(self, part: Part, asked: ByteRange) -> bool:
        """Fill the part by ready points; False if the file brought none along."""
        # Points are looked for when somebody waits: what is prefetched follows a run from the
        # front, whose first bytes a request for points would delay.
        if not self._segments.are_known:
            is_to_wait = part.wanted or self._segments.is_look_due
            if not is_to_wait or len(self.index):
                return False
            if not await self._segments.are_worth_it(asked):
                return False
        made = await self._segments.inflated(asked)
        if made is None:
            return False
        span, data = made
        part.write(data[asked.start - span.start : asked.stop - span.start])
        await self._output.keep(span, data)
        return True

    def _check(self, at: int, part: Part) -> None:
        """Raise the error of a damaged member; stop a prefetch beyond a stream's end."""
        if self._damage is not None:
            raise copied(self._damage) from self._damage
        if self.ends_at is not None and at >= self.ends_at:
            if part.wanted:
                raise self.error(DamagedArchive, f"it ends at byte {self.ends_at}", _CURE)
            part.stop()

    async def _is_kept_now(self, at: int) -> bool:
        """Whether the disk has the byte; finds out the version that it is to be of."""
        was_pinned = self.pin.version is not None
        await self._packed.settle_known()
        if self.pin.version is not None and self._has_points:
            await self._kept_states.load(self.pin.version)
        if not was_pinned and self._output.keeper is not None:
            await self._output.keeper.ready()
        return self._output.holds(at)

    def _is_worth(self, at: int, run: Run | None) -> bool:
        """Whether a prefetch from `at` on is worth inflating: what leads to it is inflated, too."""
        if run is None:  # those ahead of a reader who begins come with its first read
            return self._way_to(at)[0] == 0 and not self._runs and at <= FAR_BYTES
        return run.is_steady and at - run.out_at <= FAR_BYTES

    def _chosen(self, at: int) -> Run | None:
        """The run that the bytes from `at` on should come from, if it runs already."""
        point = self._segments.start(at) or self.index.before(at)
        running = [run.out_at for run in self._runs if not run.is_over and run.leads_to(at)]
        start = choose(at, running, point.out_at if point is not None else None, self._span)
        ways = [run for run in self._runs if run.out_at == start and run.leads_to(at)]
        return ways[0] if start in running and ways else None

    @property
    def _span(self) -> int:
        return self.packing.span or CHUNK_BYTES

    def _way_to(self, at: int) -> tuple[int, int]:
        """The start of a run to `at`, and up to where its output can be checked, or 0."""
        point = self.index.before(at)
        start = stop = point.out_at if point is not None else 0
        ready = self._segments.start(at)
        if ready is not None and ready.out_at > start:
            return ready.out_at, 0
        while (after := self.index.after(stop)) and after.checks and after.after == stop:
            stop = after.out_at
        return start, stop if stop > at else 0

    def _start(self, at: int) -> Run:
        """Start a run from the last point before `at`, or from the beginning."""
        out_at, checks_up_to = self._way_to(at)
        begins = self._segments.start(at)
        run = Run(
            self, out_at,
            checks_up_to=checks_up_to,
            packed_bytes=self._packed.extent.packed_size,
            buffers=self._inflaters.buffers,
            run=self._inflaters.run,
            threads=self._inflaters.threads,
            behind=self._inflaters.behind,
            rest=self._rest,
            begins=begins if begins is not None and begins.out_at == out_at else None,
        )  # fmt: skip
        self._runs.append(run)
        self._output.is_going_on = True
        self._inflaters.start(run)
        return run

    async def _rest(self, run: Run) -> bool:
        return await self._inflaters.rest(run, self._unlock)

    # waiting -------------------------------------------------------------------------------

    async def _wait(self, waiter: _OutputWaiter, began_s: float) -> None:
        """Wait until the part has its bytes, or its run is over."""
        run, part = waiter.run, waiter.part
        self._waiters.append(waiter)
        run.woken.set()  # it is wanted further
        try:
            while not waiter.event.is_set():
                with trio.move_on_after(_TICK_S):
                    await waiter.event.wait()
                    break
                if part.wanted:
                    self._judge(waiter, began_s)
        finally:
            self._waiters.remove(waiter)
            if part.wanted and not part.has(waiter.stop):
                is_late = trio.current_time() >= part.deadline_s
                run.goal = max(run.goal, waiter.stop) if is_late else run.goal
        if run.failure is not None and not part.has(waiter.stop):
            raise copied(run.failure) from run.failure

    def _judge(self, waiter: _OutputWaiter, began_s: float) -> None:
        """Tell a reader at once that its bytes take longer than a read may."""
        run, now_s = waiter.run, trio.current_time()
        run.look()
        rate = run.flow.bytes_s(now_s)
        to_go, longest_s = run.to_go(waiter.stop), self._inflaters.longest_s
        needed_s = lacking_s(to_go, rate)
        if needed_s is None:
            return
        error = self.error(
            DeadlineExceeded,
            f"unpacking it up to there takes about {max(needed_s, 1):.0f} s more, and goes on",
            "read it again then, or let `up42fs warm` unpack it first",
        )
        note(error)
        if is_too_long(to_go, rate, now_s - began_s, longest_s):
            run.goal = max(run.goal, waiter.stop)
            raise error

    def _is_active(self, run: Run) -> bool:
        return max(self.wanted_up_to(run), run.goal) > run.out_at

    # this mount's turn ---------------------------------------------------------------------

    @property
    def _has_points(self) -> bool:
        return self.size > LEAST_POINTED_BYTES

    async def _may_begin(self, at: int) -> bool:
        """Whether to inflate from `at` on; another mount may be at it, whose bytes are waited for.

        What can be checked is inflated soon in any case: the other mount has passed it.
        """
        version, keeper, turn = self.pin.version, self._output.keeper, self._turn
        if turn is None or keeper is None or version is None or not version.tells_apart:
            return True
        if not self._has_points:
            return True
        is_passed = bool(self._way_to(at)[1])
        is_on = await turn.begin(keeper, at, PASSED_S if is_passed else OTHERS_S)
        if is_on:
            await self._kept_states.load(version, again=True)  # those of the other mount
        return is_on

    def _kept(self) -> None:
        if not self._runs:
            self._unlock()

    def _unlock(self) -> None:
        # Others find on disk what is on its way there.
        is_needed = not self._output.is_kept or any(map(self._is_active, self._runs))
        if self._turn is not None and not is_needed:
            self._turn.end()

    # for runs ------------------------------------------------------------------------------

    async def started(self, run: Run) -> tuple[State, Inflow]:
        """See `run.Owner`."""
        packed = self._packed
        inflow = await packed.open()
        try:
            if run.begins is not None:
                start = run.begins
                return State(start.out_at, start.in_at, start.in_at, crc32=None), inflow
            if run.out_at:
                known = self.index.before(run.out_at)
                point = known and await self._window(known)
                if point is None or point.out_at != run.out_at:
                    raise LostPointError
                packed.data_at = point.data_at
                return point, inflow
            wanted = max((one.stop for one in self._waiters if one.run is run), default=0)
            data_at = await packed.find_data(inflow, packed.limit(wanted, self.packing.size))
            return State(0, data_at, data_at), inflow
        except BaseException:
            inflow.close()
            raise

    async def _window(self, point: State) -> State | None:
        if point.crc32 is None:
            return point  # the file's own, without a window
        return await self._kept_states.window(point)

    async def inflow(self) -> Inflow:
        """See `run.Owner`."""
        return await self._packed.open()

    def begun(self, run: Run) -> None:
        """See `run.Owner`."""
        self._inflaters.recount(run)

    def wanted_up_to(self, run: Run) -> int:
        """See `run.Owner`."""
        return max((one.stop for one in self._waiters if one.run is run), default=0)

    def deliver(self, span: ByteRange, data: memoryview) -> None:
        """See `run.Owner`."""
        for waiter in self._waiters:
            rest = lacking(waiter.part, waiter.stop)
            if rest is not None and span.start <= rest.start < span.stop:
                stop = min(rest.stop, span.stop)
                waiter.part.write(data[rest.start - span.start : stop - span.start])
            if waiter.part.stopped or waiter.part.has(waiter.stop):
                waiter.event.set()

    async def keep(self, span: ByteRange, data: memoryview) -> None:
        """See `run.Owner`."""
        await self._output.keep(span, data)

    def made(self, points: list[State]) -> None:
        """See `run.Owner`."""
        for point in points if self._has_points else ():
            self._kept_states.add(point, self.pin.version)

    def ended(self, run: Run, error: Exception | None) -> None:
        """See `run.Owner`."""
        self._runs.remove(run)
        self._inflaters.ended(run)
        is_doubtful = isinstance(error, DamagedStreamError) and run.is_from_point
        if isinstance(error, UntrueError) or (is_doubtful and not self._is_doubted):
            # The next run begins at the member's beginning, and shows whether it is damaged.
            self._is_doubted = True
            self._kept_states.drop()
            self._segments.distrust()
        elif isinstance(error, DamagedStreamError):
            self._damage = self.error(DamagedArchive, str(error), _CURE)
            self._drop()
        elif isinstance(error, UnsupportedMethodError):
            self._damage = self.error(CannotUnpack, str(error), "unpack the delivered file instead")
        elif isinstance(error, Up42fsError):
            run.failure = error
        elif error is None and run.is_complete and self.packing.size is None:
            is_last = run.begins is None or run.out_at == self._segments.size
            self.ends_at = run.out_at if is_last else self.ends_at
        if isinstance(error, VersionChanged):
            self._kept_states.close()
        for waiter in self._waiters:
            if waiter.run is run:
                waiter.event.set()
        self._output.is_going_on = bool(self._runs)
        self._output.thin()
        self._unlock()

    def _drop(self) -> None:
        """Drop what was kept of a damaged member: nothing shows which bytes of it are right."""
        self._output.clear()
        self._kept_states.drop()
        with suppress(Up42fsError):
            self._on_damaged()
