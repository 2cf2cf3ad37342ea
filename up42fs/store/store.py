"""The byte store: opens objects by ID and reads them by range.

Wires the read engine and is its face. What outlives a handle lies below: bytes in `objects`,
versions in `versions`, links in `http.links`.

Counters (`Metrics`):

- `store.reads`, of which `hits` needed no wait and `waits` did; `bytes_delivered` to readers
- `bytes_asked` of the object store in `requests`, `bytes_fetched` from it
- `probes` of objects of unknown size
- `prefetched_bytes` requested ahead, `cancelled` read-aheads, `wasted_bytes` evicted unread
- `retries` of requests; `hedges` sent beside a slow request, of which `hedges_won` overtook it,
  and `hedges_bytes`, which arrived twice because of hedges
- `signs` of links, of which `renewals` replaced one
- of the disk cache: `disk_hits_bytes` loaded, `disk_writes_bytes` kept, `disk_skipped_bytes` not
  kept, `disk_evicted_bytes`, and `disk_bad_cells` that did not verify
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import trio

from up42fs import supervise
from up42fs.deadlines import boottime_s
from up42fs.errors import BadHandle, Unavailable
from up42fs.metrics import Metrics
from up42fs.ranges import split
from up42fs.readahead.plan import Access, Exact
from up42fs.readahead.tuning import Reading
from up42fs.store.ahead import Prefetch, Prefetches, Spans
from up42fs.store.disk.cache import DiskCache, Runner, in_thread
from up42fs.store.egress.egress import Egress
from up42fs.store.handle import OpenFile
from up42fs.store.http.links import Leases
from up42fs.store.http.source import Network
from up42fs.store.http.tally import Tallies
from up42fs.store.http.transport import CurlTransport
from up42fs.store.members.archives import holder
from up42fs.store.members.extent import StoredObject
from up42fs.store.members.inflate.inflaters import to_its_end
from up42fs.store.members.open_member import OpenMember, OpenSparse
from up42fs.store.members.packed import read_through
from up42fs.store.objects import Objects
from up42fs.store.settings import StoreSettings
from up42fs.store.versions import PinnedVersions
from up42fs.types import ByteRange, Bytes, SignedUrl, Signer, Version

log = logging.getLogger(__name__)

#: The longest range of an archive's directory that is read at once.
RANGE_BYTES = 4 << 20
#: Event loop ticks in which cancelled fetches end and hand over the bytes they received.
_ENDING_TICKS = 20


class FileStore:
    """All objects of one mount. Tasks run in `nursery`; call `aclose` before it ends."""

    def __init__(
        self,
        nursery: trio.Nursery,
        sign: Signer,
        settings: StoreSettings,
        metrics: Metrics,
        *,
        on_version: Callable[[str, Version | None], None] | None = None,
        transport: CurlTransport | None = None,
        egress: Egress | None = None,
        is_local: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = boottime_s,
        chance: random.Random | None = None,
        run_disk: Runner = in_thread,
        run_unpacking: Runner = to_its_end,
    ) -> None:
        self._nursery = nursery
        self._settings = settings
        self._transport = transport or CurlTransport(settings.connections, is_local=is_local)
        self._tallies = Tallies(metrics)
        self._leases = Leases(nursery, sign, self._tallies, clock)
        network = Network(
            self._leases,
            self._transport,
            egress,
            chance or random.Random(),
            clock,
            on_nameless=self._tell_nameless,
        )
        self._disk: DiskCache | None = None
        if settings.cache_dir is not None and settings.cache_bytes:
            self._disk = DiskCache.below(
                settings.cache_dir,
                nursery,
                metrics,
                key=settings.cache_key,
                limit_bytes=settings.cache_bytes,
                queue_bytes=settings.parts_bytes // 4,
                run=run_disk,
                is_below_kernel=settings.is_below_kernel,
            )
        self._objects = Objects(
            nursery,
            settings,
            network=network,
            disk=self._disk,
            tallies=self._tallies,
            run_unpacking=run_unpacking,
            on_version=on_version,
        )
        self._versions = PinnedVersions(
            nursery, self._objects, self._disk, self._tallies, settings.read_deadline_s
        )
        self._prefetches = Prefetches(
            nursery, self._objects, self._versions, self._leases, self._tallies
        )
        self._is_closed = False
        self._is_nameless_told = False
        #: Tuning of files opened from now on.
        self.tuning = settings.tuning
        #: The version that is pinned of an object; None before its first answer.
        self.version = self._objects.version
        #: The version of an object, asked for if need be; and the same in the background.
        self.ensure_version = self._versions.ensure
        self.start_version = self._versions.start
        #: Whether a link to an object is at hand: to read it costs no other.
        self.has_link = self._leases.holds
        #: Drop all cached state of an object; open handles keep theirs.
        self.forget = self._objects.forget
        #: When which bytes of an object came from the object store.
        self.fetched = self._tallies.fetched
        #: The counters of one object; those of the objects with the most fetched bytes.
        self.tally = self._tallies.get
        self.tallies = self._tallies.top

    def open(
        self,
        known: StoredObject,
        reading: Reading = Reading.ANY,
    ) -> OpenFile:
        """Open an object whose size is known; waits for nothing.

        `reading` is how it will be read, as far as known. The version of a stored member is its
        archive's. Raises `BadHandle` after `aclose`, and `VersionChanged` if the archive is not of
        the version in which the extent counts.
        """
        object_id, size, name, extent = known.object_id, known.size, known.name, known.extent
        assert size is not None, "`ensure_version` learns it"
        if self._is_closed:
            raise BadHandle(f"{name}: the mount is being unmounted")
        objects, view = self._objects, None
        if extent is not None and extent.is_view:
            objects.forget_unpinned(holder(extent).object_id)
            fetcher, view = objects.archives.view(object_id, extent)
            fetcher.handles += 1
            insight = view.opened()
        else:
            objects.forget_unpinned(object_id)
            fetcher = objects.fetcher(object_id, size, name, known.stamp, extent)
            insight = fetcher.opened()
        try:
            if known.version is not None:
                fetcher.source.pin.assume(known.version)
            objects.insights.opened(view or fetcher)
            if not fetcher.source.is_ready:
                supervise.start(self._nursery, fetcher.source.ready)  # the first read comes soon
            kind = Exact if reading is Reading.EXACT else Access
            access = kind(view.size if view else size, self.tuning.suited(reading), insight)
            tally = self._tallies.of(object_id, name)
        except BaseException:  # no memory: a handle that nobody has must not count
            fetcher.handles -= 1
            if view is not None:
                view.closed()
            raise
        windows, insights = objects.windows, objects.insights
        if view is None:
            return OpenFile(fetcher, access, tally, name, windows=windows, insights=insights)
        opened = OpenSparse if view.extent.segments else OpenMember
        return opened(
            fetcher, view, access, tally, name, size=size, windows=windows, insights=insights
        )

    async def read_range(self, origin: StoredObject, span: ByteRange) -> bytes:
        """Return the bytes `span` of an archive, as far as it has them: for its directory.

        They are cached like those that programs read. Raises an `Up42fsError`.
        """
        size = origin.size
        if size is None:
            size = (await self.ensure_version(origin)).size
        file = self.open(replace(origin, size=size), Reading.EXACT)
        try:
            pieces = split(span, RANGE_BYTES) if len(span) > RANGE_BYTES else [span]
            return b"".join([await file.read(piece.start, len(piece)) for piece in pieces])
        finally:
            file.close()

    async def read_through(
        self, origin: StoredObject, feed: Callable[[Bytes], Awaitable[None]]
    ) -> int:
        """Pass the unpacked stream of a compressed tar on to `feed` in order; return its size.

        Its bytes are cached on the way. Raises an `Up42fsError`.
        """
        assert origin.extent is not None, "it is a member"
        fetcher = self._objects.holding(origin)

        known = replace(origin, size=fetcher.size)
        return await read_through(lambda: self.open(known, Reading.WHOLE), fetcher, feed)

    async def link(self, object_id: str, lasts_s: float) -> SignedUrl:
        """Return a link for another program, which works for `lasts_s` seconds more if it can.

        All callers and all reads of an object share its links. Raises an `Up42fsError`.
        """
        lease = await self._leases.lasting(object_id, lasts_s)
        return SignedUrl(lease.url, self._leases.remaining_s(lease))

    def start_ahead(self, origin: StoredObject, spans: Spans) -> Prefetch:
        """Start prefetching `spans(size)` of an object that will soon be opened; does not wait.

        A size that is not known is fetched first; that of an archive's member is known.
        `readahead.folder.siblings` decides which objects and when. Errors are dropped: the reader
        will repeat the request itself.
        """
        if self._is_closed or self._is_nameless_told:
            return Prefetch()  # a later open cannot use bytes without a version
        return self._prefetches.start(origin, spans)

    def suspend(self) -> None:
        """Drop all links and connections, also those in use, because the machine slept."""
        self._leases.drop_all()
        self._transport.reset()

    async def ensure_cached_bytes(self, origin: StoredObject) -> int:
        """Bytes of the object in memory or on disk: those that need no request."""
        object_id, size, extent = origin.object_id, origin.size, origin.extent
        is_view = extent is not None and extent.is_view
        known = self.version(holder(extent).object_id if extent and is_view else object_id)
        if known is not None and not known.tells_apart:
            return 0  # the next open cannot use these bytes
        if size is None:
            version = known or await self._versions.kept(origin)
            if version is None:
                return 0
            size = version.size
        file = self.open(replace(origin, size=size, version=None))
        try:
            return await file.ensure_cached_bytes()
        finally:
            file.close()

    def disk_status(self) -> dict[str, object] | None:
        """State of the disk cache; None without one."""
        return self._disk.status() if self._disk else None

    def gauges(self) -> dict[str, int]:
        """Current state: links, bytes in memory and their limit, running requests, prefetches."""
        return {
            "fetches_ahead": len(self._prefetches),
            "insight_bytes": self._objects.insights.held_bytes,
            "inflating": self._objects.inflaters.running,
            "inflaters_resting": self._objects.inflaters.resting,
            "leases": len(self._leases),
            "memory_bytes": self._objects.cache.used_bytes,
            "memory_limit_bytes": self._settings.parts_bytes,
            "probes_running": len(self._versions),
            "requests_running": self._objects.slots.running,
        }

    async def aclose(self) -> None:
        """End every fetch and read; the store cannot be used afterwards."""
        self._is_closed = True
        self._prefetches.cancel_all()
        self._objects.stop(Unavailable("the mount is being unmounted"))
        if self._disk is not None:
            for _ in range(_ENDING_TICKS):
                if self._objects.slots.running:
                    await trio.lowlevel.checkpoint()
            await self._disk.aclose()
        self._objects.clear()
        self._transport.close()
        await trio.lowlevel.checkpoint()

    def _tell_nameless(self, name: str) -> None:
        if self._is_nameless_told:
            return
        self._is_nameless_told = True
        log.warning(
            "%s: the object store sends no ETag, Last-Modified or x-goog-generation, so one "
            "version of a file cannot be told from another of the same size; bytes of such files "
            "are not kept after they are closed, and a change while one is open may go unnoticed. "
            "Ask whoever runs the store or a proxy before it for one of these headers",
            name,
        )
