"""The tables of archives: in memory, else from the snapshot, else read from the archive itself.

Knows how a table is fetched, for how long it holds and who waits for it; nothing of nodes' names,
attributes or the kernel.

Theory. A table belongs to one state of an archive's bytes, told by the catalogue's stamp of the
asset. While the stamp stays the same, no request is needed, in this mount or a later one; after
that the table is read anew. It also names the version that it was read from, so that the store
refuses to apply it to other bytes.
1. A zip costs one range if its directory lies in its last `TAIL_BYTES`, else two. A tar is read
   through once: its members have no directory. Its bytes are kept like those of any reader.
2. Tasks that need one table share one flight. A flight goes on when its callers give up: the next
   ones find what it found. They wait while bytes arrive, up to `LONGEST_S` in total. A walk over
   many archives of a store that answers nothing waits twice in full (`net.silence`).
3. The first look may refute the name. If the bytes begin as an archive of another kind does, it is
   read as that one; else it is none (`NotAnArchiveError`). Both are remembered for as long as the
   stamp stays the same.
4. In memory the most recently used tables stay, up to `MOST_HELD_BYTES` in all. An open directory
   keeps its own table alive.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from weakref import WeakValueDictionary

import trio
from cachetools import LRUCache

from up42fs.archive import zip as zips
from up42fs.archive.kinds import HEAD_BYTES, ArchiveKind, kind_of, kind_of_bytes
from up42fs.archive.links import passes, resolved, text_of, unresolved
from up42fs.archive.table import (
    ArchiveError,
    DamagedError,
    Method,
    NotAnArchiveError,
    Table,
    TooLargeError,
)
from up42fs.archive.tar import TarReader
from up42fs.catalog.index import Index
from up42fs.catalog.stored_members import StoredTable, TableShelf
from up42fs.deadlines import request_s
from up42fs.errors import (
    DamagedArchive,
    DeadlineExceeded,
    NotADirectory,
    StillReading,
    TooManyMembers,
    Up42fsError,
    VersionChanged,
)
from up42fs.flights import Flights
from up42fs.fs.branches.member_tree import MemberTree
from up42fs.fs.tree import member_ids
from up42fs.metrics import Metrics
from up42fs.net.silence import BRIEFLY_S, MOST_BEGUN, Silence
from up42fs.store.members.extent import Extent, StoredObject
from up42fs.store.store import FileStore
from up42fs.types import Asset, ByteRange, Bytes

log = logging.getLogger(__name__)

#: The end of a zip that is read first: 660 to 1385 members' entries.
TAIL_BYTES = 128 << 10
#: Larger directories are parsed in a worker thread, bytes.
PARSED_HERE_BYTES = 64 << 10
#: Larger pieces of a tar are parsed there, bytes, and tables of more members are made there.
FED_HERE_BYTES = 256 << 10
MADE_HERE = 5000
#: Memory of tables that are kept unused, bytes; the latest one stays in any case.
MOST_HELD_BYTES = 24 << 20
#: How long a reader waits for a table without new bytes, and in total, seconds.
IDLE_S = request_s(25.0)
LONGEST_S = 4 * IDLE_S
#: A flight ends after this at the latest, seconds: a tar of 10 GB at 2 MB/s.
FLIGHT_S = 5400.0
#: Symbolic links whose targets are read; others are shown as files.
MOST_TARGETS = 1000
#: Ranges of targets that are requested at once.
TARGETS_AT_ONCE = 4


_METHODS = {
    ArchiveKind.TGZ: Method.GZIP,
    ArchiveKind.TBZ2: Method.BZIP2,
    ArchiveKind.TXZ: Method.XZ,
    ArchiveKind.TZST: Method.ZSTD,
}


class TableProgress:
    """How far the reading of a table is, in bytes; of a compressed tar, in unpacked ones.

    `size` is the archive's, in bytes.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.done_bytes = 0

    def describe(self) -> dict[str, object]:
        """As JSON types."""
        return {"name": self.name, "done_bytes": self.done_bytes, "bytes": self.size}


class ArchiveTables:
    """The tables of one mount's archives."""

    def __init__(
        self,
        nursery: trio.Nursery,
        index: Index,
        files: FileStore,
        *,
        shelf: TableShelf | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._index = index
        self._files = files
        self._shelf = shelf
        self._metrics = metrics or Metrics()
        self._flights: Flights[str, MemberTree] = Flights(
            nursery, "reading the members of {key}", timeout_s=FLIGHT_S
        )
        #: The archives' members that are in memory.
        self.held: WeakValueDictionary[str, MemberTree] = WeakValueDictionary()
        self._recent: LRUCache[str, MemberTree] = LRUCache(
            # One that is larger than all room takes it alone.
            MOST_HELD_BYTES,
            lambda tree: min(tree.table.held_bytes, MOST_HELD_BYTES),
        )
        self._reading: dict[str, TableProgress] = {}
        self._silence = Silence()
        #: Assets whose stored tables may be of other bytes, although their stamp is the same; with
        #: the archives that were read anew since then.
        self._doubted: dict[str, set[str]] = {}
        #: Returns the size of an asset's file, fetched if UP42 does not report it.
        self.ensure_size: Callable[[str], Awaitable[int]] = self._size

    async def _size(self, asset_id: str) -> int:
        return self._asset(asset_id).size or 0

    async def get(self, archive_id: str) -> MemberTree:
        """The archive's members; raises an `Up42fsError`, NotADirectory if it is no archive."""
        held = self.held.get(archive_id)
        if held is not None and held.stamp == self.stamp(archive_id):
            self._recent[archive_id] = held
            return held
        return await self._awaited(archive_id)

    async def kept(self, asset_id: str) -> MemberTree | None:
        """The members of an asset's archive, if memory or the snapshot has them: no request."""
        stamp, held = self.stamp(asset_id), self.held.get(asset_id)
        if held is not None and held.stamp == stamp:
            return held
        if self._shelf is None or stamp is None or asset_id in self._doubted:
            return None
        stored = await self._shelf.load(asset_id)
        size = self._asset(asset_id).size
        if stored is not None and stored.version is not None:
            size = stored.version.size
        if stored is None or stored.stamp != stamp or size is None:
            return None
        return self._hold(
            asset_id, StoredObject(asset_id, size, self.label(asset_id), stamp), stored
        )

    def forget(self, asset_id: str) -> bool:
        """Drop the tables of an asset and of archives in it: its bytes may have changed.

        They are read anew, since the stored one opens nothing any more. Returns whether there were
        any in memory.
        """
        self._doubted[asset_id] = set()
        dropped = [id_ for id_ in self.held if member_ids.asset_id_of(id_) == asset_id]
        for archive_id in dropped:
            self.held.pop(archive_id, None)
            self._recent.pop(archive_id, None)
        return bool(dropped)

    def stamp(self, archive_id: str) -> str | None:
        """The catalogue's mark of the archive's bytes."""
        asset = self._index.assets.get(member_ids.asset_id_of(archive_id))
        return None if asset is None else self._index.bytes_time(asset).isoformat()

    def name(self, archive_id: str) -> str:
        """The archive's own file name; raises VersionChanged if it is gone."""
        if not member_ids.is_member_id(archive_id):
            return self._index.assets.wish(self._asset(archive_id))
        parent = self.held.get(archive_id.rpartition("!")[0])
        member = None if parent is None else parent.member(member_ids.member_node(archive_id))
        if member is None:
            raise VersionChanged(f"archive {archive_id} is no longer in UP42 storage")
        return member.name

    def label(self, archive_id: str) -> str:
        """The archive's name in messages."""
        asset = self._asset(member_ids.asset_id_of(archive_id))
        own = f"{asset.name or asset.title or 'asset'} (asset {asset.id})"
        if not member_ids.is_member_id(archive_id):
            return own
        return f"{self.name(archive_id)} in {own}"

    def status(self) -> list[dict[str, object]]:
        """The tables that are being read."""
        return [progress.describe() for progress in self._reading.values()]

    # waiting -------------------------------------------------------------------------------

    async def _awaited(self, archive_id: str) -> MemberTree:
        """Wait for a flight; not in full while the store answers nothing to one after another."""
        told = self._silence.told(trio.current_time())
        if told is not None:
            return await self._briefly(archive_id, told)
        with self._silence.waited_for(trio.current_time):
            return await self._joined(archive_id)

    async def _briefly(self, archive_id: str, told: Up42fsError) -> MemberTree:
        """The members if they are at hand; else an error like `told`, for which others waited."""
        load = partial(self._load, archive_id)
        stored = None if member_ids.is_member_id(archive_id) else await self.kept(archive_id)
        if stored is not None:
            return stored
        try:
            found = await self._flights.briefly(archive_id, load, BRIEFLY_S, MOST_BEGUN)
        except Up42fsError as error:
            self._silence.ended_early(error)
            raise
        if found is not None:
            self._silence.ended_early()
            return found[0]
        raise type(told)(
            f"{self.label(archive_id)}: its members were not waited for, as those of others before "
            f"it failed; the last: {told}"
        ) from told

    async def _joined(self, archive_id: str) -> MemberTree:
        """Wait for a flight while its bytes arrive."""
        began_s, seen = trio.current_time(), -1
        while True:
            with trio.move_on_after(IDLE_S):
                return await self._flights.join(archive_id, partial(self._load, archive_id))
            progress = self._reading.get(archive_id)
            done = progress.done_bytes if progress else seen
            is_late = trio.current_time() - began_s + IDLE_S > LONGEST_S
            if done <= seen or is_late:
                told = f", {done >> 20:,} of {progress.size >> 20:,} MiB" if progress else ""
                raise (StillReading if done > 0 else DeadlineExceeded)(
                    f"{self.label(archive_id)}: its members are still being read{told}; this goes "
                    "on, try again later (up42fs status shows how far it is)"
                )
            seen = done

    async def _load(self, archive_id: str) -> MemberTree:
        stamp = self.stamp(archive_id)
        asset_id = member_ids.asset_id_of(archive_id)
        fresh = self._doubted.get(asset_id)
        stored = None
        if self._shelf is not None and (fresh is None or archive_id in fresh):
            stored = await self._shelf.load(archive_id)
        origin = await self._origin(archive_id)
        if stored is not None and stored.stamp == stamp and stamp is not None:
            return self._hold(archive_id, origin, stored)
        made = await self._read(archive_id, origin)
        self._metrics.count("archives.tables_read")
        if self._shelf is not None and origin.stamp is not None:
            await self._shelf.save(archive_id, asset_id, made)
            if fresh is not None:
                fresh.add(archive_id)
        return self._hold(archive_id, origin, made)

    def _hold(self, archive_id: str, origin: StoredObject, stored: StoredTable) -> MemberTree:
        counted_in = replace(origin, version=stored.version)
        kind = stored.kind or kind_of(self.name(archive_id))
        if kind is not None and kind.is_packed_stream:
            counted_in = stream_of(counted_in, kind)
        tree = MemberTree(archive_id, counted_in, stored.table)
        self.held[archive_id] = self._recent[archive_id] = tree
        return tree

    # reading -------------------------------------------------------------------------------

    async def _origin(self, archive_id: str) -> StoredObject:
        """The archive as an object of the store."""
        if not member_ids.is_member_id(archive_id):
            size = await self.ensure_size(archive_id)
            return StoredObject(archive_id, size, self.label(archive_id), self.stamp(archive_id))
        parent = await self.get(archive_id.rpartition("!")[0])
        member = parent.member(member_ids.member_node(archive_id))
        if member is None:
            raise VersionChanged(f"archive {archive_id} is no longer in UP42 storage")
        extent = parent.extent(member)
        return StoredObject(archive_id, member.size, self.label(archive_id), parent.stamp, extent)

    async def _read(self, archive_id: str, origin: StoredObject) -> StoredTable:
        kind = named = kind_of(self.name(archive_id))
        progress = self._reading[archive_id] = TableProgress(origin.name, origin.size or 0)
        try:
            if kind is None or not origin.size:
                raise NotAnArchiveError("its name or its size is no archive's")
            try:
                table = await self._read_as(kind, origin, progress)
            except NotAnArchiveError:
                other = await self._kind_by_bytes(origin)
                if other is kind is ArchiveKind.ZIP:
                    raise DamagedError(
                        "it begins as a zip and does not end as one: it is cut short, or other "
                        "bytes follow it"
                    ) from None
                if other is None or other is kind:
                    raise
                log.info("%s is read as what it is: a %s", origin.name, other.value)
                table = await self._read_as(other, origin, progress)
                named, kind = kind, other
            table = await self._with_targets(MemberTree(archive_id, origin, table))
        except NotAnArchiveError as error:
            raise NotADirectory(
                f"{origin.name} is no archive, although its name says so: {error}; it is shown as "
                "a file alone"
            ) from error
        except TooLargeError as error:
            raise TooManyMembers(f"the members of {origin.name} are not shown: {error}") from error
        except ArchiveError as error:
            raise DamagedArchive(
                f"the members of {origin.name} cannot be shown: {error}; the file itself can be "
                "read as it was delivered"
            ) from error
        finally:
            self._reading.pop(archive_id, None)
        version = self._files.version(origin.object_id)
        return StoredTable(table, origin.stamp, version, kind if kind is not named else None)

    async def _read_as(
        self, kind: ArchiveKind, origin: StoredObject, progress: TableProgress
    ) -> Table:
        if kind is ArchiveKind.ZIP:
            return await self._read_zip(origin, progress)
        return await self._read_tar(origin, kind, progress)

    async def _read_zip(self, origin: StoredObject, progress: TableProgress) -> Table:
        size = origin.size or 0
        tail_at = max(0, size - TAIL_BYTES)
        tail = await self._bytes(origin, tail_at, size, progress)
        directory = zips.find_directory(size, tail)
        if directory.span is None:
            return zips.table_of_zip(directory, b"", archive_size=size)
        start, stop = directory.span.start, directory.span.stop
        if start >= tail_at:
            data = tail[start - tail_at : stop - tail_at]
        else:
            data = await self._bytes(origin, start, tail_at, progress)
            data = (data + tail)[: stop - start]
        parse = partial(zips.table_of_zip, directory, data, archive_size=size)
        if len(data) <= PARSED_HERE_BYTES:
            return parse()
        return await trio.to_thread.run_sync(parse)

    async def _bytes(
        self, origin: StoredObject, start: int, stop: int, progress: TableProgress
    ) -> bytes:
        found = await self._files.read_range(origin, ByteRange(start, stop))
        progress.done_bytes += len(found)
        return found

    async def _read_tar(
        self, origin: StoredObject, kind: ArchiveKind, progress: TableProgress
    ) -> Table:
        reader = TarReader()

        async def feed(data: Bytes) -> None:
            # Of the smallest members, a mebibyte takes 20 ms.
            await trio.to_thread.run_sync(reader.feed, data)
            progress.done_bytes += len(data)

        if kind.is_packed_stream:
            try:
                size = await self._files.read_through(stream_of(origin, kind), feed)
            except DamagedArchive:
                if not progress.done_bytes:
                    await self._require_kind(origin, kind)
                raise
        else:
            size = origin.size or 0
            while (span := reader.next_range(size)) is not None:
                data = await self._bytes(origin, span.start, span.stop, progress)
                if len(data) > FED_HERE_BYTES:
                    await trio.to_thread.run_sync(reader.feed, data, span.start)
                else:
                    reader.feed(data, span.start)
        reader.end(size)
        if reader.damage or reader.left_out:
            left_out = (
                f"{reader.left_out} members are left out: devices, pipes, or links that lead out "
                "of the archive"
            )
            found = [reader.damage, left_out if reader.left_out else None]
            log.warning("%s: %s", origin.name, "; ".join(filter(None, found)))
        if reader.count > MADE_HERE:
            return await trio.to_thread.run_sync(lambda: reader.table)
        return reader.table

    async def _require_kind(self, origin: StoredObject, kind: ArchiveKind) -> None:
        """Raise NotAnArchiveError if the archive does not begin as its kind does."""
        if await self._kind_by_bytes(origin) is not kind:
            raise NotAnArchiveError(f"it does not begin as a {kind.value} does")

    async def _kind_by_bytes(self, origin: StoredObject) -> ArchiveKind | None:
        head = ByteRange(0, min(HEAD_BYTES, origin.size or 1))
        return kind_of_bytes(await self._files.read_range(origin, head))

    async def _with_targets(self, tree: MemberTree) -> Table:
        """The table with the targets of its symbolic links, which are members' contents."""
        links = unresolved(tree.table)[:MOST_TARGETS]
        if not links:
            return tree.table
        pending = iter(passes(links, tree.table))
        texts: dict[int, bytes] = {}
        failures: list[Up42fsError] = []

        async def read() -> None:
            for span, together in pending:
                try:
                    data = await self._files.read_range(tree.origin, span)
                except Up42fsError as error:
                    failures.append(error)
                if failures:
                    return
                for link in together:
                    text = text_of(link, tree.table, data, span.start)
                    if text is None:
                        log.info("%s of %s is shown as a file", link.path, tree.origin.name)
                    else:
                        texts[link.number] = text

        async with trio.open_nursery() as nursery:
            for _ in range(TARGETS_AT_ONCE):
                nursery.start_soon(read)
        if failures:
            raise failures[0]
        return resolved(tree.table, texts)

    def _asset(self, asset_id: str) -> Asset:
        asset = self._index.assets.get(asset_id)
        if asset is None:
            raise VersionChanged(f"asset {asset_id} is no longer in UP42 storage")
        return asset


def stream_of(origin: StoredObject, kind: ArchiveKind) -> StoredObject:
    """The unpacked bytes of a compressed tar as an object of the store."""
    extent = Extent(
        archive=origin,
        header_at=0,
        data_at=0,
        packed_size=origin.size or 0,
        method=_METHODS[kind],
        crc32=None,
    )
    return StoredObject(f"{origin.object_id}!tar", None, origin.name, origin.stamp, extent)
