"""Members where other parts of the tree name them: `stac/`, footprints, `search/`."""

from __future__ import annotations

from typing import cast

import pytest
import trio
from strategies import make_asset
from trio.testing import MockClock

from up42fs.archive.member import Member, MemberKind, Method
from up42fs.archive.table import Table
from up42fs.catalog.index import Changes, Index
from up42fs.catalog.stored_members import StoredTable, TableShelf
from up42fs.errors import DeadlineExceeded, NotADirectory
from up42fs.fs.branches.archive_tables import ArchiveTables
from up42fs.fs.branches.archives import Archives
from up42fs.net.silence import BRIEFLY_S, MOST_BEGUN
from up42fs.store.members.extent import StoredObject
from up42fs.store.store import FileStore
from up42fs.types import ByteRange, Version

IMAGE = "delivery/IMG.TIF"
#: How long the store waits for bytes that do not come.
SILENT_S = 35


class Nowhere:
    """A store that nothing may be requested of."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} was called")


class Shelf:
    """The snapshot's tables."""

    def __init__(self, stored: StoredTable) -> None:
        self.stored = stored

    async def load(self, _object_id: str) -> StoredTable | None:
        return self.stored


def table() -> Table:
    file = Member(0, IMAGE, MemberKind.FILE, 512, 1024, 4096, 4096, Method.STORED, None, 0, 0o644)
    return Table([file])


class SilentStore:
    """A store that answers nothing until `answers` is set, and no link either."""

    def __init__(self) -> None:
        self.answers = trio.Event()
        self.asked: list[str] = []

    async def read_range(self, origin: StoredObject, span: ByteRange) -> bytes:
        self.asked.append(origin.object_id)
        with trio.move_on_after(SILENT_S):
            await self.answers.wait()
            return bytes(len(span))
        raise DeadlineExceeded("it stopped sending")

    def version(self, _object_id: str) -> None:
        return None


@pytest.mark.claim("S386")
async def test_a_walk_over_archives_waits_twice_for_a_silent_store(
    autojump_clock: MockClock,
) -> None:
    assets = [make_asset(n, name=f"{n}.zip", size=500_000) for n in range(100)]
    index, store = Index(), SilentStore()
    index.apply(Changes(assets=tuple(assets)))
    async with trio.open_nursery() as nursery:
        tables = ArchiveTables(nursery, index, cast("FileStore", store))
        for asset in assets:
            with pytest.raises(DeadlineExceeded):
                await tables.get(asset.id)
        # Of those that are not waited for in full, some begin, to find out when the store is back.
        assert trio.current_time() == pytest.approx(2 * SILENT_S + MOST_BEGUN * BRIEFLY_S, abs=0.5)
        assert len(set(store.asked)) <= 2 + MOST_BEGUN
        store.answers.set()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(NotADirectory):
            await tables.get(assets[50].id)
        nursery.cancel_scope.cancel()


@pytest.mark.claim("S357")
@pytest.mark.parametrize("is_same", [True, False])
async def test_the_table_of_a_tar_is_taken_from_the_snapshot(is_same: bool) -> None:
    asset = make_asset(1, name="delivery.tgz", size=5000)
    index = Index()
    index.apply(Changes(assets=(asset,)))
    async with trio.open_nursery() as nursery:
        tables = ArchiveTables(nursery, index, cast("FileStore", Nowhere()))
        stamp = tables.stamp(asset.id) if is_same else "of other bytes"
        stored = StoredTable(table(), stamp, Version(5000, '"a"'))
        tables._shelf = cast("TableShelf", Shelf(stored))
        archives = Archives(index, tables)
        await archives.look(asset.id)
        assert list(archives.paths(asset.id)) == ([IMAGE] if is_same else [])
        nursery.cancel_scope.cancel()
