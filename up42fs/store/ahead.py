"""Prefetches parts of objects that will probably be opened soon: the link first, then the bytes.

Knows which spans to fetch and how many links to sign at once. The caller
(`readahead.folder.siblings`) decides which objects and when; the fetcher treats the bytes like any
other read-ahead.

Theory. Links are signed here, before any part exists, and few at a time: parts waiting for a link
would occupy the slots that other readers' read-ahead needs, and link requests queue behind the
API's rate limit, where a reader's own link must not wait behind many others. Objects that are on
disk need no link and are skipped. Errors are dropped: the reader will repeat the request itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import trio

from up42fs import supervise
from up42fs.errors import Up42fsError
from up42fs.store.fetcher import Fetcher
from up42fs.types import ByteRange, Version

#: Links signed at once for prefetches.
SIGNING_AHEAD = 8

#: Maps an object's size in bytes to the ranges to prefetch.
Spans = Callable[[int], Sequence[ByteRange]]


class Objects(Protocol):
    """The store's objects, as prefetching needs them."""

    async def ensure_version(
        self, object_id: str, *, name: str, stamp: str | None = None
    ) -> Version:
        """Return the object's version; its first bytes are fetched along with it."""
        ...

    def fetcher(self, object_id: str, size: int, name: str, stamp: str | None) -> Fetcher:
        """Return the fetcher of the object's bytes."""
        ...

    async def ensure_link(self, object_id: str) -> None:
        """Ensure that a valid link exists; raises an `Up42fsError`."""
        ...


class Ahead:
    """One object's prefetch."""

    def __init__(self) -> None:
        self.is_done = False
        self.scope = trio.CancelScope()

    def cancel(self) -> None:
        """Cancel the prefetch: the object will not be read."""
        self.scope.cancel()


class AheadFetches:
    """All prefetches of one store."""

    def __init__(self, nursery: trio.Nursery, objects: Objects) -> None:
        self._nursery = nursery
        self._objects = objects
        self._signing = trio.CapacityLimiter(SIGNING_AHEAD)
        self._running: set[Ahead] = set()

    def __len__(self) -> int:
        """Number of running prefetches."""
        return len(self._running)

    def start(
        self, object_id: str, spans: Spans, *, size: int | None, name: str, stamp: str | None
    ) -> Ahead:
        """Start prefetching `spans(size)` of an object; if `size` is None, fetch the size first."""
        ahead = Ahead()

        async def run() -> None:
            try:
                with suppress(Up42fsError), ahead.scope:
                    ahead.is_done = await self._run(object_id, spans, size, name, stamp)
            finally:
                self._running.discard(ahead)

        supervise.start(self._nursery, run)
        self._running.add(ahead)
        return ahead

    def stop(self) -> None:
        """Cancel all prefetches."""
        for ahead in self._running:
            ahead.cancel()

    async def _run(
        self, object_id: str, spans: Spans, size: int | None, name: str, stamp: str | None
    ) -> bool:
        """Fetch the spans; return whether all of them are cached afterwards."""
        if size is None:
            async with self._signing:
                version = await self._objects.ensure_version(object_id, name=name, stamp=stamp)
            size = version.size
        fetcher = self._objects.fetcher(object_id, size, name, stamp)
        await fetcher.source.ready()
        if not any(map(fetcher.lacks, spans(size))):
            return True
        async with self._signing:
            await self._objects.ensure_link(object_id)
        # The object may have been forgotten or replaced while the link was signed.
        fetcher = self._objects.fetcher(object_id, size, name, stamp)
        await fetcher.fetch_ahead(spans(size))
        return not any(map(fetcher.lacks, spans(size)))
