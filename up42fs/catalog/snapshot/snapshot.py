"""The catalogue on disk, as last read from UP42, in SQLite.

Blocking: call it from a worker thread.

Theory. A snapshot is a convenience that must never harm: the service is the truth. Hence:
1. No error of the file keeps a mount from working, and each is logged once (`ailments`). A file
   that is damaged, foreign or of another format is removed whenever that is found, on reads or
   writes, and `on_rebuilt` has everything written anew. While another mount writes, or the disk or
   the process is out of space, nothing is lost: the batch is saved again later. Only if the file
   may not be written does the mount work without it.
2. There is one file per API host, account and workspace: rows of two accounts never mix. Its name
   is a hash of these, its mode 0600, and its directory is private (`ownership`).
3. A batch of changes is one transaction: a crash leaves the state before or after it. The flag that
   a listing was complete is part of the same transaction as its rows.
4. The rows are authoritative. Besides them the assets are *packed* as one value, which is read in a
   fiftieth of the time (`columns`); the IDs of rows written since are in `unpacked`, in the same
   transaction. A packed value that cannot be read is ignored: the rows are read instead.

Two mounts of one account share the file; SQLite serialises them, and both write the same truth.

Rejected: pickle (a damaged or foreign file would run code), JSON (100 000 rows written for one).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from up42fs.catalog.snapshot import changes, member_tables, outline_table, size_counts, tables
from up42fs.catalog.snapshot.ailments import Ailment, ailment
from up42fs.catalog.snapshot.item_rows import to_us
from up42fs.catalog.snapshot.member_tables import TableRow
from up42fs.catalog.snapshot.size_counts import Stamps
from up42fs.catalog.snapshot.stored import Batch, Followed, SizeRow, Stored
from up42fs.ownership import ensure_file, open_directory, remove_foreign
from up42fs.types import Asset, Order

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How long a writer waits for another mount's transaction, seconds.
BUSY_TIMEOUT_S = 5.0
#: How often one mount creates the file anew before it works without.
MOST_REBUILT = 5
#: Files that SQLite keeps beside the database, by suffix.
_COMPANIONS = ("-journal", "-wal", "-shm")


def snapshot_path(directory: Path, *, api: str, username: str, workspace: str | None) -> Path:
    """The file of one account at one host below `directory`."""
    identity = tables.SEPARATOR.join((api, username.casefold(), workspace or ""))
    return directory / f"catalogue-{blake2b(identity.encode(), digest_size=12).hexdigest()}.sqlite"


class SaveResult(Enum):
    """The result of saving a batch."""

    DONE = "written, or there is no use in writing it"
    AGAIN = "to be saved again later"
    REBUILT = "the file was begun anew: everything is to be written"


class Snapshot:
    """One snapshot file; may be used by several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = uuid.uuid4().hex
        self._version: tuple[int, int] | None = None  # of the database, when it was followed last
        self._database: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # the file's device and inode
        self._is_off = False
        self._is_waiting = False
        self._rebuilt = 0
        self._lock = threading.RLock()
        #: Called, from any thread, after the file was removed: everything has to be written anew.
        self.on_rebuilt: Callable[[], None] = lambda: None

    def load(self) -> Stored:
        """The contents of the file; empty if it cannot be used. Never raises."""
        return self._asked(self._load, Stored())

    def follow(self, position: int) -> Followed | None:
        """What other processes wrote after `position`; None if nothing was. Never raises."""
        return self._asked(lambda database: self._follow(database, position), None)

    def _follow(self, database: sqlite3.Connection, position: int) -> Followed | None:
        # SQLite counts what other connections wrote; most looks end here.
        version = (id(database), database.execute("PRAGMA data_version").fetchone()[0])
        if version == self._version:
            return None
        since = changes.since(database, position, self._writer)
        complete = frozenset(
            name for name in ("assets", "orders") if tables.is_complete(database, name)
        )
        if since.is_all:
            assets = tuple(tables.read_assets(database).values())
            followed = Followed(
                since.position, assets, tuple(tables.read_orders(database)),
                complete=complete, is_all=True,
            )  # fmt: skip
        else:
            found = tables.assets_of(database, since.assets)
            orders = tables.orders_of(database, since.orders)
            followed = Followed(
                since.position,
                found,
                orders,
                sorted({*since.assets} - {asset.id for asset in found}),
                sorted({*since.orders} - {order.id for order in orders}),
                complete,
            )
        self._version = version
        return followed

    def item_versions(self) -> dict[str, int]:
        """By asset ID, the `updated_us` of the stored items. Never raises."""
        rows = self._read("SELECT asset_id, updated_us FROM item")
        return {asset_id: updated_us for asset_id, updated_us in rows if type(updated_us) is int}

    def items(self, asset_ids: Sequence[str]) -> list[tuple[str, int, str]]:
        """(Asset ID, `updated_us`, items as text) of assets with stored items. Never raises."""
        return self._read_of("SELECT asset_id, updated_us, items FROM item", asset_ids)

    def whole_items(self, asset_ids: Sequence[str]) -> list[tuple[str, int, str, bytes]]:
        """(Asset ID, `updated_us`, items as text, documents) of stored items. Never raises."""
        return self._read_of("SELECT asset_id, updated_us, items, documents FROM item", asset_ids)

    def outlines(self, asset_ids: Sequence[str]) -> list[tuple[str, int, str]]:
        """(Asset ID, `updated_us`, outlines as text) of stored items. Never raises."""
        return self._read_of(outline_table.QUESTION, asset_ids)

    def without_items(self) -> list[str]:
        """IDs of the assets that are known to have no items. Never raises."""
        return [row[0] for row in self._read("SELECT asset_id FROM item WHERE items = '[]'")]

    def sizes(self, asset_ids: Sequence[str]) -> list[tuple[str, str, str | None, int]]:
        """(Asset ID, file ID, stamp, size in bytes) of files whose size is known. Never raises."""
        return self._read_of("SELECT asset_id, id, stamp, size FROM size", asset_ids)

    def documents(self, asset_id: str) -> bytes | None:
        """The documents of an asset's items, as `item_rows` packs them. Never raises."""
        found = self._read("SELECT documents FROM item WHERE asset_id = ?", asset_id)
        return found[0][0] if found else None

    def count_files(self, counted: Mapping[str, Stamps]) -> None:
        """Store which files the stored items of these assets have. Never raises."""
        self._asked(lambda database: _counted(database, counted), None)

    def uncounted_items(self, most: int) -> Sequence[tuple[str, str]]:
        """(Asset ID, items as text) of assets whose files are not counted. Never raises."""
        return self._asked(lambda database: size_counts.uncounted(database, most), ())

    def file_totals(self) -> tuple[int, int]:
        """How many files were counted, and how many sizes of these are known. Never raises."""
        return self._asked(size_counts.totals, (0, 0))

    def answer(self, question: str) -> bytes | None:
        found = self._read("SELECT value FROM answer WHERE question = ?", question)
        return found[0][0] if found and isinstance(found[0][0], bytes) else None

    def members(self, object_id: str) -> TableRow | None:
        """The table of an archive's members. Never raises."""
        found = self._read(
            "SELECT id, asset_id, stamp, version, used_us, packed FROM member_table WHERE id = ?",
            object_id,
        )
        row = TableRow(*found[0]) if found else None
        return row if row is not None and isinstance(row.packed, bytes) else None

    def save(self, batch: Batch) -> SaveResult:
        """Write a batch. Never raises."""
        with self._lock:
            if self._is_off:
                return SaveResult.DONE
            try:
                database = self._open()
            except Exception as error:
                return self._suffer(error, reading=True)
            try:
                self._save(database, batch)
            except Exception as error:
                return self._suffer(error, reading=False)
            if self._is_waiting:
                self._is_waiting = False
                log.info("the catalogue is stored in %s again", self.path)
            return SaveResult.DONE

    def pack(self) -> None:
        """Pack the assets anew if many changed since the last time. Never raises."""
        self._asked(tables.pack, None, reading=False)

    def close(self) -> None:
        """Close the file for good: a thread that asks late finds nothing and stores nothing."""
        self._release()
        self._is_off = True

    def _release(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._database is not None:
                with suppress(sqlite3.Error):
                    self._database.close()
                self._database = None

    def _read_of(self, question: str, asset_ids: Sequence[str]) -> list[Any]:
        marks = ", ".join("?" * len(asset_ids))
        return self._read(f"{question} WHERE asset_id IN ({marks})", *asset_ids)

    def _read(self, question: str, *values: str) -> list[Any]:
        return self._asked(lambda database: database.execute(question, values).fetchall(), [])

    def _asked(
        self, work: Callable[[sqlite3.Connection], T], otherwise: T, *, reading: bool = True
    ) -> T:
        """The result of `work`; `otherwise` if there is no file, or none that can be used."""
        with self._lock:
            if self._is_off:
                return otherwise
            try:
                return work(self._open()) if self.path.exists() else otherwise
            except Exception as error:
                self._suffer(error, reading=reading)
                return otherwise

    def _suffer(self, error: Exception, *, reading: bool) -> SaveResult:
        """React to an error, and log it once."""
        found = ailment(error, reading=reading)
        if found is Ailment.DAMAGED and self._rebuilt < MOST_REBUILT:
            return self._rebuild(error)
        if found in (Ailment.BUSY, Ailment.SHORT):
            self._release()  # one that lacks a descriptor for its journal must not stay open
            if not self._is_waiting and not self._is_off:
                self._is_waiting = True
                log.warning(
                    "the stored catalogue %s cannot be %s just now (%s): %s",
                    self.path, "read" if reading else "written", error,
                    "UP42 is asked again" if reading else "it is tried again, nothing is lost",
                )  # fmt: skip
            return SaveResult.AGAIN
        if found is Ailment.OURS:
            log.error("some of the catalogue cannot be stored: %s", error, exc_info=error)
            return SaveResult.DONE
        self._is_off = True
        log.warning(
            "the catalogue cannot be stored in %s (%s): this mount stores nothing more of it; the "
            "next one begins with what is there, and lists the rest anew",
            self.path, error,
        )  # fmt: skip
        self._release()
        return SaveResult.DONE

    def _rebuild(self, error: Exception) -> SaveResult:
        log.warning("the stored catalogue %s cannot be used (%s): rebuilding", self.path, error)
        self._rebuilt += 1
        self._remove()
        self.on_rebuilt()
        return SaveResult.REBUILT

    def _load(self, database: sqlite3.Connection) -> Stored:
        position = changes.position(database)  # before the rows: they may be newer
        return Stored(
            position=position,
            assets=tables.read_assets(database),
            orders=tuple(tables.read_orders(database)),
            assets_complete=tables.is_complete(database, "assets"),
            orders_complete=tables.is_complete(database, "orders"),
            reached=tables.reached(database),
            transformed_us=tables.transformed_us(database),
            extensions=tables.extensions(database),
            uncounted=tables.uncounted(database),
            no_archives=tables.no_archives(database),
            sizes=tuple(
                SizeRow(*row)
                for row in database.execute(
                    "SELECT id, asset_id, stamp, size FROM size WHERE id = asset_id"
                )
            ),
        )

    def _open(self) -> sqlite3.Connection:
        if self._database is not None:
            if self._identity() == self._opened:
                return self._database
            # Another mount has removed the file, and maybe created a new one. Writing on would put
            # our journal beside the new file, and SQLite would take it for that file's.
            self._release()
        self._ensure_ours()
        database = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None
        )
        try:
            tables.prepare(database)
        except BaseException:
            database.close()
            raise
        self._database, self._opened = database, self._identity()
        return database

    def _ensure_ours(self) -> None:
        name, descriptor = self.path.name, open_directory(self.path.parent)
        try:
            # SQLite opens its companion files by name, without checking what they are.
            for suffix in _COMPANIONS:
                remove_foreign(name + suffix, descriptor)
            ensure_file(name, descriptor)
        finally:
            os.close(descriptor)

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _save(self, database: sqlite3.Connection, batch: Batch) -> None:
        with tables.transaction(database):
            tables.put(database, Asset, batch.assets)
            tables.put(database, Order, batch.orders)
            changed = [(asset.id,) for asset in batch.assets]
            changed += [(asset_id,) for asset_id in batch.removed_assets]
            tables.insert(database, "unpacked", changed)
            changes.note(
                database,
                self._writer,
                [asset_id for (asset_id,) in changed],
                [*(order.id for order in batch.orders), *batch.removed_orders],
            )
            items = ((i.asset_id, i.updated_us, i.items, i.documents) for i in batch.items)
            tables.insert(database, "item", items)
            drawn = [
                (i.asset_id, i.updated_us, i.outlines)
                for i in batch.items
                if i.outlines is not None
            ]
            outline_table.put(database, drawn)
            counted = {i.asset_id: i.files for i in batch.items if i.files is not None}
            size_counts.put(database, counted)
            sizes = ((s.object_id, s.asset_id, s.stamp, s.size) for s in batch.sizes)
            tables.insert(database, "size", sizes)
            tables.remove(database, "asset", "id", batch.removed_assets)
            tables.remove(database, "item", "asset_id", batch.removed_assets)
            tables.remove(database, "outline", "asset_id", batch.removed_assets)
            tables.remove(database, "file_count", "asset_id", batch.removed_assets)
            tables.remove(database, "size", "asset_id", batch.removed_assets)
            member_tables.put(database, batch.members)
            member_tables.use(database, batch.members_used_us)
            tables.remove(database, "member_table", "asset_id", batch.removed_assets)
            tables.remove(database, "order_", "id", batch.removed_orders)
            kept = {question: value for question, value in batch.answers.items() if value}
            tables.insert(database, "answer", kept.items())
            gone = batch.answers.keys() - kept.keys()
            tables.remove(database, "answer", "question", list(gone))
            tables.insert(database, "complete", ((name,) for name in sorted(batch.complete)))
            database.execute("DELETE FROM reached")
            if batch.reached is not None:
                database.execute("INSERT INTO reached VALUES (?)", (to_us(batch.reached),))

    def _remove(self) -> None:
        self._release()
        for suffix in ("", *_COMPANIONS):
            with suppress(OSError):
                self.path.with_name(self.path.name + suffix).unlink()


def _counted(database: sqlite3.Connection, counted: Mapping[str, Stamps]) -> None:
    with tables.transaction(database):
        size_counts.put(database, counted)
