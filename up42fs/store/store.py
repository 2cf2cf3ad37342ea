"""The byte store: opens objects by ID and reads them by range.

Wires the read engine and keeps the state of each object that outlives a handle: its bytes, its
version, its link.

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
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from weakref import WeakSet

import trio

from up42fs import supervise
from up42fs.deadlines import Turns, boottime_s, request_s, within
from up42fs.errors import BadHandle, Unavailable, Up42fsError, VersionChanged
from up42fs.metrics import Metrics
from up42fs.ranges import split
from up42fs.readahead.plan import Access, Exact
from up42fs.readahead.tuning import Reading
from up42fs.store.ahead import Prefetch, Prefetches, Spans
from up42fs.store.buffers import Buffers
from up42fs.store.disk.cache import DiskCache, Runner, in_thread
from up42fs.store.disk.layered import ObjectSource
from up42fs.store.egress.egress import Egress
from up42fs.store.fetcher import Fetcher
from up42fs.store.handle import OpenFile, Windows
from up42fs.store.http.answer import VersionPin
from up42fs.store.http.links import Leases
from up42fs.store.http.source import Network, NetworkSource
from up42fs.store.http.tally import Tallies
from up42fs.store.http.transport import CurlTransport
from up42fs.store.insights import Insights
from up42fs.store.members.archives import StoredMembers, holder, outermost
from up42fs.store.members.extent import Extent, Origin, is_of
from up42fs.store.members.inflate.inflaters import Inflaters, Progress, to_its_end
from up42fs.store.members.open_member import OpenMember, OpenSparse, cached_bytes_of
from up42fs.store.members.packed import PackedMembers, read_through, size_of
from up42fs.store.memory import MemoryCache
from up42fs.store.part import Part
from up42fs.store.settings import StoreSettings
from up42fs.store.slots import Slots
from up42fs.timeline import Timeline
from up42fs.types import ByteRange, Bytes, SignedUrl, Signer, Version

log = logging.getLogger(__name__)

#: The longest a size may take to learn: less than `stat` may take, so that the reason is told.
SIZE_DEADLINE_S = request_s(25.0)
#: The first bytes of an object of unknown size, whose answer tells the size: those that the first
#: read of a file would fetch (`readahead.plan`). UP42 reports no size of transformed files.
HEAD_BYTES = 128 << 10
#: Objects remembered without bytes or handles, for their pinned version.
MOST_IDLE = 4096
#: The longest range of an archive's directory that is read at once.
RANGE_BYTES = 4 << 20
#: Parsed structures kept of objects that are not open, bytes: a hundred large images.
INSIGHT_BYTES = 16 << 20
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
        self._on_version = on_version
        self._transport = transport or CurlTransport(settings.connections, is_local=is_local)
        self._tallies = Tallies(metrics)
        self._leases = Leases(nursery, sign, self._tallies, clock)
        self._network = Network(
            self._leases,
            self._transport,
            egress,
            chance or random.Random(),
            clock,
            on_nameless=self._tell_nameless,
        )
        self._cache = MemoryCache(settings.parts_bytes, settings.scan_bytes)
        self._buffers = Buffers(settings.parts_bytes)
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
        self._windows = Windows(settings.parts_bytes // 2)
        self._archives = StoredMembers(self._fetcher_of)
        self._insights = Insights(INSIGHT_BYTES)
        self._inflaters = Inflaters(
            nursery, cache=self._cache, buffers=self._buffers, disk=self._disk, run_part=_run,
            run=run_unpacking,
        )  # fmt: skip
        self._packed = PackedMembers(
            self._inflaters, self._archives, tallies=self._tallies, windows=self._windows,
            insights=self._insights, on_damaged=self.forget,
        )  # fmt: skip
        self._prefetches = Prefetches(
            nursery, self, self._fetcher_of, self._archives, self._tallies
        )
        self._slots: Slots[tuple[Fetcher, Part]] = Slots(
            nursery,
            _run,
            total=settings.connections,
            ahead=settings.connections_ahead,
            group=_group,
        )
        self._live: WeakSet[Fetcher] = WeakSet()  # also fetchers that only old handles still use
        self._fetchers: OrderedDict[str, Fetcher] = OrderedDict()
        self._probes: dict[str, Turns] = {}
        self._is_closed = False
        self._is_nameless_told = False
        #: Tuning of files opened from now on.
        self.tuning = settings.tuning

    def open(
        self,
        object_id: str,
        *,
        size: int,
        name: str,
        stamp: str | None = None,
        reading: Reading = Reading.ANY,
        expected: Version | None = None,
        extent: Extent | None = None,
    ) -> OpenFile:
        """Open an object of `size` bytes; waits for nothing. `name` is used in error messages.

        `stamp` is the catalogue's mark of the object's state (see `disk.layered`); `reading` is how
        it will be read, as far as known. `expected` is the version to read if none is pinned yet:
        the caller has bytes of it. With an `extent` the object is an archive's member; the version
        of a stored one is its archive's. Raises `BadHandle` after `aclose`, and `VersionChanged` if
        the archive is not of the version in which the extent counts.
        """
        if self._is_closed:
            raise BadHandle(f"{name}: the mount is being unmounted")
        view = None
        if extent is not None and extent.is_view:
            self._forget_unpinned(holder(extent).object_id)
            fetcher, view = self._archives.view(object_id, extent)
            fetcher.handles += 1
            insight = view.opened()
        else:
            self._forget_unpinned(object_id)
            fetcher = self.fetcher(object_id, size, name, stamp, extent)
            insight = fetcher.opened()
        if expected is not None:
            fetcher.source.pin.assume(expected)
        self._insights.opened(view or fetcher)
        if not fetcher.source.is_ready:
            supervise.start(self._nursery, fetcher.source.ready)  # the first read comes soon
        kind = Exact if reading is Reading.EXACT else Access
        access = kind(view.size if view else size, self.tuning.suited(reading), insight)
        tally, shared = self._tallies.of(object_id, name), (self._windows, self._insights)
        if view is None:
            return OpenFile(fetcher, access, tally, name, windows=shared[0], insights=shared[1])
        opened = OpenSparse if view.extent.segments else OpenMember
        return opened(
            fetcher, view, access, tally, name,
            size=size, windows=self._windows, insights=self._insights,
        )  # fmt: skip

    async def read_range(self, origin: Origin, span: ByteRange) -> bytes:
        """Return the bytes `span` of an archive, as far as it has them: for its directory.

        They are cached like those that programs read. Raises an `Up42fsError`.
        """
        size = origin.size
        if size is None:
            version = await self.ensure_version(
                origin.object_id, name=origin.name, stamp=origin.stamp, extent=origin.extent
            )
            size = version.size
        file = self.open(
            origin.object_id, size=size, name=origin.name, stamp=origin.stamp,
            reading=Reading.EXACT, expected=origin.version, extent=origin.extent,
        )  # fmt: skip
        try:
            pieces = split(span, RANGE_BYTES) if len(span) > RANGE_BYTES else [span]
            return b"".join([await file.read(piece.start, len(piece)) for piece in pieces])
        finally:
            file.close()

    def version(self, object_id: str) -> Version | None:
        """The version that is pinned of an object; None before its first answer."""
        return self._known_version(object_id)

    async def read_through(self, origin: Origin, feed: Callable[[Bytes], Awaitable[None]]) -> int:
        """Pass the unpacked stream of a compressed tar on to `feed` in order; return its size.

        Its bytes are cached on the way. Raises an `Up42fsError`.
        """
        assert origin.extent is not None, "it is a member"
        fetcher = self._fetcher_of(origin)

        def opened() -> OpenFile:
            return self.open(
                origin.object_id, size=fetcher.size, name=origin.name, stamp=origin.stamp,
                reading=Reading.WHOLE, expected=origin.version, extent=origin.extent,
            )  # fmt: skip

        return await read_through(opened, fetcher, feed)

    def inflating(self) -> list[Progress]:
        """How far packed members are inflated, those first that are being inflated."""
        return list(self._inflaters.progress())

    def fetcher(
        self,
        object_id: str,
        size: int | None,
        name: str,
        stamp: str | None,
        extent: Extent | None = None,
    ) -> Fetcher:
        """Return the fetcher of an object of `size` bytes; for the store's own parts.

        With an `extent` it is a packed member; its size is None if it is a stream.
        """
        stated, size = size, size_of(extent, size) if extent is not None else size
        assert size is not None, "only that of a stream may be unknown"
        fetcher = self._fetchers.get(object_id)
        if fetcher is None or fetcher.size != size or fetcher.source.doubts(stamp):
            self._drop(object_id)
            if extent is None:
                network = self._source(object_id, name, size)
                source = ObjectSource(network, self._disk, object_id, stamp)
            else:
                source = self._packed.source(object_id, extent, size=stated, name=name, stamp=stamp)
            is_packed = extent is not None
            fetcher = self._new(object_id, source, size, is_packed=is_packed)
            self._fetchers[object_id] = fetcher
        fetcher.source.stamp = stamp
        self._fetchers.move_to_end(object_id)
        return fetcher

    async def ensure_version(
        self,
        object_id: str,
        *,
        name: str,
        stamp: str | None = None,
        extent: Extent | None = None,
    ) -> Version:
        """Return the object's version: from memory or disk, else by a link and a GET of its head.

        With an `extent` it is the version of the outermost archive. Concurrent callers for one
        object share the requests, and the head is cached for its reader. Raises an `Up42fsError`.
        """
        if extent is not None:
            archive = outermost(extent)
            object_id, name, stamp = archive.object_id, archive.name, archive.stamp
        known = self._known_version(object_id)
        if known is not None:
            return known
        turns = self._probes.setdefault(object_id, Turns())
        late = f"{name}: its size did not come in time; try again"
        try:
            with within(min(self._settings.read_deadline_s, SIZE_DEADLINE_S), late) as scope:
                async with turns.turn():
                    known = self._known_version(object_id) or await self._kept(object_id, stamp)
                    return known or await self._probe(object_id, name, stamp, scope.deadline)
        finally:
            if turns.are_over:
                self._probes.pop(object_id, None)

    def start_version(
        self,
        object_id: str,
        *,
        name: str,
        stamp: str | None = None,
        extent: Extent | None = None,
    ) -> None:
        """Like `ensure_version`, in the background: waits for nothing and raises nothing."""
        if extent is not None:
            archive = outermost(extent)
            object_id, name, stamp = archive.object_id, archive.name, archive.stamp
        if self._known_version(object_id) is None and object_id not in self._probes:
            supervise.start(self._nursery, self._ask_ahead, object_id, name, stamp)

    async def ensure_link(self, object_id: str) -> None:
        """Ensure that a valid link to the object exists; raises an `Up42fsError`."""
        await self._leases.get(object_id)

    async def link(self, object_id: str, lasts_s: float) -> SignedUrl:
        """Return a link for another program, which works for `lasts_s` seconds more if it can.

        All callers and all reads of an object share its links. Raises an `Up42fsError`.
        """
        lease = await self._leases.lasting(object_id, lasts_s)
        return SignedUrl(lease.url, self._leases.remaining_s(lease))

    def start_ahead(
        self,
        object_id: str,
        spans: Spans,
        *,
        size: int | None,
        name: str,
        stamp: str | None = None,
        extent: Extent | None = None,
    ) -> Prefetch:
        """Start prefetching `spans(size)` of an object that will soon be opened; does not wait.

        If `size` is None, it is fetched first; that of an archive's member is known.
        `readahead.folder.siblings` decides which objects and when. Errors are dropped: the reader
        will repeat the request itself.
        """
        if self._is_closed or self._is_nameless_told:
            return Prefetch()  # a later open cannot use bytes without a version
        return self._prefetches.start(Origin(object_id, size, name, stamp, extent), spans)

    def forget(self, object_id: str, *, extent: Extent | None = None) -> None:
        """Drop all cached state of an object; new handles start afresh, open ones keep theirs.

        So do those of its members. A stored member has no bytes of its own to drop.
        """
        if extent is not None and extent.is_view:
            if holder(extent).object_id in self._fetchers:
                self._archives.view(object_id, extent)[1].forget()
            return
        for member_id in [one for one in self._fetchers if is_of(one, object_id)]:
            self.forget(member_id)
        fetcher = self._fetchers.get(object_id)
        if fetcher is not None:
            fetcher.source.forget()
        if self._disk is not None:
            self._disk.remove(object_id)
        self._drop(object_id)
        self._leases.forget(object_id)

    def suspend(self) -> None:
        """Drop all links and connections, also those in use, because the machine slept."""
        self._leases.drop_all()
        self._transport.reset()

    def cached_bytes(self, object_id: str, *, extent: Extent | None = None) -> int:
        """Bytes of the object in memory."""
        if extent is not None and extent.is_view:
            if holder(extent).object_id not in self._fetchers:
                return 0
            return cached_bytes_of(*self._archives.view(object_id, extent))
        fetcher = self._fetchers.get(object_id)
        return fetcher.cached_bytes if fetcher else 0

    async def ensure_cached_bytes(
        self,
        object_id: str,
        *,
        size: int | None,
        name: str,
        stamp: str | None = None,
        extent: Extent | None = None,
    ) -> int:
        """Bytes of the object in memory or on disk: those that need no request."""
        is_view = extent is not None and extent.is_view
        known = self._known_version(holder(extent).object_id if extent and is_view else object_id)
        if known is not None and not known.tells_apart:
            return 0  # the next open cannot use these bytes
        if size is None:
            version = known or await self._kept(object_id, stamp)
            if version is None:
                return 0
            size = version.size
        file = self.open(object_id, size=size, name=name, stamp=stamp, extent=extent)
        try:
            return await file.ensure_cached_bytes()
        finally:
            file.close()

    def fetched(self, object_id: str) -> Timeline:
        """When which bytes of one object came from the object store; see `Tallies.fetched`."""
        return self._tallies.fetched(object_id)

    def tally(self, object_id: str) -> Mapping[str, int]:
        """The counters of one object; see `tally.Tallies.get`."""
        return self._tallies.get(object_id)

    def tallies(self, most: int = 50) -> list[dict[str, object]]:
        """The `most` objects with the most fetched bytes, each with its counters."""
        return self._tallies.top(most)

    def disk_status(self) -> dict[str, object] | None:
        """State of the disk cache; None without one."""
        return self._disk.status() if self._disk else None

    def gauges(self) -> dict[str, int]:
        """Current state: links, bytes in memory and their limit, running requests, prefetches."""
        return {
            "fetches_ahead": len(self._prefetches),
            "insight_bytes": self._insights.held_bytes,
            "inflating": self._inflaters.running,
            "inflaters_resting": self._inflaters.resting,
            "leases": len(self._leases),
            "memory_bytes": self._cache.used_bytes,
            "memory_limit_bytes": self._settings.parts_bytes,
            "probes_running": len(self._probes),
            "requests_running": self._slots.running,
        }

    @property
    def memory_bytes(self) -> int:
        """Bytes counted against the memory budget now."""
        return self._cache.used_bytes

    async def aclose(self) -> None:
        """End every fetch and read; the store cannot be used afterwards."""
        self._is_closed = True
        self._prefetches.cancel_all()
        self._inflaters.close()
        for fetcher in list(self._live):
            fetcher.stop(Unavailable("the mount is being unmounted"))
        if self._disk is not None:
            for _ in range(_ENDING_TICKS):
                if self._slots.running:
                    await trio.lowlevel.checkpoint()
            await self._disk.aclose()
        self._fetchers.clear()
        self._transport.close()
        await trio.lowlevel.checkpoint()

    def _fetcher_of(self, origin: Origin) -> Fetcher:
        """The fetcher of an archive that is not itself a stored member."""
        known = self._known_version(origin.object_id) if origin.extent is None else None
        size = origin.size if origin.size is not None else known.size if known else None
        if size is None and origin.extent is None:
            raise Unavailable(f"{origin.name}: its size is not known yet; try again")
        fetcher = self.fetcher(origin.object_id, size, origin.name, origin.stamp, origin.extent)
        version = origin.version
        if version is not None and version.tells_apart and not fetcher.source.pin.assume(version):
            raise fetcher.source.error(VersionChanged, "its table is that of another version")
        return fetcher

    def _known_version(self, object_id: str) -> Version | None:
        fetcher = self._fetchers.get(object_id)
        return fetcher.version if fetcher else None

    async def _ask_ahead(self, object_id: str, name: str, stamp: str | None) -> None:
        with suppress(Up42fsError):  # a caller that needs the version gets the error itself
            await self.ensure_version(object_id, name=name, stamp=stamp)

    async def _kept(self, object_id: str, stamp: str | None) -> Version | None:
        label = await self._disk.label(object_id) if self._disk else None
        if label is None or (label.object_id, label.stamp) != (object_id, stamp):
            return None
        return label.version

    async def _probe(
        self, object_id: str, name: str, stamp: str | None, deadline_s: float
    ) -> Version:
        self._tallies.of(object_id, name).count("store.probes")
        source = self._source(object_id, name, None)
        kept = ObjectSource(source, self._disk, object_id, stamp)
        head = Part(ByteRange(0, HEAD_BYTES), None, wanted=True, deadline_s=deadline_s)
        head.begin(self._buffers)
        try:
            await kept.fetch(head)  # another process may ask for it at the same time
        finally:
            head.finish(None)
        version = source.pin.version
        assert version is not None, "a source fills its part, or raises"
        self._drop(object_id)
        fetcher = self._fetchers[object_id] = self._new(object_id, kept, version.size)
        content = bytes(head.peek(head.span)) if head.filled else b""
        fetcher.adopt(content)
        if not content:  # of an empty object nothing but its version is kept
            kept.keep(None, memoryview(content))
        return version

    def _source(self, object_id: str, name: str, size: int | None) -> NetworkSource:
        tally = self._tallies.of(object_id)
        return NetworkSource(object_id, name, VersionPin(size), tally, self._network)

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

    def _forget_unpinned(self, object_id: str) -> None:
        """Keep a new handle from bytes whose version cannot be told from others."""
        fetcher = self._fetchers.get(object_id)
        if fetcher is None or fetcher.version is None or fetcher.version.tells_apart:
            return
        if fetcher.handles:
            del self._fetchers[object_id]  # its open handles keep it
        else:
            self._drop(object_id)

    def _new(
        self, object_id: str, source: ObjectSource, size: int, *, is_packed: bool = False
    ) -> Fetcher:
        self._prune()

        def changed(fetcher: Fetcher, version: Version | None) -> None:
            members = [view.object_id for view in self._archives.known(fetcher)]
            if self._fetchers.get(object_id) is fetcher:
                members += [one for one in self._fetchers if is_of(one, object_id)]
                self.forget(object_id)
            if self._on_version is not None:
                self._on_version(object_id, version)
                for member_id in members:
                    self._on_version(member_id, None)

        fetcher = Fetcher(
            size,
            source,
            slots=self._inflaters.slots if is_packed else self._slots,
            cache=self._cache,
            buffers=self._buffers,
            tally=self._tallies.of(object_id),
            read_deadline_s=(
                self._inflaters.longest_s if is_packed else self._settings.read_deadline_s
            ),
            on_changed=changed,
        )
        self._live.add(fetcher)
        return fetcher

    def _drop(self, object_id: str) -> None:
        fetcher = self._fetchers.pop(object_id, None)
        if fetcher is not None:
            self._drop_insights(fetcher)
            fetcher.forget()

    def _drop_insights(self, fetcher: Fetcher) -> None:
        self._insights.dropped(fetcher)
        for view in self._archives.known(fetcher):
            self._insights.dropped(view)

    def _prune(self) -> None:
        if len(self._fetchers) <= MOST_IDLE:
            return
        idle = [object_id for object_id, fetcher in self._fetchers.items() if fetcher.is_idle]
        for object_id in idle[: len(idle) // 2]:
            self._drop_insights(self._fetchers.pop(object_id))


def _group(job: tuple[Fetcher, Part]) -> Hashable:
    fetcher, part = job
    return id(part.tally) if part.tally is not None else fetcher


async def _run(job: tuple[Fetcher, Part]) -> None:
    fetcher, part = job
    await fetcher.run(part)
