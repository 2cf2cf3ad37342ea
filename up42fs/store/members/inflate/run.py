"""One inflater on its way through a member: it gets packed bytes and passes output on.

Knows how far it is wanted and how far it got; nothing of parts, points' places or other runs.

Theory. A run inflates as long as a reader wants bytes ahead of it, or it has a *goal*, which is set
when a reader was told to come back later. Then it rests, with its state, for the reader's next
bytes. Output is made by chunks: inflated in a thread, passed on at once, kept when the chunk is
whole. Output that can be checked, because a first pass left checksums of it, is passed on once it
is. The last chunk waits for the member's end, which shows whether the whole is right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

import trio

from up42fs import supervise
from up42fs.archive.slots import MIB, Piece, State, States
from up42fs.errors import Up42fsError
from up42fs.store.buffers import Buffers
from up42fs.store.disk.cache import Runner
from up42fs.store.members.inflate.engines import DamagedStreamError, UnsupportedMethodError
from up42fs.store.members.inflate.inflater import (
    Inflater,
    Packing,
    UntrueError,
    check,
)
from up42fs.store.members.inflate.inflow import Inflow
from up42fs.store.members.inflate.patience import Flow
from up42fs.store.members.inflate.ready import Start
from up42fs.types import ByteRange

#: Output that is made in one go at most, bytes.
CHUNK_BYTES = MIB
#: A run from a point has nothing ahead of its readers before it made so much output, bytes.
STEADY_BYTES = 4 * MIB
#: Packed bytes beyond those that a piece of output is expected to need, bytes.
SPARE_BYTES = 128 << 10
#: Likewise at the end of a long way: readers that jumped there mostly go on, and meanwhile the line
#: would lie idle. At most so many, and a part of the way. They are requested last of all
#: (`Passing.spare`), since they would share the line with the bytes that the reader waits for.
_FAR_SPARE_BYTES = 2 * MIB
_FAR_SHARE = 64
#: A run that rests gives up at once what was requested for it, if more than this is to come, bytes.
_KEPT_COMING_BYTES = 3 * MIB
#: Likewise between two points, where it is better known.
_POINT_SPARE_BYTES = 32 << 10


def expected(packed_bytes: float) -> int:
    """The bytes to request for output that needs `packed_bytes` on average."""
    return int(packed_bytes + min(packed_bytes / 10, 2 * SPARE_BYTES)) + SPARE_BYTES


def spare(way_bytes: float) -> int:
    """The packed bytes to request behind a way of so many, for what its reader wants next."""
    return int(min(way_bytes / _FAR_SHARE, _FAR_SPARE_BYTES))


class LostPointError(Exception):
    """The window of the run's point is not there any more."""


class Owner(Protocol):
    """The packed member that a run belongs to."""

    packing: Packing

    @property
    def index(self) -> States:
        """The member's points."""

    async def started(self, run: Run) -> tuple[State, Inflow]:
        """The start of the run, with its window, and its packed bytes; raises `Up42fsError`."""

    def begun(self, run: Run) -> None:
        """The run has its engine, and takes its memory."""

    async def inflow(self) -> Inflow:
        """Its packed bytes once more, after a rest."""

    def deliver(self, span: ByteRange, data: memoryview) -> None:
        """Pass output on to the parts that wait for it."""

    async def keep(self, span: ByteRange, data: memoryview) -> None:
        """Keep output on disk."""

    def made(self, points: list[State]) -> None:
        """Keep points."""

    def wanted_up_to(self, run: Run) -> int:
        """The offset up to which readers wait for output of the run; 0 for none."""

    def ended(self, run: Run, error: Exception | None) -> None:
        """The run is over."""


class Run:
    """One run. `packed_bytes` of the member are expected to become `size` bytes of output."""

    def __init__(
        self,
        owner: Owner,
        out_at: int,
        *,
        checks_up_to: int,
        packed_bytes: int,
        buffers: Buffers,
        run: Runner,
        threads: trio.CapacityLimiter,
        behind: trio.Semaphore,
        rest: Callable[[Run], Awaitable[bool]],
        begins: Start | None = None,
    ) -> None:
        """`checks_up_to`: there its output ends, which can be checked; 0: it makes points.

        `begins` is its start, if that is a point which the file brought along.

        `rest` returns once the run is wanted again, or False when its state shall go.
        """
        self.out_at = out_at
        self.checks_up_to = checks_up_to
        self.goal = 0
        self.flow = Flow()
        self.is_over = False
        self.is_from_point = out_at > 0
        #: The error that its readers get.
        self.failure: Up42fsError | None = None
        #: Set when the run is wanted again while it rests, or shall end.
        self.woken = trio.Event()
        self.is_evicted = False
        self._owner = owner
        self._packed_bytes = packed_bytes
        self.begins = begins
        self._buffers = buffers
        self._run = run
        self._threads = threads
        self._behind = behind
        self._rest = rest
        self._inflater: Inflater | None = None
        self._inflow: Inflow | None = None
        self._data = memoryview(b"")
        self._data_is_last = False
        self._begun = (out_at, 0)  # output and input offsets of its start
        self._scope = trio.CancelScope()

    # being wanted --------------------------------------------------------------------------

    def leads_to(self, at: int) -> bool:
        """Whether its output comes to an offset."""
        stop = self.begins.out_stop if self.begins is not None else self.checks_up_to
        return not self.is_over and self.out_at <= at < (stop or at + 1)

    @property
    def is_complete(self) -> bool:
        """Whether it reached the member's end."""
        return self._inflater is not None and self._inflater.is_over

    def evict(self) -> None:
        """End it, if it rests; it ends after its chunk otherwise."""
        self.is_evicted = True
        self.woken.set()

    def cancel(self) -> None:
        """End it now."""
        if self._inflater is not None:
            self._inflater.is_stopped = True
        self._scope.cancel()

    @property
    def held_bytes(self) -> int:
        """Memory that it takes, bytes."""
        return CHUNK_BYTES + (self._inflater.held_bytes if self._inflater is not None else 0)

    @property
    def is_steady(self) -> bool:
        """Whether readers have followed it for long enough that more is worth having ahead."""
        return not self.is_from_point or self.out_at - self._begun[0] >= STEADY_BYTES

    def to_go(self, out_at: int) -> int:
        """Packed bytes to come, about, until output reaches an offset."""
        return max(0, self._expected(out_at) - self._in_at - self._here)

    @property
    def _in_at(self) -> int:
        return self._inflater.in_at if self._inflater is not None else 0

    @property
    def _packing(self) -> Packing:
        packing = self._owner.packing
        if self.begins is None:
            return packing
        return replace(packing, size=self.begins.out_stop, crc32=None)

    @property
    def _end_at(self) -> int:
        if self.begins is not None:
            return self.begins.in_stop
        return (self._inflater.data_at if self._inflater is not None else 0) + self._packed_bytes

    def _expected(self, out_at: int) -> int:
        """The offset of the packed bytes that output up to `out_at` needs, about."""
        index = self._owner.index
        point = index.after(out_at - 1)
        if point is not None:
            before, piece = index.before(out_at - 1), index.piece(out_at - 1)
            if before is None or piece is None:
                return point.in_at
            share = (piece.stop - before.out_at) / (point.out_at - before.out_at)
            length = int((point.in_at - before.in_at) * share * 1.02) + _POINT_SPARE_BYTES
            return min(before.in_at + length, point.in_at)
        made, used = self.out_at - self._begun[0], self._in_at - self._begun[1]
        size = self._packing.size
        ratio = used / made if made >= MIB else self._packed_bytes / size if size else 1.0
        return min(self._end_at, self._in_at + expected((out_at - self.out_at) * ratio))

    # going on ------------------------------------------------------------------------------

    async def go(self) -> None:
        """Inflate as far as anybody wants, until the end."""
        error: Exception | None = None
        try:
            with self._scope:
                await self._go()
        except (Up42fsError, DamagedStreamError, UntrueError) as caught:
            error = caught
        except (UnsupportedMethodError, LostPointError) as caught:
            error = caught
        except Exception as caught:
            supervise.report(self.go, caught)
            error = supervise.failure(caught, "unpacking")
        finally:
            self.is_over = True
            self._close()
            self._owner.ended(self, error)

    async def _go(self) -> None:
        start, self._inflow = await self._owner.started(self)
        self._begun = (start.out_at, start.in_at)
        self._inflater = Inflater(
            self._packing, start, makes_points=not self.checks_up_to,
            prefix=self.begins.prefix if self.begins is not None else None,
        )  # fmt: skip
        self._owner.begun(self)
        while not self._inflater.is_over and not self.is_evicted:
            wanted = self._owner.wanted_up_to(self)
            if max(wanted, self.goal) <= self.out_at:
                if self._inflow is not None and self._coming > _KEPT_COMING_BYTES:
                    self.pause()
                if not await self._rest(self):
                    return
                self.flow.begin()
                continue
            pieces = self._pieces()
            if self.checks_up_to and not pieces:
                return  # what follows cannot be checked: another run makes points of it
            if wanted <= self.out_at:
                async with self._behind:
                    await self._chunk(pieces, self.goal)
            else:
                await self._chunk(pieces, max(wanted, self.goal))

    def pause(self) -> None:
        """Give up what was requested for it: nobody wants it for the time being."""
        if self._inflow is not None:
            self._inflow.close()
            self._inflow = None
        self._data, self._data_is_last = memoryview(b""), False

    def _close(self) -> None:
        self.pause()
        if self._inflater is not None:
            self._inflater.close()

    def _pieces(self) -> list[Piece]:
        """The pieces of the next output that can be checked, at most a chunk."""
        pieces: list[Piece] = []
        at = self.out_at
        while self.checks_up_to and (piece := self._owner.index.piece(at)) is not None:
            if piece.start != at or piece.stop - self.out_at > CHUNK_BYTES:
                break
            pieces.append(piece)
            at = piece.stop
        return pieces

    async def _chunk(self, pieces: list[Piece], wanted: int) -> None:
        """Make output up to `wanted`, or as much of it as fits a chunk."""
        start, size = self.out_at, self._packing.size
        if pieces:
            needed = [piece for piece in pieces if piece.start < wanted]
            pieces, stop = needed, needed[-1].stop
        else:
            stop = min(wanted, start + CHUNK_BYTES)
        stop = min(stop, size) if size is not None else stop
        view = self._buffers.take(stop - start)[: stop - start]
        inflater = self._inflater
        assert inflater is not None, "it has begun"
        passed = start
        while not inflater.is_over and (self.out_at < stop or self.out_at == size):
            await self._step(inflater, view[self.out_at - start :], stop)
            # The last bytes wait for the end, which shows whether the whole is right.
            is_sure = self.out_at != size or inflater.is_over
            if not pieces and is_sure and passed < self.out_at:
                self._pass_on(passed, view[passed - start : self.out_at - start])
                passed = self.out_at
        if pieces:
            check(pieces, view, start)
            self._pass_on(start, view[: self.out_at - start])
        if self.out_at > start:
            made = view[: self.out_at - start].toreadonly()
            await self._owner.keep(ByteRange(start, self.out_at), made)

    def _pass_on(self, at: int, data: memoryview) -> None:
        self._owner.deliver(ByteRange(at, at + len(data)), data.toreadonly())

    async def _step(self, inflater: Inflater, into: memoryview, stop: int) -> None:
        """Inflate what is here, or get more."""
        if not len(self._data) and not self._data_is_last:
            self._data = await self._more(stop)
            self._data_is_last = inflater.in_at + len(self._data) >= self._end_at
        data, is_last = self._data, self._data_is_last
        used: int = await self._run(
            lambda: inflater.advance(data, into, is_last=is_last)[0], self._threads
        )
        self._data = data[used:]
        self.out_at = inflater.out_at
        if inflater.points:
            points, inflater.points = inflater.points, []
            self._owner.made(points)
        self.look()

    def look(self) -> None:
        """Note how many packed bytes have come by now."""
        self.flow.note(trio.current_time(), self._in_at + self._here)

    @property
    def _here(self) -> int:
        """Packed bytes that are in memory, and not used yet."""
        return self._inflow.here(self._in_at) if self._inflow is not None else 0

    @property
    def _coming(self) -> int:
        """Packed bytes that were requested, and have not come."""
        return self._inflow.coming(self._in_at) if self._inflow is not None else 0

    async def _more(self, stop: int) -> memoryview:
        if self._inflow is None:
            self._inflow = await self._owner.inflow()
        at, end = self._in_at, self._end_at
        if at >= end:
            return memoryview(b"")
        # Goals and readers may want more than this chunk: what they need is requested ahead.
        wanted = max(stop, self.goal, self._owner.wanted_up_to(self))
        limit = min(end, self._expected(wanted))
        # Between points it is known which bytes lead where, and what is read beyond is a guess.
        more = 0 if self.checks_up_to else spare(limit - self._begun[1])
        return memoryview(await self._inflow.read(at, end - at, limit, more))
