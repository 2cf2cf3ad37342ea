"""The catalogue on disk: what the storage held when it was last looked at, in SQLite.

Knows rows and files; nothing of HTTP, names or who asks. Blocking: call it from a worker thread.

Theory. A snapshot is a convenience that must never harm: the service is the truth. Hence
1. every trouble with the file (missing, not ours, of a newer format, damaged, disk full) ends in
   the same two ways: what cannot be read is forgotten and rebuilt, what cannot be written turns
   the snapshot off; both are told once, and neither keeps a mount from working;
2. one file per API host, account and workspace: rows of two accounts never meet. Its name is a
   hash of these, its mode 0600;
3. a transaction per batch of changes: a crash leaves the state before or after it. The flag that a
   listing was complete is part of the same transaction as its rows.
Two mounts of one account share the file; SQLite serialises them, and both write the same truth.
Rejected: pickle (a damaged or foreign file would run code), JSON (100 000 rows written for one).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from up42fs.catalog.item_rows import from_us, to_us
from up42fs.types import Asset, CnamStatus, Order

log = logging.getLogger(__name__)

#: Raise it whenever the meaning of a column changes: older files are then rebuilt.
FORMAT = 3
#: How long a writer waits for another mount's transaction, seconds.
BUSY_TIMEOUT_S = 5.0

_STATUSES = {status.value: status for status in CnamStatus}
_SEPARATOR = "\x1f"

_TABLES = (
    "CREATE TABLE IF NOT EXISTS reached (created_us)",
    "CREATE TABLE IF NOT EXISTS complete (listing TEXT PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS item (asset_id TEXT PRIMARY KEY, updated_us, items, documents)",
    "CREATE TABLE IF NOT EXISTS size (id TEXT PRIMARY KEY, asset_id, stamp, size)",
    "CREATE INDEX IF NOT EXISTS size_of ON size (asset_id)",
)
#: What a damaged file can raise.
_UNUSABLE = (
    sqlite3.Error,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
)

Row = TypeVar("Row", Asset, Order)


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

    assets: tuple[Asset, ...] = ()
    orders: tuple[Order, ...] = ()
    assets_complete: bool = False
    orders_complete: bool = False
    sizes: tuple[SizeRow, ...] = ()
    reached: datetime | None = None


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


def snapshot_path(directory: Path, *, api: str, username: str, workspace: str | None) -> Path:
    """The file of one account at one host below `directory`."""
    identity = _SEPARATOR.join((api, username.casefold(), workspace or ""))
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
            except _UNUSABLE as error:
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
            except _UNUSABLE as error:
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
            assets=tuple(_assets(database)),
            orders=tuple(_orders(database)),
            assets_complete=_is_complete(database, "assets"),
            orders_complete=_is_complete(database, "orders"),
            reached=_reached(database),
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
            _prepare(database)
        except BaseException:
            database.close()
            raise
        self._database = database
        return database

    def _save(self, database: sqlite3.Connection, batch: Batch) -> None:
        database.execute("BEGIN IMMEDIATE")
        try:
            _put(database, Asset, batch.assets)
            _put(database, Order, batch.orders)
            _put_items(database, batch)
            _remove(database, "asset", "id", batch.removed_assets)
            _remove(database, "item", "asset_id", batch.removed_assets)
            _remove(database, "size", "asset_id", batch.removed_assets)
            _remove(database, "order_", "id", batch.removed_orders)
            marks = [(name,) for name in sorted(batch.complete)]
            database.executemany("INSERT OR REPLACE INTO complete VALUES (?)", marks)
            database.execute("DELETE FROM reached")
            if batch.reached is not None:
                database.execute("INSERT INTO reached VALUES (?)", (to_us(batch.reached),))
        except BaseException:
            with suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")

    def _remove(self) -> None:
        self.close()
        for suffix in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()


def _prepare(database: sqlite3.Connection) -> None:
    found = database.execute("PRAGMA user_version").fetchone()[0]
    if found > FORMAT:
        raise ValueError(f"it was written by a newer up42fs (format {found})")
    if found not in (0, FORMAT):
        raise ValueError(f"its format {found} is no longer read")
    # One process writes little at a time; losing the last batch in a power cut costs a request.
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA cache_size = -2000")  # KiB of memory for pages
    if found == 0:
        database.execute("BEGIN IMMEDIATE")
        for kind in (Asset, Order):
            columns = ", ".join(f'"{name}"' for name in _columns(kind)[1:])
            database.execute(
                f'CREATE TABLE IF NOT EXISTS {_table(kind)} ("id" TEXT PRIMARY KEY, {columns})'
            )
        for statement in _TABLES:
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {FORMAT}")
        database.execute("COMMIT")


def _table(kind: type[Asset] | type[Order]) -> str:
    return "asset" if kind is Asset else "order_"


def _columns(kind: type[Asset] | type[Order]) -> list[str]:
    return [field.name for field in fields(kind)]


def _assets(database: sqlite3.Connection) -> Iterator[Asset]:
    # Written out, with what rows share looked up: a large storage is loaded in half the time.
    shared: dict[str | None, str | None] = {}
    share = shared.setdefault
    tags_of: dict[str, tuple[str, ...]] = {}
    for (
        id_, name, title, size, created_us, updated_us, words, status, content_type, order_id,
        account_id, workspace_id, product_id, collection, producer, source,
    ) in _select(database, Asset):  # fmt: skip
        tags = tags_of.get(words)
        if tags is None:
            tags = tags_of[words] = _words(words)
        yield Asset(
            id_, name, title, size, from_us(created_us), from_us(updated_us), tags,
            _STATUSES[status], share(content_type, content_type), share(order_id, order_id),
            share(account_id, account_id), share(workspace_id, workspace_id),
            share(product_id, product_id), share(collection, collection),
            share(producer, producer), share(source, source),
        )  # fmt: skip


def _orders(database: sqlite3.Connection) -> Iterator[Order]:
    for (
        id_, name, status, kind, created_us, updated_us, words, *of
    ) in _select(database, Order):  # fmt: skip
        created_at, updated_at = from_us(created_us), from_us(updated_us)
        yield Order(id_, name, status, kind, created_at, updated_at, _words(words), *of)


def _select(database: sqlite3.Connection, kind: type[Asset] | type[Order]) -> Iterator[Any]:
    names = ", ".join(f'"{name}"' for name in _columns(kind))
    return database.execute(f"SELECT {names} FROM {_table(kind)}")  # noqa: S608


def _words(text: str) -> tuple[str, ...]:
    return tuple(map(sys.intern, text.split(_SEPARATOR))) if text else ()


def _put(database: sqlite3.Connection, kind: type[Row], rows: Sequence[Row]) -> None:
    columns = _columns(kind)
    marks = ", ".join("?" for _ in columns)
    database.executemany(
        f"INSERT OR REPLACE INTO {_table(kind)} VALUES ({marks})",  # noqa: S608
        ([_value(getattr(row, name)) for name in columns] for row in rows),
    )


def _value(value: object) -> object:
    match value:
        case datetime():
            return to_us(value)
        case tuple():
            return _SEPARATOR.join(value)
        case CnamStatus():
            return value.value
        case str():
            return value.encode("utf-8", "replace").decode()  # SQLite takes no lone surrogates
        case _:
            return value


def _put_items(database: sqlite3.Connection, batch: Batch) -> None:
    database.executemany(
        "INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?)",
        ((row.asset_id, row.updated_us, row.items, row.documents) for row in batch.items),
    )
    database.executemany(
        "INSERT OR REPLACE INTO size VALUES (?, ?, ?, ?)",
        ((row.object_id, row.asset_id, row.stamp, row.size) for row in batch.sizes),
    )


def _remove(database: sqlite3.Connection, table: str, key: str, ids: Sequence[str]) -> None:
    statement = f"DELETE FROM {table} WHERE {key} = ?"  # noqa: S608
    database.executemany(statement, [(id_,) for id_ in ids])


def _is_complete(database: sqlite3.Connection, listing: str) -> bool:
    found = database.execute("SELECT 1 FROM complete WHERE listing = ?", (listing,))
    return found.fetchone() is not None


def _reached(database: sqlite3.Connection) -> datetime | None:
    found = database.execute("SELECT created_us FROM reached").fetchone()
    return None if found is None else from_us(found[0])
