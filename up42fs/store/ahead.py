"""Fetches parts of objects that somebody will soon open: the link first, then the bytes.

Knows what to fetch and how many links to sign at once. Its caller (`readahead.folder.siblings`)
decides which objects and when; the fetcher treats the bytes like any other read-ahead.

Theory. Links are signed here, before any part exists, and few at once: parts that wait for a link
would fill the slots that other readers' read-ahead needs, and links queue behind the API's pace,
where a reader's own link must not find many before it. What is on disk needs no link and is left
there. Nothing that goes wrong here is anybody's error: the reader will ask himself.
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

#: Links of this kind asked for at once.
SIGNING_AHEAD = 8

#: What to fetch of an object, given its size in bytes.
Spans = Callable[[int], Sequence[ByteRange]]


class Objects(Protocol):
    """The store's objects."""

    async def ensure_version(
        self, object_id: str, *, name: str, stamp: str | None = None
    ) -> Version:
        """The object's version, and its head with it."""
        ...

    def fetcher(self, object_id: str, size: int, name: str, stamp: str | None) -> Fetcher:
        """Who holds the object's bytes."""
        ...

    async def ensure_link(self, object_id: str) -> None:
        """Have a link that works; raises an `Up42fsError`."""
        ...


class Ahead:
    """One object's fetch ahead of its reader."""

    def __init__(self) -> None:
        self.is_done = False
        self.scope = trio.CancelScope()

    def cancel(self) -> None:
        """Nobody will read it."""
        self.scope.cancel()


class AheadFetches:
    """All of one store."""

    def __init__(self, nursery: trio.Nursery, objects: Objects) -> None:
        self._nursery = nursery
        self._objects = objects
        self._signing = trio.CapacityLimiter(SIGNING_AHEAD)
        self._running: set[Ahead] = set()

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._running)

    def start(
        self, object_id: str, spans: Spans, *, size: int | None, name: str, stamp: str | None
    ) -> Ahead:
        """Begin to fetch `spans(size)` of an object; without a size that is learned first."""
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
        """End them all."""
        for ahead in self._running:
            ahead.cancel()

    async def _run(
        self, object_id: str, spans: Spans, size: int | None, name: str, stamp: str | None
    ) -> bool:
        """Fetch; whether all is here in the end."""
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
        # It may have been forgotten or replaced meanwhile.
        fetcher = self._objects.fetcher(object_id, size, name, stamp)
        await fetcher.fetch_ahead(spans(size))
        return not any(map(fetcher.lacks, spans(size)))
