"""One open handle of one object: ranged reads until it is closed."""

from __future__ import annotations

from collections import OrderedDict

import trio

from up42fs.errors import BadHandle, Up42fsError, copied
from up42fs.ranges import intersect, subtract
from up42fs.readahead.plan import Access
from up42fs.readahead.tuning import KIB
from up42fs.store.copying import Copying
from up42fs.store.fetcher import Fetcher
from up42fs.store.http.tally import Tally
from up42fs.store.insights import Insights
from up42fs.types import ByteRange, Bytes, Version

#: A failure that took longer than this is repeated for as long, seconds.
REPEATED_S = 1.0
#: A handle that reads ahead keeps its share of the budget this long after its last read, seconds.
SHARING_S = 10.0


class Windows:
    """The read-ahead windows of one store, which share `budget_bytes`."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._last_s: OrderedDict[Access, float] = OrderedDict()

    def share(self, access: Access) -> int:
        """The read-ahead window of `access`, which is about to read, in bytes."""
        now_s = trio.current_time()
        if access.reads_ahead:
            self._last_s[access] = now_s
            self._last_s.move_to_end(access)
        while self._last_s:
            oldest, last_s = next(iter(self._last_s.items()))
            if now_s - last_s <= SHARING_S:
                break
            del self._last_s[oldest]
        return max(128 * KIB, self._budget_bytes // max(1, len(self._last_s)))

    def leave(self, access: Access) -> None:
        """Release the share of `access`, which will not read again."""
        self._last_s.pop(access, None)


class FailedReads:
    """The latest failures of one handle, raised again for overlapping reads without a request.

    When a read-ahead request of the kernel fails, the kernel requests the one page again, and the
    program waits for both. If the first took its whole deadline, the second would take another. So
    a failure that took long is repeated to the next overlapping read for a moment: long enough for
    the kernel, too short for a person to notice. Several failures, as the kernel reads ahead in
    several requests.
    """

    def __init__(self) -> None:
        self.news: list[tuple[ByteRange, Up42fsError, float]] = []

    def check(self, wanted: ByteRange, now_s: float) -> None:
        """Raise the error that a read overlapping `wanted` failed with a moment ago, if any."""
        if not self.news:
            return
        self.news = [news for news in self.news if now_s - news[2] < REPEATED_S]
        for span, error, _ in self.news:
            if intersect(span, wanted) is not None:
                raise copied(error) from error

    def note(self, wanted: ByteRange, error: Up42fsError, began_at_s: float, now_s: float) -> None:
        """Record that `wanted`, requested at `began_at_s`, failed with `error`."""
        if now_s - began_at_s >= REPEATED_S:
            self.news.append((wanted, error, now_s))


class OpenFile:
    """One open handle of one object."""

    def __init__(
        self,
        fetcher: Fetcher,
        access: Access,
        tally: Tally,
        name: str,
        *,
        windows: Windows,
        insights: Insights,
    ) -> None:
        self._fetcher = fetcher
        #: The version pin shared by all handles of this object's bytes.
        self.pin = fetcher.source.pin
        #: Whether its bytes are inflated: a read may take long, while bytes flow.
        self.is_unpacked = fetcher.source.filled_by.keeps
        self.size = fetcher.size
        self._access = access
        self._windows = windows
        self._insights = insights
        self._tally = tally
        self._name = name
        self._failed = FailedReads()
        self._is_closed = False

    def read_again(self, offset: int, size: int) -> memoryview | None:
        """Like `read` of bytes in memory that were read before; None for all other reads."""
        fetcher = self._fetcher
        stop = min(offset + size, fetcher.size)
        if not 0 <= offset < stop or self._is_closed or self._failed.news:
            return None
        data = fetcher.read_again(self._access, offset, stop)
        if data is not None:
            self._tally.count_hit(stop - offset)
        return data

    async def read(self, offset: int, size: int) -> Bytes:
        """Return `min(size, file size - offset)` bytes from `offset`; b"" at and past the end.

        The result is a memoryview of cached memory if no copy is needed. A read that need not wait
        does not yield to other tasks. Raises an `Up42fsError`: never returns fewer bytes, nor bytes
        of another version than the first read's.
        """
        if self._is_closed:
            raise BadHandle(f"{self._name}: read after close")
        stop = min(offset + size, self.size)
        if offset < 0 or offset >= stop:
            return b""
        self._tally.count("store.reads")
        wanted, began_at_s = ByteRange(offset, stop), trio.current_time()
        self._failed.check(wanted, began_at_s)
        window_bytes = self._windows.share(self._access)
        try:
            return await self._fetch(wanted, window_bytes)
        except Up42fsError as error:
            self._failed.note(wanted, error, began_at_s, trio.current_time())
            raise

    async def _fetch(self, wanted: ByteRange, window_bytes: int) -> Bytes:
        data = await self._fetcher.read(self._access, wanted, window_bytes, self._tally)
        if self._access.has_learned:
            self._access.has_learned = False
            self._insights.learned(self._fetcher)
        return data

    def ahead(self, offset: int, most: int) -> Bytes:
        """The bytes from `offset` on that are in memory, `most` at most; does not count as a read.

        A caller that keeps them reads on without coming here, and must report later what it read.
        """
        return (
            b"" if self._is_closed else self._fetcher.ahead(offset, min(offset + most, self.size))
        )

    def copying(self) -> Copying | None:
        """What copies missing bytes to a file past memory; None if the disk cache keeps them."""
        return None if self._is_closed else self._fetcher.copying(self._tally)

    def here(self, span: ByteRange) -> int:
        """Bytes of a range that are in memory."""
        both = (intersect(one, span) for one in self._fetcher.spans)
        return sum(len(one) for one in both if one is not None)

    async def ensure_cached_bytes(self) -> int:
        """Bytes of the object in memory or on disk."""
        if not self._fetcher.source.is_ready:
            await self._fetcher.source.ready()
        return self._fetcher.source.held_in(self._fetcher.spans)

    def close(self) -> None:
        """Cancel this handle's read-ahead."""
        if not self._is_closed:
            self._is_closed = True
            self._fetcher.handles -= 1
            self._windows.leave(self._access)
            self._fetcher.give_up_abandoned()
            plan = self._access.on_close()
            self._fetcher.cancel(plan.cancel)
            if not self._fetcher.handles:
                # The last handle: cancel all outstanding fetches that no reader waits for.
                self._insights.closed(self._fetcher)
                if self._fetcher.size:
                    self._fetcher.cancel(subtract(ByteRange(0, self._fetcher.size), plan.keep))

    @property
    def version(self) -> Version | None:
        """The version that the first answer pinned; None before it."""
        return self._fetcher.version
