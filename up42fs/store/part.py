"""One range of one object in memory: filled from its front, waited for by byte count.

`fetcher` has the theory.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import trio

from up42fs.deadlines import Trouble
from up42fs.errors import Up42fsError
from up42fs.store.buffers import Buffers, capacity
from up42fs.store.lanes import FilePlace
from up42fs.types import ByteRange, Bytes

#: Whether bytes were read before is remembered by pages of 1 << PAGE_BITS bytes.
PAGE_BITS = 12
_LAST_IN_PAGE = (1 << PAGE_BITS) - 1


class Keeper(Protocol):
    """The owner of a part."""

    def let_go(self, part: Part) -> None:
        """Forget `part`, which was evicted."""

    def may_go(self) -> None:
        """Note that a part that had to stay can be evicted now."""


class Carrier(Hashable, Protocol):
    """What fills parts once they have a slot."""

    async def run(self, part: Part) -> None:
        """Fill `part` to its end."""


class Counts(Protocol):
    """The account of what is requested for one reader."""

    def count(self, name: str, amount: int = 1) -> None:
        """Add `amount` to counter `name`."""


@dataclass(slots=True, eq=False)
class _Waiter:
    need: int
    event: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True, eq=False)
class Part:
    """The bytes of `span`, of which the first `filled` have arrived.

    `write` may come from a worker thread; everything else belongs to the trio thread.
    """

    #: Whether the bytes go to a file, and not to memory.
    is_in_file: ClassVar[bool] = False

    span: ByteRange
    keeper: Keeper | None
    wanted: bool = field(kw_only=True)
    deadline_s: float = field(kw_only=True)
    filled: int = field(default=0, init=False)
    in_scan: bool = False  # asked by a run so long that it is read for once
    is_foreseen: bool = False  # brought by the network before anybody asked
    is_passing: bool = False  # its bytes are used once, and not kept on disk
    is_abandoned: bool = False  # its reader was interrupted, and nobody came since
    stopped: bool = False
    is_over: bool = False  # no more bytes will come
    error: Up42fsError | None = None
    trouble: Trouble = field(default_factory=Trouble)  # for a reader that times out
    pins: int = 0
    tally: Counts | None = None  # of the reader for whom it is fetched
    delivered: int = 0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    _holds: int = 0
    _pages_read: int = 0  # one bit each
    _token: trio.lowlevel.TrioToken = field(default_factory=trio.lowlevel.current_trio_token)
    _waiters: list[_Waiter] = field(default_factory=list)
    _wake_at: float = math.inf
    _view: memoryview = field(default_factory=lambda: memoryview(b""))
    _buffers: Buffers | None = None

    # filling -------------------------------------------------------------------------------

    def begin(self, buffers: Buffers) -> None:
        """Allocate the buffer; a queued part takes only its share of the budget."""
        self._buffers = buffers
        self._view = buffers.take(len(self.span))

    @property
    def missing(self) -> ByteRange | None:
        """The range still to come; None when full."""
        start = self.span.start + self.filled
        return ByteRange(start, self.span.stop) if start < self.span.stop else None

    def write(self, data: Bytes) -> bool:
        """Append `data`; False if the part was stopped or `data` does not fit. Any thread."""
        filled = self.filled
        stop = filled + len(data)
        if self.stopped or stop > len(self.span):
            return False
        self._view[filled:stop] = data
        return self.fill(len(data))

    def space(self) -> memoryview | FilePlace:
        """The place of the missing bytes: memory, one byte longer; call `fill` afterwards."""
        return self._view[self.filled :]

    def fill(self, count: int) -> bool:
        """Count the next `count` bytes as written; False if the part was stopped."""
        if self.stopped:
            return False
        stop = self.filled = min(self.filled + count, len(self.span))
        # Publish `filled` first, then read `_wake_at`: a waiter does it in the opposite order, so
        # one of the two always sees the other.
        if stop >= self._wake_at:
            try:
                self._token.run_sync_soon(self._wake, idempotent=True)
            except trio.RunFinishedError:
                return False
        return True

    def abandon(self) -> None:
        """Move to a new buffer, because a late writer may still write behind the bytes received.

        Views already handed out of the old memory lie before that writer's position, so they stay
        valid, and the old memory stays lent for as long as the writer refers to it.
        """
        assert self._buffers is not None, "it was written to"
        old, self._view = self._view, self._buffers.take(len(self.span))
        self._view[: self.filled] = old[: self.filled]

    def stop(self) -> None:
        """Accept no more bytes; readers that need them fetch them again."""
        self.stopped = True

    def finish(self, error: Up42fsError | None) -> None:
        """End the part: keep the bytes received, release the rest, wake the waiters."""
        self.is_over = True
        self.stopped = True
        self.error = error
        if 0 < self.filled < len(self.span):
            self.span = ByteRange(self.span.start, self.span.start + self.filled)
            try:
                self._view = memoryview(bytearray(self._view[: self.filled]))
            except MemoryError:  # the larger buffer stays, then
                self._view = self._view[: self.filled]
        for waiter in self._waiters:
            waiter.event.set()

    # reading -------------------------------------------------------------------------------

    def has(self, stop: int) -> bool:
        """Whether the part's bytes up to offset `stop` (or its own end) have arrived."""
        return self.filled >= min(stop, self.span.stop) - self.span.start

    async def until(self, stop: int) -> None:
        """Return once the bytes up to offset `stop` have arrived, or no more will come."""
        waiter = _Waiter(min(stop, self.span.stop) - self.span.start)
        self._waiters.append(waiter)
        self._wake_at = min(self._wake_at, waiter.need)
        try:
            if self.filled < waiter.need and not self.is_over:
                await waiter.event.wait()
        finally:
            self._waiters.remove(waiter)
            self._wake_at = min((w.need for w in self._waiters), default=math.inf)

    def view(self, span: ByteRange) -> memoryview:
        """Return a read-only view of the bytes of `span`, which have arrived; counts as a read."""
        self.delivered = min(self.filled, self.delivered + len(span))
        start = self.span.start
        self._pages_read |= _pages(span.start - start, span.stop - start)
        return self.peek(span)

    def peek(self, span: ByteRange) -> memoryview:
        """Like `view`, but not counted as delivered."""
        start = self.span.start
        return self._view[span.start - start : span.stop - start].toreadonly()

    def again(self, start: int, stop: int) -> memoryview | None:
        """Like `view` of bytes that are here and were read before; None if any was not."""
        first = self.span.start
        pages = _pages(start - first, stop - first)
        if stop - first > self.filled or pages & self._pages_read != pages:
            return None
        self.delivered = min(self.filled, self.delivered + stop - start)
        return self._view[start - first : stop - first].toreadonly()

    # keeping -------------------------------------------------------------------------------

    @property
    def held_bytes(self) -> int:
        """Bytes that count against the budget, outstanding ones included."""
        return capacity(len(self.span))

    @property
    def in_use(self) -> bool:
        """Whether it is being fetched, read or written to disk."""
        return self.pins > 0 or self._holds > 0 or not self.is_over

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for its bytes, or reads them."""
        return self.pins > 0 or bool(self._waiters)

    def hold(self) -> None:
        """Keep the bytes, and count them, until `release`: another user reads them."""
        self._holds += 1

    def release(self) -> None:
        """Undo `hold`."""
        self._holds -= 1
        if self.keeper is not None:
            self.keeper.may_go()

    def evict(self) -> None:
        """Release the bytes."""
        if self.keeper is not None:
            self.keeper.let_go(self)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if self.filled >= waiter.need:
                waiter.event.set()


def _pages(start: int, stop: int) -> int:
    """The pages that hold bytes of `[start, stop)` of a part, one bit each."""
    return (1 << (stop + _LAST_IN_PAGE >> PAGE_BITS)) - (1 << (start >> PAGE_BITS))


def covers(parts: list[Part], wanted: ByteRange) -> bool:
    """Whether `parts` hold every byte of `wanted`; a part that ended early has shrunk."""
    position = wanted.start
    for part in parts:
        if part.span.start > position or not part.has(wanted.stop):
            return False
        position = part.span.stop
    return position >= wanted.stop


@contextmanager
def pinned(parts: list[Part]) -> Iterator[None]:
    """Protect `parts` from eviction while the block runs."""
    for part in parts:
        part.pins += 1
    try:
        yield
    finally:
        for part in parts:
            part.pins -= 1
