"""Members where other parts of the tree name them: `stac/`, footprints, `search/`."""

from __future__ import annotations

from typing import cast

import pytest
import trio
from strategies import make_asset

from up42fs.archive.member import Member, MemberKind, Method
from up42fs.archive.table import Table
from up42fs.catalog.index import Changes, Index
from up42fs.catalog.stored_members import StoredTable, TableShelf
from up42fs.fs.branches.archive_tables import ArchiveTables
from up42fs.fs.branches.archives import Archives
from up42fs.store.store import FileStore
from up42fs.types import Version

IMAGE = "delivery/IMG.TIF"


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
