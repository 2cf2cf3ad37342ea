"""Copies an object's bytes to a file: from the socket to the disk, past memory and read-ahead.

Theory. A copy reads each byte once, so a part in memory for it costs a copy within the process, a
page to fill, and the way through three threads. Here libcurl writes each range to its place in the
file (`lanes`): several at once, since a connection may be limited. Ranges are few, because each
costs as much processor time as moving some megabytes. They take slots as read-ahead does, so
readers go first. Links, retries, races, the version pin and the budget are those of any part.

A range has no deadline of its own, since it is long and lines are slow: it fails where none of its
bytes came for as long as a read may take. It may be filled in any order with others, so a file is
whole only when all are; the caller keeps it out of sight until then.

Not for objects with a disk cache: what a copy brings is kept there for the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import trio

from up42fs import supervise
from up42fs.deadlines import watched
from up42fs.errors import DeadlineExceeded, Unavailable, Up42fsError, VersionChanged
from up42fs.ranges import split, subtract
from up42fs.store.buffers import Buffers
from up42fs.store.disk.layered import ObjectSource
from up42fs.store.http.tally import Tally
from up42fs.store.lanes import FilePlace, Lane
from up42fs.store.part import Carrier, Part
from up42fs.store.slots import Slots
from up42fs.types import ByteRange, Bytes

#: Ranges under way at once: a connection each.
MOST_LANES = 8
#: The shortest range that a copy is divided into, as for any scan, and the longest, bytes.
LEAST_BYTES, MOST_BYTES = 4 << 20, 16 << 20
#: The most time that a range may take however slow the line, seconds.
MOST_S = 24 * 3600.0
#: How often is looked whether bytes came, seconds.
_LOOK_S = 1.0


def range_bytes(size: int) -> int:
    """The length of the ranges that `size` bytes are copied in."""
    return min(max(-(-size // MOST_LANES), LEAST_BYTES), MOST_BYTES)


def lanes_for(size: int) -> int:
    """The number of ranges under way at once for `size` bytes."""
    return min(MOST_LANES, -(-size // range_bytes(size))) if size else 0


class Progress:
    """How many bytes have come. Any thread may read it."""

    def __init__(self) -> None:
        self._parts: list[Part] = []

    @property
    def filled(self) -> int:
        """Bytes that are in the file."""
        return sum([part.filled for part in self._parts])

    def add(self, part: Part) -> None:
        """Count the bytes of `part` too."""
        self._parts.append(part)


class FilePart(Part):
    """A part whose bytes go to their place in a file."""

    __slots__ = ("_lane", "fault", "over")

    is_in_file = True

    def __init__(self, span: ByteRange, lane: Lane, tally: Tally) -> None:
        # Somebody waits for it: it is retried, and hedged, as what a reader waits for.
        super().__init__(span, None, wanted=True, deadline_s=trio.current_time() + MOST_S)
        self.tally = tally
        self.fault: Exception | None = None
        #: Set once nothing will be written any more.
        self.over = trio.Event()
        self._lane = lane

    def begin(self, buffers: Buffers) -> None:
        """Nothing to allocate."""

    def write(self, data: Bytes) -> bool:
        """Append `data`; False if the part was stopped, or `data` does not fit. Any thread."""
        if self.stopped or self.filled + len(data) > len(self.span):
            return False
        try:
            self._lane.write(data, self.span.start + self.filled)
        except OSError as error:
            self._fail(error)
            return False
        return self.fill(len(data))

    def space(self) -> FilePlace:
        """The place of the missing bytes; call `fill` afterwards."""
        return FilePlace(self._lane, self.span.start + self.filled, self._fail)

    def finish(self, error: Up42fsError | None) -> None:
        """End the part; what is in the file stays there."""
        self.is_over = True
        self.stop()
        self.error = error

    def abandon(self) -> None:
        """A late writer may still write: give up, since nobody else may write there."""
        self._fail(Unavailable("the disk did not take the bytes in time; try again"))

    def _fail(self, error: Exception) -> None:
        self.fault = self.fault or error
        self.stop()


class Copying:
    """Copies ranges of one object. Used once."""

    def __init__(
        self,
        source: ObjectSource,
        slots: Slots[tuple[Carrier, Part]],
        tally: Tally,
        missing: Callable[[ByteRange], list[ByteRange]],
        *,
        read_deadline_s: float,
        on_changed: Callable[[VersionChanged], None],
    ) -> None:
        self._source = source
        self._slots = slots
        self._tally = tally
        self._missing = missing
        self._read_deadline_s = read_deadline_s
        self._on_changed = on_changed
        self._error: Exception | None = None

    async def run_all(
        self, size: int, lanes: Sequence[Lane], progress: Progress
    ) -> list[ByteRange]:
        """Copy what memory lacks of `size` bytes; return the ranges that it has, or will have.

        Nothing is written any more once this returns or raises, except by a thread that is stuck
        in a write. Raises an `Up42fsError`, or the OSError of the file's disk.
        """
        whole, length = ByteRange(0, size), range_bytes(size)
        holes = self._missing(whole)
        pieces = iter([piece for hole in holes for piece in split(hole, length)])
        async with trio.open_nursery() as nursery:
            for lane in lanes:
                nursery.start_soon(self._work, pieces, lane, progress, nursery.cancel_scope)
        if self._error is not None:
            if isinstance(self._error, VersionChanged):
                self._on_changed(self._error)
            raise self._error
        return subtract(whole, holes)

    async def _work(
        self,
        pieces: Iterator[ByteRange],
        lane: Lane,
        progress: Progress,
        scope: trio.CancelScope,
    ) -> None:
        for span in pieces:
            part = FilePart(span, lane, self._tally)
            progress.add(part)
            self._slots.submit((self, part), urgent=False)
            try:
                await part.over.wait()
            except trio.Cancelled:
                await self._stop(part)
                raise
            error = part.fault or part.error
            if error is None and part.missing is not None:
                error = self._source.error(DeadlineExceeded, "its bytes did not come in time")
            if error is not None:
                self._error = self._error or error
                scope.cancel()
                return

    async def _stop(self, part: FilePart) -> None:
        part.stop()
        if not self._slots.withdraw((self, part)):
            part.scope.cancel()
            with trio.CancelScope(shield=True):  # not long: see `CurlTransport.fetch`
                await part.over.wait()

    async def run(self, part: Part) -> None:
        """Fill `part` to its end; the slots call it."""
        assert isinstance(part, FilePart), "it was submitted here"
        error: Up42fsError | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look, part)
                with watched(part.trouble), part.scope:
                    await self._source.fetch(part)
                if part.scope.cancelled_caught and not part.stopped:
                    error = part.trouble.told() or self._source.error(
                        DeadlineExceeded, f"no bytes came for {self._read_deadline_s:.0f} s"
                    )
                nursery.cancel_scope.cancel()
        except Exception as caught:
            failure = supervise.failure(caught, "copying")
            error = failure if _is_ours(caught) else self._source.error(type(failure), str(failure))
        finally:
            part.finish(error)
            part.over.set()

    async def _look(self, part: FilePart) -> None:
        """Give a range that grows more time."""
        filled = -1
        while True:
            if part.filled != filled:
                filled = part.filled
                part.scope.deadline = trio.current_time() + self._read_deadline_s
            await trio.sleep(_LOOK_S)


def _is_ours(error: Exception) -> bool:
    return any(isinstance(leaf, Up42fsError) for leaf in supervise.leaves(error))
