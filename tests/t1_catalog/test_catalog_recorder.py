"""What changes is written behind, in few transactions, and what is left at the end."""

from __future__ import annotations

import errno
import logging
import sqlite3
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from strategies import make_asset, make_order

from up42fs.catalog import recorder as recorder_module
from up42fs.catalog.index import Changes, Index, ListingKind
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.snapshot import snapshot as snapshot_module
from up42fs.catalog.snapshot.ailments import Ailment, ailment
from up42fs.catalog.snapshot.snapshot import SaveResult, Snapshot
from up42fs.catalog.snapshot.stored import Batch, ItemRow, SizeRow


class Counted(Snapshot):
    """Counts its transactions."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.batches: list[Batch] = []

    def save(self, batch: Batch) -> SaveResult:
        self.batches.append(batch)
        return super().save(batch)


async def test_many_changes_are_few_transactions(tmp_path: Path, nursery: trio.Nursery) -> None:
    index, snapshot, synced = Index(), Counted(tmp_path / "c.sqlite"), set[ListingKind]()
    recorder = Recorder(snapshot, index, lambda part: part in synced, gather_s=0.01)
    for number in range(100):
        recorder.note(index.apply(Changes(assets=(make_asset(number),))))
    recorder.note(index.apply(Changes(orders=(make_order(1),))))
    synced.add(ListingKind.ASSETS)
    nursery.start_soon(recorder.run)
    while not snapshot.batches:
        await trio.sleep(0.01)
    removed = frozenset({make_asset(3).id})
    recorder.note(index.apply(Changes(removed_assets=removed)))
    nursery.cancel_scope.cancel()
    await recorder.flush()
    assert len(snapshot.batches) <= 3
    stored = Snapshot(tmp_path / "c.sqlite").load()
    assert stored.assets == index.assets
    assert len(stored.assets) == 99
    assert stored.orders == (make_order(1),)
    assert (stored.assets_complete, stored.orders_complete) == (True, False)


async def test_the_last_write_does_not_wait_for_another_mount_beyond_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder_module, "FLUSH_TIMEOUT_S", 0.2)
    index, path = Index(), tmp_path / "c.sqlite"
    Snapshot(path).save(Batch())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    recorder = Recorder(Snapshot(path), index, lambda _: False)
    recorder.note(index.apply(Changes(assets=(make_asset(1),))))
    began_s = trio.current_time()
    await recorder.flush()
    took_s = trio.current_time() - began_s
    other.execute("ROLLBACK")
    assert took_s < snapshot_module.BUSY_TIMEOUT_S - 1
    assert "the last changes of the catalogue are not stored" in caplog.text


def fill(path: Path, index: Index) -> None:
    """Store so much that every table has pages of its own."""
    snapshot = Snapshot(path)
    assets = list(index.assets.values())
    snapshot.save(
        Batch(
            assets=assets,
            complete=frozenset({"assets", "orders"}),
            items=[ItemRow(a.id, 1, "x" * 300, b"y" * 300) for a in assets],
            sizes=[SizeRow(f"{a.id}/{n}", a.id, "s", n) for a in assets for n in range(20)],
            answers={f"question {n}": b"z" * 300 for n in range(50)},
        )
    )
    snapshot.close()


def damage(path: Path, table: str) -> None:
    """Overwrite the first page of a table."""
    database = sqlite3.connect(path)
    where = "SELECT rootpage FROM sqlite_master WHERE name = ?"
    page = database.execute(where, (table,)).fetchone()[0]
    size = database.execute("PRAGMA page_size").fetchone()[0]
    database.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


@pytest.fixture
def index() -> Index:
    index = Index()
    index.apply(Changes(assets=tuple(make_asset(n) for n in range(60)), orders=(make_order(1),)))
    return index


@pytest.mark.parametrize(
    ("found_by", "table"),
    [
        *(("a read", table) for table in ("item", "answer", "size_of")),
        *(("a write", table) for table in ("item", "answer", "size_of", "sqlite_autoindex_size_1")),
    ],
)
@pytest.mark.claim("S138")
async def test_a_damaged_table_is_rebuilt_whenever_it_is_found(
    tmp_path: Path, nursery: trio.Nursery, index: Index, table: str, found_by: str, caplog
) -> None:
    path = tmp_path / "c.sqlite"
    fill(path, index)
    damage(path, table)
    snapshot = Snapshot(path)
    assert len(snapshot.load().assets) == 60  # nothing is seen of it
    recorder = Recorder(snapshot, index, lambda _: True, gather_s=0.01)
    nursery.start_soon(recorder.run)
    await trio.testing.wait_all_tasks_blocked()
    ids = list(index.assets)
    if found_by == "a read":
        await trio.to_thread.run_sync(snapshot.items, ids)
        await trio.to_thread.run_sync(snapshot.sizes, ids)
        await trio.to_thread.run_sync(snapshot.answer, "question 7")
    else:
        for n in range(400):
            recorder.note_size(SizeRow(f"{ids[0]}/new-{n}", ids[0], "s", n))
            recorder.note_answer(f"question {n}", b"a" * 50)
        for asset_id in ids:
            recorder.note_items(ItemRow(asset_id, 2, "i", b"d"))
    await trio.sleep(0.3)
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await recorder.flush()
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    database.close()
    stored = Snapshot(path).load()
    assert stored.assets == index.assets
    assert len(stored.orders) == 1
    assert (stored.assets_complete, stored.orders_complete) == (True, True)
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "rebuilding" in told[0]


@pytest.mark.claim("S138")
async def test_a_lock_of_another_mount_loses_nothing(
    tmp_path: Path, nursery: trio.Nursery, index: Index, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(snapshot_module, "BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "c.sqlite"
    fill(path, index)
    snapshot = Snapshot(path)
    snapshot.load()
    recorder = Recorder(snapshot, index, lambda _: True, gather_s=0.01)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    nursery.start_soon(recorder.run)
    asset_id = next(iter(index.assets))
    recorder.note(
        index.apply(Changes(assets=(make_asset(900),), removed_assets=frozenset({asset_id})))
    )
    recorder.note_answer("of then", b"kept")
    await trio.sleep(0.3)
    recorder.note(index.apply(Changes(assets=(make_asset(901),))))
    other.execute("ROLLBACK")
    other.close()
    with trio.fail_after(10):
        while snapshot.answer("of then") != b"kept":
            await trio.sleep(0.02)
    await trio.sleep(0.2)
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await recorder.flush()
    assert Snapshot(path).load().assets == index.assets
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "just now (database is locked)" in told[0]


@pytest.mark.claim("S138")
def test_a_file_that_another_mount_has_locked_is_not_removed(
    tmp_path: Path, index: Index, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(snapshot_module, "BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "c.sqlite"
    fill(path, index)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert len(Snapshot(path).load().assets) == 0
    assert "cannot be read just now" in caplog.text
    other.execute("ROLLBACK")
    other.close()
    assert Snapshot(path).load().assets == index.assets


@pytest.mark.claim("S138")
def test_where_another_mount_began_anew_this_one_follows(tmp_path: Path, index: Index) -> None:
    path = tmp_path / "c.sqlite"
    one, two = Snapshot(path), Snapshot(path)
    one.save(Batch(assets=[make_asset(1)]))
    two.save(Batch(assets=[make_asset(2)]))
    two._remove()
    two.save(Batch(assets=[make_asset(2)]))
    assert one.save(Batch(assets=[make_asset(1)])) is SaveResult.DONE
    assert len(Snapshot(path).load().assets) == 2


def test_what_no_column_takes_is_left_out_and_the_rest_goes_on(tmp_path: Path, caplog) -> None:
    snapshot = Snapshot(tmp_path / "c.sqlite")
    assert snapshot.save(Batch(assets=[make_asset(1, size=1 << 70)])) is SaveResult.DONE
    assert "cannot be stored" in caplog.text
    assert snapshot.save(Batch(assets=[make_asset(2)])) is SaveResult.DONE
    assert len(snapshot.load().assets) == 1


CODES = st.integers(1, 28).map(lambda code: (code, code)) | st.integers(1, 28).flatmap(
    lambda code: st.integers(1, 40).map(lambda extra: (code, code | extra << 8))
)


@given(CODES, st.booleans())
def test_each_error_of_sqlite_has_one_meaning(codes: tuple[int, int], reading: bool) -> None:
    """An extended code means what its primary one does."""
    errors = []
    for code in codes:
        error = sqlite3.OperationalError("it failed")
        error.sqlite_errorcode = code
        errors.append(ailment(error, reading=reading))
    assert errors[0] is errors[1]
    if codes[0] in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        assert errors[0] is Ailment.DAMAGED
    if codes[0] in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        assert errors[0] is Ailment.BUSY


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (OSError(errno.EMFILE, "full"), Ailment.SHORT),
        (OSError(errno.ENOSPC, "full"), Ailment.SHORT),
        (MemoryError(), Ailment.SHORT),
        (OSError(errno.EACCES, "no"), Ailment.REFUSED),
        (OSError(errno.EROFS, "no"), Ailment.REFUSED),
    ],
    ids=repr,
)
def test_each_error_of_the_machine_has_one_meaning(error: Exception, found: Ailment) -> None:
    assert ailment(error, reading=True) is ailment(error, reading=False) is found
