"""One open handle of one object: ranged reads until it is closed.

Knows its object and the state it shares with other handles; nothing of the kernel or of names.
"""

from __future__ import annotations

import trio

from up42fs.errors import BadHandle, Up42fsError
from up42fs.ranges import subtract
from up42fs.readahead.plan import Access
from up42fs.store.failures import FailedReads
from up42fs.store.fetcher import Fetcher
from up42fs.store.http.answer import VersionPin
from up42fs.store.http.tally import Tally
from up42fs.store.insights import Insights
from up42fs.store.windows import Windows
from up42fs.types import ByteRange, Bytes, Version


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
        self._access = access
        self._windows = windows
        self._insights = insights
        self._tally = tally
        self._name = name
        self._failed = FailedReads()
        self._is_closed = False

    async def read(self, offset: int, size: int) -> Bytes:
        """Return `min(size, file size - offset)` bytes from `offset`; b"" at and past the end.

        The result is a memoryview of cached memory if no copy is needed. A read that need not wait
        does not yield to other tasks. Raises an `Up42fsError`: never returns fewer bytes, nor bytes
        of another version than the first read's.
        """
        if self._is_closed:
            raise BadHandle(f"{self._name}: read after close")
        stop = min(offset + size, self._fetcher.size)
        if offset < 0 or offset >= stop:
            return b""
        self._tally.count("store.reads")
        wanted, began_at_s = ByteRange(offset, stop), trio.current_time()
        self._failed.check(wanted, began_at_s)
        window_bytes = self._windows.share(self._access)
        try:
            return await self._fetcher.read(self._access, wanted, window_bytes)
        except Up42fsError as error:
            self._failed.note(wanted, error, began_at_s, trio.current_time())
            raise

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
    def pin(self) -> VersionPin:
        """The version pin shared by all handles of this object's bytes."""
        return self._fetcher.source.pin

    @property
    def version(self) -> Version | None:
        """The version that the first answer pinned; None before it."""
        return self._fetcher.version
