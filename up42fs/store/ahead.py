"""Prefetches of objects that will soon be opened: a few links at a time, then their ranges.

Knows fetchers, not which objects to prefetch: `readahead.folder.siblings` decides that.

Theory. A link is signed before any part exists, and few at a time: parts waiting for a link would
occupy the slots that other readers' read-ahead needs, and link requests queue behind the API's rate
limit, where a reader's own link must not wait behind many others. An object on disk needs no link.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import trio

from up42fs import supervise
from up42fs.errors import Up42fsError
from up42fs.ranges import coalesce
from up42fs.store.http.links import Leases
from up42fs.store.http.tally import Tallies
from up42fs.store.members.archives import linked
from up42fs.store.members.extent import StoredObject
from up42fs.store.members.open_member import place
from up42fs.store.objects import Objects
from up42fs.store.versions import PinnedVersions
from up42fs.types import ByteRange

#: Maps an object's size in bytes to the ranges to prefetch.
Spans = Callable[[int], Sequence[ByteRange]]
#: Links signed at once for prefetches.
SIGNING_AHEAD = 8


class Prefetch:
    """The prefetch of one object that will probably be opened soon."""

    def __init__(self) -> None:
        self.is_done = False
        self.scope = trio.CancelScope()

    def cancel(self) -> None:
        """Cancel the prefetch: the object will not be read."""
        self.scope.cancel()


class Prefetches:
    """All prefetches of one store."""

    def __init__(
        self,
        nursery: trio.Nursery,
        objects: Objects,
        versions: PinnedVersions,
        leases: Leases,
        tallies: Tallies,
    ) -> None:
        self._nursery = nursery
        self._objects = objects
        self._versions = versions
        self._leases = leases
        self._tallies = tallies
        self._running: set[Prefetch] = set()
        self._signing = trio.CapacityLimiter(SIGNING_AHEAD)

    def start(self, target: StoredObject, spans: Spans) -> Prefetch:
        """Start prefetching `spans(size)` of an object; does not wait, and drops errors."""
        prefetch = Prefetch()
        is_view = target.extent is not None and target.extent.is_view

        async def run() -> None:
            try:
                with suppress(Up42fsError), prefetch.scope:
                    fetched: Awaitable[bool] = (
                        self._fetch_member(target, spans) if is_view else self._fetch(target, spans)
                    )
                    prefetch.is_done = await fetched
            finally:
                self._running.discard(prefetch)

        supervise.start(self._nursery, run)
        self._running.add(prefetch)
        return prefetch

    def cancel_all(self) -> None:
        """Cancel every prefetch."""
        for prefetch in self._running:
            prefetch.cancel()

    def __len__(self) -> int:
        return len(self._running)

    async def _fetch(self, target: StoredObject, spans: Spans) -> bool:
        """Fetch the spans; return whether all of them are cached afterwards."""
        if target.size is None:
            async with self._signing:
                version = await self._versions.ensure(target)
            target = replace(target, size=version.size)
        fetcher = self._objects.holding(target)
        wanted = spans(fetcher.size)
        await fetcher.source.ready()
        if not any(map(fetcher.lacks, wanted)):
            return True
        async with self._signing:
            await self._leases.get(linked(target).object_id)
        # The object may have been forgotten or replaced while the link was signed.
        fetcher = self._objects.holding(target)
        await fetcher.fetch_ahead(wanted)
        return not any(map(fetcher.lacks, wanted))

    async def _fetch_member(self, target: StoredObject, spans: Spans) -> bool:
        """Like `_fetch`, of a stored member, with its neighbours if they are small."""
        assert target.extent is not None, "it is a member"
        fetcher, view = self._objects.archives.view(target.object_id, target.extent)
        await fetcher.source.ready()
        if view.parent is not None:
            await place(fetcher, view.parent, target.name)
        wanted = spans(view.size)
        if not any(map(fetcher.lacks, view.around(wanted))):
            return True
        async with self._signing:
            await self._leases.get(linked(target).object_id)
        fetcher, view = self._objects.archives.view(target.object_id, target.extent)
        asked, neighbours = view.around(wanted), view.neighbours
        if neighbours is not None:
            holes = [hole for span in asked for hole in fetcher.coverage.missing(span)]
            grown = [neighbours.grown_ahead(hole, fetcher.coverage) for hole in holes]
            asked = coalesce(span for span in grown if span is not None)
        await fetcher.fetch_ahead(asked, self._tallies.of(target.object_id, target.name))
        return not any(map(fetcher.lacks, view.around(wanted)))
