"""The stored catalogue: the same rows again, and no damage that a mount could not shrug off."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import assets, make_asset, make_order, orders

from up42fs.catalog.snapshot.snapshot import Snapshot, snapshot_path
from up42fs.catalog.snapshot.stored import Batch, Stored
from up42fs.catalog.snapshot.tables import FORMAT
from up42fs.types import Asset, Order

batches = st.builds(
    Batch,
    assets=st.lists(assets, max_size=4, unique_by=lambda a: a.id).map(tuple),
    orders=st.lists(orders, max_size=2, unique_by=lambda o: o.id).map(tuple),
    removed_assets=st.lists(st.integers(0, 9).map(lambda n: make_asset(n).id), max_size=2),
    removed_orders=st.lists(st.integers(1, 3).map(lambda n: make_order(n).id), max_size=1),
    complete=st.frozensets(st.sampled_from(["assets", "orders"])),
)


def reload(path: Path) -> Stored:
    snapshot = Snapshot(path)
    try:
        return snapshot.load()
    finally:
        snapshot.close()


@given(st.lists(batches, max_size=6))
def test_what_was_saved_is_loaded(tmp_path_factory, history: list[Batch]) -> None:
    path = tmp_path_factory.mktemp("snapshot") / "c.sqlite"
    snapshot = Snapshot(path)
    known_assets: dict[str, Asset] = {}
    known_orders: dict[str, Order] = {}
    complete: set[str] = set()
    for batch in history:
        snapshot.save(batch)
        known_assets |= {asset.id: asset for asset in batch.assets}
        known_orders |= {order.id: order for order in batch.orders}
        for gone in batch.removed_assets:
            known_assets.pop(gone, None)
        for gone in batch.removed_orders:
            known_orders.pop(gone, None)
        complete |= batch.complete
    snapshot.close()
    found = reload(path)
    assert found.assets == known_assets
    assert {order.id: order for order in found.orders} == known_orders
    assert (found.assets_complete, found.orders_complete) == (
        "assets" in complete,
        "orders" in complete,
    )


def test_nothing_stored_is_nothing_and_makes_no_file(tmp_path: Path) -> None:
    assert reload(tmp_path / "none" / "c.sqlite") == Stored()
    assert not (tmp_path / "none").exists()


@given(st.binary(max_size=4000), st.integers(0, 8000))
def test_a_damaged_file_is_rebuilt(tmp_path_factory, junk: bytes, where: int) -> None:
    path = tmp_path_factory.mktemp("snapshot") / "c.sqlite"
    writer = Snapshot(path)
    writer.save(Batch(assets=[make_asset(n, title="x" * 50) for n in range(40)]))
    writer.close()
    content = bytearray(path.read_bytes())
    content[where : where + len(junk)] = junk
    path.write_bytes(content)
    logging.disable()
    try:
        reload(path)  # whatever it finds, it does not raise
        again = Snapshot(path)
        again.save(Batch(assets=[make_asset(1)]))
        again.close()
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough" * 100])
def test_a_foreign_file_is_replaced(tmp_path: Path, content: bytes, caplog) -> None:
    path = tmp_path / "c.sqlite"
    path.write_bytes(content)
    assert reload(path) == Stored()
    snapshot = Snapshot(path)
    snapshot.save(Batch(assets=[make_asset(1)], complete=frozenset({"assets"})))
    snapshot.close()
    assert list(reload(path).assets.values()) == [make_asset(1)]


def test_a_newer_format_is_said_once_and_rebuilt(tmp_path: Path, caplog) -> None:
    path = tmp_path / "c.sqlite"
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {FORMAT + 1}")
    database.close()
    assert reload(path) == Stored()
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "newer up42fs" in caplog.text
    assert reload(path) == Stored()
    assert len(caplog.records) == 1


def test_a_place_that_cannot_be_written_turns_it_off_with_one_warning(tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("")
    snapshot = Snapshot(tmp_path / "file" / "c.sqlite")
    for number in range(3):
        snapshot.save(Batch(assets=[make_asset(number)]))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "this mount stores nothing more of it" in caplog.text


@pytest.mark.claim("S64")
def test_a_symlink_is_not_followed(tmp_path: Path, caplog) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "c.sqlite").symlink_to(tmp_path / "victim")
    snapshot = Snapshot(tmp_path / "c.sqlite")
    snapshot.save(Batch(assets=[make_asset(1)]))
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.claim("S64")
def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "c.sqlite"
    snapshot = Snapshot(path)
    snapshot.save(Batch(assets=[make_asset(1)]))
    snapshot.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_accounts_hosts_and_workspaces_never_share_a_file() -> None:
    def path(api: str = "a", username: str = "u", workspace: str | None = None) -> Path:
        return snapshot_path(Path("/c"), api=api, username=username, workspace=workspace)

    different = {path(), path(api="b"), path(username="v"), path(workspace="w"), path("a\x1fu", "")}
    assert len(different) == 5
    assert path(username="U") == path(username="u")
    assert "u@example.com" not in str(path(username="u@example.com"))


def test_two_mounts_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    first, second = Snapshot(path), Snapshot(path)
    for number in range(0, 20, 2):
        first.save(Batch(assets=[make_asset(number)]))
        second.save(Batch(assets=[make_asset(number + 1)]))
    first.close()
    second.close()
    assert len(reload(path).assets) == 20


def test_a_kill_in_the_middle_leaves_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from strategies import make_asset
from up42fs.catalog.snapshot.snapshot import Snapshot
from up42fs.catalog.snapshot.stored import Batch
from datetime import UTC, datetime
from pathlib import Path
snapshot = Snapshot(Path({str(path)!r}))
print("go", flush=True)
for n in range(10_000):
    snapshot.save(Batch(assets=[make_asset(2 * n), make_asset(2 * n + 1)]))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    while not path.exists() or path.stat().st_size < 150_000:
        assert process.poll() is None
        os.sched_yield()
    process.kill()
    process.communicate()
    found = reload(path).assets
    assert found
    assert len(found) % 2 == 0


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_survive_to_the_microsecond(tmp_path_factory, moment: datetime) -> None:
    path = tmp_path_factory.mktemp("snapshot") / "c.sqlite"
    snapshot = Snapshot(path)
    snapshot.save(Batch(assets=[make_asset(1, created_at=moment)]))
    snapshot.close()
    assert reload(path).assets[make_asset(1).id].created_at == moment


STRANGER = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.claim("S137")
def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path, caplog) -> None:
    place = tmp_path / "catalogue"
    place.mkdir()
    os.chown(place, STRANGER, STRANGER)
    snapshot = Snapshot(place / "c.sqlite")
    snapshot.save(Batch(assets=[make_asset(1)]))
    assert os.listdir(place) == []
    assert "it belongs to another user" in caplog.text


@pytest.mark.claim("S137")
def test_a_directory_that_is_a_link_is_not_followed(tmp_path: Path, caplog) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "catalogue").symlink_to(tmp_path / "elsewhere")
    Snapshot(tmp_path / "catalogue" / "c.sqlite").save(Batch(assets=[make_asset(1)]))
    assert os.listdir(tmp_path / "elsewhere") == []
    assert "cannot be stored" in caplog.text


@pytest.mark.claim("S137")
def test_an_open_directory_and_file_are_closed_to_others(tmp_path: Path) -> None:
    place = tmp_path / "catalogue"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    (place / "c.sqlite").touch()
    (place / "c.sqlite").chmod(0o666)
    snapshot = Snapshot(place / "c.sqlite")
    snapshot.save(Batch(assets=[make_asset(1)]))
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "c.sqlite").stat().st_mode) == 0o600


@pytest.mark.parametrize("suffix", ["", "-journal", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo", "stranger's"])
@pytest.mark.claim("S137")
def test_what_is_no_plain_file_of_ours_is_removed(tmp_path: Path, suffix: str, kind: str) -> None:
    victim, place = tmp_path / "victim", tmp_path / "catalogue"
    victim.write_text("precious")
    place.mkdir(mode=0o700)
    planted = place / f"c.sqlite{suffix}"
    match kind:
        case "symlink":
            planted.symlink_to(victim)
        case "hard link":
            planted.hardlink_to(victim)
        case "fifo":
            os.mkfifo(planted)
        case _:
            if os.geteuid() != 0:
                pytest.skip("only root can give files away")
            planted.write_text("of a stranger")
            os.chown(planted, STRANGER, STRANGER)
    snapshot = Snapshot(place / "c.sqlite")
    snapshot.save(Batch(assets=[make_asset(1)]))  # may begin anew
    snapshot.save(Batch(assets=[make_asset(1)]))
    assert list(snapshot.load().assets) == [make_asset(1).id]
    snapshot.close()
    assert victim.read_text() == "precious"
    assert stat.S_ISREG((place / "c.sqlite").lstat().st_mode)


def test_a_closed_file_is_not_opened_again_by_a_late_reader(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "c.sqlite")
    snapshot.save(Batch(assets=[make_asset(1)]))
    snapshot.close()
    assert snapshot.item_versions() == {}
    snapshot.save(Batch(assets=[make_asset(2)]))
    assert snapshot._database is None
    assert list(reload(tmp_path / "c.sqlite").assets.values()) == [make_asset(1)]
