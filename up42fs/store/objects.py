"""The objects of a store that are open, cached, or remembered for their version.

Each object has one `Fetcher`, which all its handles share until its version changes or it is
forgotten. This module makes fetchers, finds them, and drops them with all that hangs on them. It
knows nothing of handles and asks for no version: see `store` and `versions`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from weakref import WeakSet

import trio

from up42fs.errors import Unavailable, Up42fsError, VersionChanged
from up42fs.store.buffers import Buffers
from up42fs.store.disk.cache import DiskCache, Runner
from up42fs.store.disk.layered import ObjectSource
from up42fs.store.fetcher import Fetcher
from up42fs.store.handle import Windows
from up42fs.store.http.answer import VersionPin
from up42fs.store.http.source import Network, NetworkSource
from up42fs.store.http.tally import Tallies
from up42fs.store.insights import Insights
from up42fs.store.members.archives import StoredMembers
from up42fs.store.members.extent import Extent, StoredObject, is_of
from up42fs.store.members.inflate.inflaters import Inflaters
from up42fs.store.members.packed import PackedMembers, size_of
from up42fs.store.memory import MemoryCache
from up42fs.store.part import Carrier, Part
from up42fs.store.settings import StoreSettings
from up42fs.store.slots import Slots
from up42fs.types import Version

#: Objects remembered without bytes or handles, for their pinned version.
MOST_IDLE = 4096
#: Parsed structures kept of objects that are not open, bytes: a hundred large images.
INSIGHT_BYTES = 16 << 20


class Objects:
    """The fetchers of one store. Tasks run in `nursery`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        settings: StoreSettings,
        *,
        network: Network,
        disk: DiskCache | None,
        tallies: Tallies,
        run_unpacking: Runner,
        on_version: Callable[[str, Version | None], None] | None,
    ) -> None:
        self._settings = settings
        self._network = network
        self._disk = disk
        self._tallies = tallies
        self._on_version = on_version
        self.cache = MemoryCache(settings.parts_bytes, settings.scan_bytes)
        self.buffers = Buffers(settings.parts_bytes)
        self.windows = Windows(settings.parts_bytes // 2)
        self.archives = StoredMembers(self.holding)
        self.insights = Insights(INSIGHT_BYTES)
        self.inflaters = Inflaters(
            nursery, cache=self.cache, buffers=self.buffers, disk=disk, run_part=_run,
            run=run_unpacking,
        )  # fmt: skip
        self._packed = PackedMembers(
            self.inflaters, self.archives, tallies=tallies, windows=self.windows,
            insights=self.insights, on_damaged=self.forget,
        )  # fmt: skip
        self.slots: Slots[tuple[Carrier, Part]] = Slots(
            nursery,
            _run,
            total=settings.connections,
            ahead=settings.connections_ahead,
            group=_group,
        )
        self._live: WeakSet[Fetcher] = WeakSet()  # also fetchers that only old handles still use
        self._fetchers: OrderedDict[str, Fetcher] = OrderedDict()

    def version(self, object_id: str) -> Version | None:
        """The version that is pinned of an object; None before its first answer."""
        fetcher = self._fetchers.get(object_id)
        return fetcher.version if fetcher else None

    def fetcher(
        self,
        object_id: str,
        size: int | None,
        name: str,
        stamp: str | None,
        extent: Extent | None = None,
    ) -> Fetcher:
        """Return the fetcher of an object of `size` bytes.

        With an `extent` it is a packed member; its size is None if it is a stream.
        """
        stated, size = size, size_of(extent, size) if extent is not None else size
        assert size is not None, "only that of a stream may be unknown"
        fetcher = self._fetchers.get(object_id)
        if fetcher is None or fetcher.size != size or fetcher.source.doubts(stamp):
            if extent is None:
                source = self.source(object_id, name, size, stamp)
            else:
                source = self._packed.source(object_id, extent, size=stated, name=name, stamp=stamp)
            fetcher = self.replace(object_id, source, size, is_packed=extent is not None)
        fetcher.source.stamp = stamp
        self._fetchers.move_to_end(object_id)
        return fetcher

    def holding(self, origin: StoredObject) -> Fetcher:
        """The fetcher of an archive that is not itself a stored member."""
        known = self.version(origin.object_id) if origin.extent is None else None
        size = origin.size if origin.size is not None else known.size if known else None
        if size is None and origin.extent is None:
            raise Unavailable(f"{origin.name}: its size is not known yet; try again")
        fetcher = self.fetcher(origin.object_id, size, origin.name, origin.stamp, origin.extent)
        version = origin.version
        if version is not None and version.tells_apart and not fetcher.source.pin.assume(version):
            raise fetcher.source.error(VersionChanged, "its table is that of another version")
        return fetcher

    def source(
        self, object_id: str, name: str, size: int | None, stamp: str | None
    ) -> ObjectSource:
        """The source of an object's bytes: disk, then network."""
        tally = self._tallies.of(object_id)
        network = NetworkSource(object_id, name, VersionPin(size), tally, self._network)
        return ObjectSource(network, self._disk, object_id, stamp)

    def replace(
        self, object_id: str, source: ObjectSource, size: int, *, is_packed: bool = False
    ) -> Fetcher:
        """Make an object's fetcher; one that it had serves only its open handles from now on."""
        self._drop(object_id)
        self._prune()
        inflaters = self.inflaters

        def changed(fetcher: Fetcher, version: Version | None) -> None:
            members = [view.object_id for view in self.archives.known(fetcher)]
            if self._fetchers.get(object_id) is fetcher:
                members += [one for one in self._fetchers if is_of(one, object_id)]
                self.forget(object_id)
            if self._on_version is not None:
                self._on_version(object_id, version)
                for member_id in members:
                    self._on_version(member_id, None)

        fetcher = self._fetchers[object_id] = Fetcher(
            size,
            source,
            slots=inflaters.slots if is_packed else self.slots,
            cache=self.cache,
            buffers=self.buffers,
            tally=self._tallies.of(object_id),
            read_deadline_s=inflaters.longest_s if is_packed else self._settings.read_deadline_s,
            on_changed=changed,
        )
        self._live.add(fetcher)
        return fetcher

    def forget(self, object_id: str) -> None:
        """Drop all cached state of an object; new handles start afresh, open ones keep theirs.

        So do those of its members.
        """
        for member_id in [one for one in self._fetchers if is_of(one, object_id)]:
            self.forget(member_id)
        fetcher = self._fetchers.get(object_id)
        if fetcher is not None:
            fetcher.source.forget()
        if self._disk is not None:
            self._disk.remove(object_id)
        self._drop(object_id)
        self._network.leases.forget(object_id)

    def forget_unpinned(self, object_id: str) -> None:
        """Keep a new handle from bytes whose version cannot be told from others."""
        fetcher = self._fetchers.get(object_id)
        if fetcher is None or fetcher.version is None or fetcher.version.tells_apart:
            return
        if fetcher.handles:
            del self._fetchers[object_id]  # its open handles keep it
        else:
            self._drop(object_id)

    def stop(self, error: Up42fsError) -> None:
        """End every fetch and read with `error`."""
        self.inflaters.close()
        for fetcher in list(self._live):
            fetcher.stop(error)

    def clear(self) -> None:
        """Let go of every object."""
        self._fetchers.clear()

    def _drop(self, object_id: str) -> None:
        fetcher = self._fetchers.pop(object_id, None)
        if fetcher is not None:
            self._drop_insights(fetcher)
            fetcher.forget()

    def _drop_insights(self, fetcher: Fetcher) -> None:
        self.insights.dropped(fetcher)
        for view in self.archives.known(fetcher):
            self.insights.dropped(view)

    def _prune(self) -> None:
        if len(self._fetchers) <= MOST_IDLE:
            return
        idle = [object_id for object_id, fetcher in self._fetchers.items() if fetcher.is_idle]
        for object_id in idle[: len(idle) // 2]:
            self._drop_insights(self._fetchers.pop(object_id))


def _group(job: tuple[Carrier, Part]) -> Hashable:
    carrier, part = job
    return id(part.tally) if part.tally is not None else carrier


async def _run(job: tuple[Carrier, Part]) -> None:
    carrier, part = job
    await carrier.run(part)
