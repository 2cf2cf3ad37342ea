"""The catalogue on disk: what the storage held when it was last looked at, in SQLite.

Knows rows and files; nothing of HTTP, names or who asks. Blocking: call it from a worker thread.

Theory. A snapshot is a convenience that must never harm: the service is the truth. Hence
1. every trouble with the file (missing, not ours, of a newer format, damaged, disk full) ends in
   the same two ways: what cannot be read is forgotten and rebuilt, what cannot be written turns
   the snapshot off; both are told once, and neither keeps a mount from working;
2. one file per API host, account and workspace: rows of two accounts never meet. Its name is a
   hash of these, its mode 0600;
3. a transaction per batch of changes: a crash leaves the state before or after it. The flag that a
   listing was complete is part of the same transaction as its rows;
4. the rows are what counts. Beside them the assets are *packed* as one value, which is read in a
   fiftieth of the time (`columns`); the IDs of rows written since stand in `unpacked`, in the same
   transaction. A value that cannot be read is left out of account: the rows are read instead.
Two mounts of one account share the file; SQLite serialises them, and both write the same truth.
Rejected: pickle (a damaged or foreign file would run code), JSON (100 000 rows written for one).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

from up42fs.catalog import tables
from up42fs.catalog.item_rows import to_us
from up42fs.catalog.table import AssetTable
from up42fs.types import Asset, Order

log = logging.getLogger(__name__)

FORMAT = tables.FORMAT

#: How long a writer waits for another mount's transaction, seconds.
BUSY_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ItemRow:
    """The STAC items of an asset at one `updated_us`, as `item_rows` writes them down."""

    asset_id: str
    updated_us: int
    items: str
    documents: bytes


@dataclass(frozen=True, slots=True)
class SizeRow:
    """A size in bytes that the object store told; `stamp` is the version of the file's item."""

    object_id: str
    asset_id: str
    stamp: str | None
    size: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What a snapshot holds of the listings, and whether each was ever read to its end.

    `sizes` are those of assets that UP42 lists without one. `reached` says how far a listing of
    assets came that was cut off: all that were created later are there.
    """

    assets: AssetTable = field(default_factory=AssetTable)
    orders: tuple[Order, ...] = ()
    assets_complete: bool = False
    orders_complete: bool = False
    sizes: tuple[SizeRow, ...] = ()
    reached: datetime | None = None
    #: By asset ID, when it was seen to be transformed, microseconds since 1970.
    transformed_us: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows to write and IDs to remove, and the listings that are complete with them.

    With an asset go its items and sizes.
    """

    assets: Sequence[Asset] = ()
    orders: Sequence[Order] = ()
    removed_assets: Sequence[str] = ()
    removed_orders: Sequence[str] = ()
    complete: frozenset[str] = frozenset()
    items: Sequence[ItemRow] = ()
    sizes: Sequence[SizeRow] = ()
    reached: datetime | None = None
    #: By question; None where what it is about is gone.
    answers: Mapping[str, bytes | None] = field(default_factory=dict)


def snapshot_path(directory: Path, *, api: str, username: str, workspace: str | None) -> Path:
    """The file of one account at one host below `directory`."""
    identity = tables.SEPARATOR.join((api, username.casefold(), workspace or ""))
    return directory / f"catalogue-{blake2b(identity.encode(), digest_size=12).hexdigest()}.sqlite"


class Snapshot:
    """One snapshot file; may be used by several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None
        self._is_off = False
        self._lock = threading.RLock()

    def load(self) -> Stored:
        """What the file holds; nothing where it cannot be used. Never raises."""
        with self._lock:
            try:
                return self._load()
            except tables.UNUSABLE as error:
                self._give_up(error)
                return Stored()

    def item_versions(self) -> dict[str, int]:
        """By asset ID, the `updated_us` of the items held. Never raises."""
        rows = self._read("SELECT asset_id, updated_us FROM item")
        return {asset_id: updated_us for asset_id, updated_us in rows if type(updated_us) is int}

    def items(self, asset_ids: Sequence[str]) -> list[tuple[str, int, str]]:
        """(Asset ID, `updated_us`, items as text) of those that are held. Never raises."""
        marks = ", ".join("?" for _ in asset_ids)
        return self._read(
            f"SELECT asset_id, updated_us, items FROM item WHERE asset_id IN ({marks})",  # noqa: S608
            *asset_ids,
        )

    def sizes(self, asset_ids: Sequence[str]) -> list[tuple[str, str, str | None, int]]:
        """(Asset ID, file ID, stamp, size) of files whose size was learned. Never raises."""
        marks = ", ".join("?" for _ in asset_ids)
        return self._read(
            f"SELECT asset_id, id, stamp, size FROM size WHERE asset_id IN ({marks})",  # noqa: S608
            *asset_ids,
        )

    def documents(self, asset_id: str) -> bytes | None:
        """The documents of an asset's items, as `item_rows` packs them. Never raises."""
        found = self._read("SELECT documents FROM item WHERE asset_id = ?", asset_id)
        return found[0][0] if found else None

    def answer(self, question: str) -> bytes | None:
        """An answer of the service that was kept. Never raises."""
        found = self._read("SELECT value FROM answer WHERE question = ?", question)
        return found[0][0] if found and isinstance(found[0][0], bytes) else None

    def save(self, batch: Batch) -> None:
        """Write a batch; turns the snapshot off, with one warning, if that fails. Never raises."""
        with self._lock:
            if self._is_off:
                return
            try:
                self._save(self._open(), batch)
            except (sqlite3.Error, OSError) as error:
                self._is_off = True
                log.warning(
                    "the catalogue cannot be stored in %s (%s): the next mount will list it anew",
                    self._path, error,
                )  # fmt: skip
                self.close()

    def pack(self) -> None:
        """Pack the assets anew if much of them changed since they were. Never raises."""
        with self._lock:
            if self._is_off or not self._path.exists():
                return
            try:
                tables.pack(self._open())
            except tables.UNUSABLE as error:
                log.debug("the stored assets in %s were not packed: %s", self._path, error)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._database is not None:
                with suppress(sqlite3.Error):
                    self._database.close()
                self._database = None

    def _read(self, question: str, *values: str) -> list[Any]:
        """Rows of a file in use; none where it cannot be read."""
        with self._lock:
            if self._is_off or not self._path.exists():
                return []
            try:
                return self._open().execute(question, values).fetchall()
            except tables.UNUSABLE as error:
                log.debug("the stored catalogue %s was not read: %s", self._path, error)
                return []

    def _give_up(self, error: Exception) -> None:
        log.warning("the stored catalogue %s cannot be used (%s): rebuilding", self._path, error)
        self._remove()

    def _load(self) -> Stored:
        if not self._path.exists():
            return Stored()
        database = self._open()
        return Stored(
            assets=tables.read_assets(database),
            orders=tuple(tables.read_orders(database)),
            assets_complete=tables.is_complete(database, "assets"),
            orders_complete=tables.is_complete(database, "orders"),
            reached=tables.reached(database),
            transformed_us=tables.transformed_us(database),
            sizes=tuple(
                SizeRow(*row)
                for row in database.execute(
                    "SELECT id, asset_id, stamp, size FROM size WHERE id = asset_id"
                )
            ),
        )

    def _open(self) -> sqlite3.Connection:
        if self._database is not None:
            return self._database
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        os.close(descriptor)
        database = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None
        )
        try:
            tables.prepare(database)
        except BaseException:
            database.close()
            raise
        self._database = database
        return database

    def _save(self, database: sqlite3.Connection, batch: Batch) -> None:
        with tables.transaction(database):
            tables.put(database, Asset, batch.assets)
            tables.put(database, Order, batch.orders)
            changed = [(asset.id,) for asset in batch.assets]
            changed += [(asset_id,) for asset_id in batch.removed_assets]
            tables.insert(database, "unpacked", changed)
            items = ((i.asset_id, i.updated_us, i.items, i.documents) for i in batch.items)
            tables.insert(database, "item", items)
            sizes = ((s.object_id, s.asset_id, s.stamp, s.size) for s in batch.sizes)
            tables.insert(database, "size", sizes)
            tables.remove(database, "asset", "id", batch.removed_assets)
            tables.remove(database, "item", "asset_id", batch.removed_assets)
            tables.remove(database, "size", "asset_id", batch.removed_assets)
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
        self.close()
        for suffix in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()
