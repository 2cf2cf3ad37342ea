"""Makes the sources of packed members, and reads the streams of compressed tars through.

Knows extents, the fetchers of archives and how to open them; nothing of engines.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from up42fs.errors import DamagedArchive
from up42fs.readahead.plan import Access
from up42fs.store.disk.layered import ObjectSource
from up42fs.store.fetcher import Fetcher
from up42fs.store.handle import OpenFile, Windows
from up42fs.store.http.tally import Tallies
from up42fs.store.insights import Insights
from up42fs.store.members.archives import StoredMembers
from up42fs.store.members.extent import Extent
from up42fs.store.members.inflate.identity import nominal_size
from up42fs.store.members.inflate.inflaters import Inflaters, Upstream
from up42fs.store.members.inflate.source import InflatedSource
from up42fs.store.members.open_member import place
from up42fs.types import Bytes

#: Bytes passed on at once of a stream that is read through.
_STEP_BYTES = 1 << 20


def size_of(extent: Extent, size: int | None) -> int:
    """The size that a packed member counts with; that of a stream is not known at first."""
    return nominal_size(extent.packed_size) if size is None else size


class PackedMembers:
    """The packed members of one store."""

    def __init__(
        self,
        inflaters: Inflaters,
        archives: StoredMembers,
        *,
        tallies: Tallies,
        windows: Windows,
        insights: Insights,
        on_damaged: Callable[[str], None],
    ) -> None:
        """`on_damaged` is called with the ID of a member whose bytes turned out to be wrong."""
        self._inflaters = inflaters
        self._archives = archives
        self._tallies = tallies
        self._windows = windows
        self._insights = insights
        self._on_damaged = on_damaged

    def source(
        self, object_id: str, extent: Extent, *, size: int | None, name: str, stamp: str | None
    ) -> ObjectSource:
        """The source of a member's bytes."""

        async def upstream() -> Upstream:
            return await self._upstream(object_id, extent, name)

        inflated = InflatedSource(
            object_id, name, extent, size,
            upstream=upstream, inflaters=self._inflaters,
            on_damaged=lambda: self._on_damaged(object_id),
        )  # fmt: skip
        kept = ObjectSource(inflated, self._inflaters.disk, object_id, stamp)
        inflated.kept_by(kept)
        return kept

    async def _upstream(self, object_id: str, extent: Extent, name: str) -> Upstream:
        """The way to the packed bytes; raises an `Up42fsError`."""
        fetcher, view = self._archives.place_of(extent.archive)
        base = 0 if view is None else await place(fetcher, view, name)

        def opened(access: Access) -> OpenFile:
            fetcher.opened()
            self._insights.opened(fetcher)
            return OpenFile(
                fetcher, access, self._tallies.of(object_id, name), name,
                windows=self._windows, insights=self._insights,
            )  # fmt: skip

        return Upstream(fetcher, base, opened)


async def read_through(
    opened: Callable[[], OpenFile], fetcher: Fetcher, feed: Callable[[Bytes], Awaitable[None]]
) -> int:
    """Pass a stream on to `feed`, from its front to its end; return its size."""
    source = fetcher.source.filled_by
    assert isinstance(source, InflatedSource), "it is the stream of a compressed tar"
    at, file = 0, opened()
    try:
        while source.ends_at is None or at < source.ends_at:
            step = _STEP_BYTES if source.ends_at is None else min(_STEP_BYTES, source.ends_at - at)
            try:
                data = await file.read(at, step)
            except DamagedArchive:
                if source.ends_at is None or source.ends_at >= at + step:
                    raise
                # It ended amid what was asked for. A handle repeats its errors for a moment.
                file.close()
                file = opened()
                continue
            await feed(data)
            at += len(data)
    finally:
        file.close()
    return at
