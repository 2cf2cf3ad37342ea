"""The packed bytes of one member, in order, from the archive's own fetcher.

Knows offsets in the archive and how far the inflater is expected to get; nothing of engines.

Theory. The bytes are used once, so they pass: they are not kept on disk, where the inflated ones
are, and leave memory as soon as they are used. Read-ahead ends where the reader's
bytes are expected to end (`limit`): a jump costs what lies between its point and its end, and
nothing more. A short way is one request, a long one a few large ones in flight.
"""

from __future__ import annotations

from collections.abc import Callable

from up42fs.ranges import ceil_to, intersect, split
from up42fs.readahead.plan import Access, Coverage, Plan
from up42fs.store.handle import OpenFile
from up42fs.types import ByteRange, Bytes

MIB = 1 << 20
#: Bytes waited for at once: few, so that the inflater works while bytes come.
STEP_BYTES = 256 << 10
#: Bytes waited for at least: more requests would cost more than the bytes.
LEAST_STEP_BYTES = 32 << 10
#: The largest requests, and the first one of a long way, bytes.
PART_BYTES = 4 * MIB
FIRST_BYTES = MIB
#: The most that is requested ahead, bytes.
AHEAD_BYTES = 16 * MIB


class Passing(Access):
    """Plans the requests for bytes that are read once, in order, up to `limit`."""

    is_passing = True

    def __init__(self, size: int) -> None:
        super().__init__(size)
        #: The offset behind the last byte that is expected to be needed.
        self.limit = 0
        self._asked = ByteRange(0, 1)
        self._is_begun = False

    @property
    def reads_ahead(self) -> bool:
        """True: it takes a share of the memory for read-ahead."""
        return True

    @property
    def run_bytes(self) -> int:
        """0: the run is no sign of how the archive is read."""
        return 0

    def reads_again(self, start: int, stop: int) -> bool:  # noqa: ARG002
        """True: bytes in memory need no plan."""
        return True

    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan:
        """The missing bytes of `read`, and ahead of it up to `limit` as far as memory allows."""
        limit = min(max(self.limit, read.stop), self._size)
        ahead = max(min(window_bytes, AHEAD_BYTES), len(read))
        is_first, self._is_begun = not self._is_begun, True
        near = ByteRange(read.start, min(limit, read.start + ahead // 2))
        if not is_first and not have.missing(read) and not have.missing(near):
            return Plan()
        stop = min(limit, ceil_to(read.start + ahead, PART_BYTES))
        first = min(stop, read.start + FIRST_BYTES) if is_first else read.start
        pieces = [ByteRange(read.start, stop)] if stop - read.start <= PART_BYTES else []
        if not pieces:
            if first > read.start:
                pieces.append(ByteRange(read.start, first))
            pieces += split(ByteRange(first, stop), PART_BYTES)
        missing = [hole for piece in pieces for hole in have.missing(piece)]
        self._asked = ByteRange(read.start, max(stop, read.stop))
        demand = tuple(hole for hole in missing if intersect(hole, read))
        return Plan(demand, tuple(hole for hole in missing if hole not in demand))

    def on_close(self) -> Plan:
        """Cancel what was requested ahead."""
        return Plan(cancel=(self._asked,) if self._is_begun else ())


class Inflow:
    """Reads the packed bytes `[start, stop)` of an archive that begins at `base` of a file."""

    def __init__(self, open_file: Callable[[Passing], OpenFile], size: int, base: int = 0) -> None:
        """`size` is that of the whole file, not only of the archive in it."""
        self._access = Passing(size)
        self._file = open_file(self._access)
        self._base = base

    @property
    def file(self) -> OpenFile:
        """The open file."""
        return self._file

    async def read(self, at: int, most: int, limit: int) -> Bytes:
        """The next bytes from `at` on, at least one and at most `most`.

        `limit` is where the reader is expected to end. Raises an `Up42fsError`.
        """
        self._access.limit = self._base + limit
        step = min(STEP_BYTES, most, max(limit - at, LEAST_STEP_BYTES))
        return await self._file.read(self._base + at, step)

    def close(self) -> None:
        """Cancel what was requested ahead."""
        self._file.close()
