"""The packed bytes of one member, in order, from the archive's own fetcher.

Knows offsets in the archive and how far the inflater is expected to get; nothing of engines.

Theory. The bytes are used once, so they pass: they are not kept on disk, where the inflated ones
are, and those of a large member leave memory soon after they are used. Read-ahead ends where the
reader's bytes are expected to end (`limit`): a jump costs what lies between its point and its end,
and nothing more.

The first request goes alone: others beside it would share its line, and delay the bytes that the
reader waits for. Once its bytes arrive, as many are kept *coming* as were read, twice over, up to
`COMING_BYTES`. What counts is what has not arrived yet, and not how far ahead of the inflater it
lies: requests that share a line end at about the same time, and if new ones waited for the
inflater to use those, the line would lie idle meanwhile.

For the same reason what the reader may want next (`spare`) is requested when few of the bytes that
it waits for are still to come: earlier it would arrive together with those, delay them, and leave
the line idle when the reader goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from up42fs.ranges import align, divide, intersect
from up42fs.readahead.plan import Access, Coverage, Plan
from up42fs.readahead.tiff import Get
from up42fs.store.fetcher import PASS_BYTES
from up42fs.store.handle import OpenFile
from up42fs.types import ByteRange, Bytes

MIB = 1 << 20
#: Bytes waited for at once: few, so that the inflater works while bytes come.
STEP_BYTES = 256 << 10
#: Bytes waited for at least: more requests would cost more than the bytes.
LEAST_STEP_BYTES = 32 << 10
#: A small member has at most so many packed bytes. Blocks of as many are requested for it: they
#: hold what stands around it in the archive.
BLOCK_BYTES = 128 << 10
#: The largest requests, and the shortest that is worth a round trip, bytes.
PART_BYTES = 4 * MIB
LEAST_BYTES = 128 << 10
#: The most that is on its way at once, and the most ahead of the inflater, with what has arrived.
COMING_BYTES = 16 * MIB
AHEAD_BYTES = 32 * MIB
#: What may be wanted next is requested when so much of what is wanted is still coming: about what
#: a line of 200 Mbit/s carries while the request is on its way.
LAST_BYTES = 3 * MIB // 2
#: The largest request for the bytes between ready points, which several parts wait for.
TOGETHER_BYTES = 8 * MIB


class Passing(Access):
    """Plans the requests for bytes that are read once, in order, up to `limit`."""

    is_passing = True

    def __init__(self, size: int, *, is_small: bool = False) -> None:
        """`is_small`: its neighbours come along, since they will be read next."""
        super().__init__(size)
        self._is_small = is_small
        #: The offset behind the last byte that is expected to be needed.
        self.limit = 0
        #: Bytes behind it that a reader may want next, and the end of all that can be wanted.
        self.spare = 0
        self.end = size
        #: Bytes that were requested and have not arrived, by now.
        self.coming = 0
        #: The end of what was requested.
        self.asked_up_to = 0
        self._from: int | None = None

    @property
    def reads_ahead(self) -> bool:
        """True: it takes a share of the memory for read-ahead."""
        return True

    @property
    def run_bytes(self) -> int:
        """So much that bytes of a large member leave memory behind it."""
        return 0 if self._is_small else PASS_BYTES

    def learn(self, near: ByteRange, get: Get) -> None:
        """Learn nothing: packed bytes have no structure."""

    def reads_again(self, start: int, stop: int, have: Coverage) -> bool:  # noqa: ARG002
        """True: bytes in memory need no plan."""
        return True

    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan:
        """The missing bytes of `read`, and ahead of it up to `limit` as far as memory allows."""
        limit = min(max(self.limit, read.stop), self._size)
        if self._is_small:
            block = align(ByteRange(read.start, limit), BLOCK_BYTES, self._size)
            return Plan(tuple(have.missing(block)) if have.missing(read) else ())
        if self._from is not None and self._from <= read.start <= self.asked_up_to:
            stop = max(read.stop, self._next_stop(read, self._from, limit, window_bytes))
        else:
            self._from = self.asked_up_to = read.start
            stop = min(limit, max(read.stop, read.start + PART_BYTES))
        known, self.asked_up_to = self.asked_up_to, max(self.asked_up_to, stop)
        if stop <= known and not have.missing(read):
            return Plan()
        missing = have.missing(ByteRange(read.start, max(stop, known)))
        pieces = [piece for hole in missing for piece in divide(hole, PART_BYTES)]
        demand = tuple(piece for piece in pieces if intersect(piece, read))
        return Plan(demand, tuple(piece for piece in pieces if piece not in demand))

    def _next_stop(self, read: ByteRange, began: int, limit: int, window_bytes: int) -> int:
        """How far to request, with what was requested before."""
        asked = self.asked_up_to
        window_bytes = max(window_bytes, len(read))
        coming = min(max(PART_BYTES, 2 * (read.stop - began)), COMING_BYTES, window_bytes)
        if self.coming > coming // 2:
            return asked
        most = read.start + min(window_bytes, AHEAD_BYTES)
        stop = min(asked + coming - self.coming, most, limit)
        if self.end - stop < LEAST_BYTES and stop == limit:
            stop = min(self.end, most)  # a rest that is left behind costs a round trip at the end
        # The limit is an estimate that grows a little with each read: that is no reason to request.
        least = min(LEAST_BYTES if stop == limit else PART_BYTES // 2, coming // 2)
        is_rest = stop == self.end and stop > asked
        if stop - asked >= least or read.stop > asked or is_rest:
            return stop
        if self.coming <= LAST_BYTES:
            stop = min(limit + self.spare, most, self.end)
            if stop - asked >= max(LEAST_BYTES, self.spare // 4):
                return stop
        return asked

    def on_close(self) -> Plan:
        """Cancel what was requested ahead."""
        if self._from is None or self.asked_up_to <= self._from:
            return Plan()
        return Plan(cancel=(ByteRange(self._from, self.asked_up_to),))


class Adjoining(Passing):
    """Plans the requests for bytes between ready points: one request for adjacent ones."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        #: The offset from which on bytes are due up to `limit`.
        self.first = 0

    @property
    def run_bytes(self) -> int:
        """No run: memory keeps the bytes until others need it."""
        return 0

    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan:
        """The missing bytes of `read`, and what is due around them without a gap."""
        most = max(len(read), min(TOGETHER_BYTES, window_bytes))
        # Parts begin in any order, so what is due is divided from its front on.
        start = min(read.start, self.first + (read.start - self.first) // most * most)
        stop = max(read.stop, min(self.limit, start + most, self._size))
        self._from = start if self._from is None else min(self._from, start)
        self.asked_up_to = max(self.asked_up_to, stop)
        holes = have.missing(ByteRange(start, stop))
        return Plan(tuple(hole for hole in holes if intersect(hole, read)))


class Inflow:
    """Reads the packed bytes `[start, stop)` of an archive that begins at `base` of a file."""

    def __init__(
        self,
        open_file: Callable[[Passing], OpenFile],
        size: int,
        base: int = 0,
        *,
        is_small: bool = False,
        is_scattered: bool = False,
    ) -> None:
        """`size` is that of the whole file, not only of the archive in it.

        `is_scattered`: it is read by `exactly` alone, here and there.
        """
        together = Adjoining(size) if is_scattered else None
        self._access, self._together = together or Passing(size, is_small=is_small), together
        self.file = open_file(self._access)
        self._base = base

    async def read(self, at: int, most: int, limit: int, spare: int = 0) -> Bytes:
        """The next bytes from `at` on, at least one and at most `most`.

        `limit` is where the reader is expected to end, and `spare` how much more it may want next.
        Raises an `Up42fsError`.
        """
        here = self.here(at)
        access = self._access
        access.limit, access.spare = self._base + limit, spare
        access.end = self._base + max(at + most, limit)
        access.coming = self.coming(at)
        step = min(STEP_BYTES, most, max(here, LEAST_STEP_BYTES))
        return await self.file.read(self._base + at, step)

    async def exactly(self, span: ByteRange, due: ByteRange | None = None) -> Bytes:
        """All bytes of a range of the archive; raises an `Up42fsError`.

        `due` are those that will be needed around them.
        """
        due = due or span
        self._access.limit = self._access.end = self._base + max(span.stop, due.stop)
        if self._together is not None:
            self._together.first = self._base + min(span.start, due.start)
        return await self.file.read(self._base + span.start, len(span))

    def here(self, at: int) -> int:
        """Bytes from `at` on that have come, wherever they lie."""
        start, stop = self._base + at, self._access.asked_up_to
        return self.file.here(ByteRange(start, stop)) if start < stop else 0

    def coming(self, at: int) -> int:
        """Bytes from `at` on that were requested, and have not come."""
        return max(0, self._access.asked_up_to - self._base - at - self.here(at))

    def close(self) -> None:
        """Cancel what was requested ahead."""
        self.file.close()
