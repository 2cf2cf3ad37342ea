"""The packed bytes of one member, in order, from the archive's own fetcher.

Knows offsets in the archive and how far the inflater is expected to get; nothing of engines.

Theory. The bytes are used once, so they pass: they are not kept on disk, where the inflated ones
are, and those of a large member leave memory soon after they are used. Read-ahead ends where the
reader's
bytes are expected to end (`limit`): a jump costs what lies between its point and its end, and
nothing more. A short way is one request, a long one a few large ones in flight.
"""

from __future__ import annotations

from collections.abc import Callable

from up42fs.ranges import align, ceil_to, intersect, split
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
#: The largest requests, and the first one of a long way, bytes.
PART_BYTES = 4 * MIB
FIRST_BYTES = MIB
#: The most that is requested ahead, bytes.
AHEAD_BYTES = 16 * MIB


class Passing(Access):
    """Plans the requests for bytes that are read once, in order, up to `limit`."""

    is_passing = True

    def __init__(self, size: int, *, is_small: bool = False) -> None:
        """`is_small`: its neighbours come along, since they will be read next."""
        super().__init__(size)
        self._is_small = is_small
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
        """So much that bytes of a large member leave memory behind it."""
        return 0 if self._is_small else PASS_BYTES

    def learn(self, near: ByteRange, get: Get) -> None:
        """Learn nothing: packed bytes have no structure."""

    def reads_again(self, start: int, stop: int) -> bool:  # noqa: ARG002
        """True: bytes in memory need no plan."""
        return True

    def on_read(self, read: ByteRange, have: Coverage, window_bytes: int) -> Plan:
        """The missing bytes of `read`, and ahead of it up to `limit` as far as memory allows."""
        limit = min(max(self.limit, read.stop), self._size)
        if self._is_small:
            block = align(ByteRange(read.start, limit), BLOCK_BYTES, self._size)
            return Plan(tuple(have.missing(block)) if have.missing(read) else ())
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

    @property
    def asked_up_to(self) -> int:
        """The end of what was requested."""
        return self._asked.stop

    def on_close(self) -> Plan:
        """Cancel what was requested ahead."""
        return Plan(cancel=(self._asked,) if self._is_begun else ())


class Inflow:
    """Reads the packed bytes `[start, stop)` of an archive that begins at `base` of a file."""

    def __init__(
        self,
        open_file: Callable[[Passing], OpenFile],
        size: int,
        base: int = 0,
        *,
        is_small: bool = False,
    ) -> None:
        """`size` is that of the whole file, not only of the archive in it."""
        self._access = Passing(size, is_small=is_small)
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
        step = min(STEP_BYTES, most, max(self.here(at), LEAST_STEP_BYTES))
        return await self._file.read(self._base + at, step)

    async def exactly(self, span: ByteRange) -> Bytes:
        """All bytes of a range of the archive; raises an `Up42fsError`."""
        self._access.limit = self._base + span.stop
        return await self._file.read(self._base + span.start, len(span))

    def here(self, at: int) -> int:
        """Bytes from `at` on that have come, wherever they lie."""
        start, stop = self._base + at, self._access.asked_up_to
        return self._file.here(ByteRange(start, stop)) if start < stop else 0

    def close(self) -> None:
        """Cancel what was requested ahead."""
        self._file.close()
