"""The tables of a snapshot: rows and packed assets, written and read."""

from __future__ import annotations

import logging
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar

from up42fs.catalog.snapshot import changes, columns, member_tables, outline_table, size_counts
from up42fs.catalog.snapshot.assets import AssetTable
from up42fs.catalog.snapshot.item_rows import from_us, to_us
from up42fs.catalog.transformations import QUESTION as TRANSFORMED
from up42fs.types import Asset, CnamStatus, Order

log = logging.getLogger(__name__)

#: Increase it whenever the meaning of a column changes: older files are then rebuilt.
FORMAT = 8
#: Assets are packed anew once this many, and this share of them, differ from the packed ones.
REPACK_ROWS = 500
REPACK_SHARE = 0.02
#: Values in one question; SQLite allows at least 999.
_MOST_VALUES = 500
#: Separates the texts of one value.
SEPARATOR = "\x1f"
#: Key prefix of extensions; the asset's ID follows.
EXTENSION = "extension "
#: Key prefix of the numbers of rows that a total counts too much; the listing follows.
UNCOUNTED = "uncounted "

_STATUSES = {status.value: status for status in CnamStatus}

_TABLES = (
    "CREATE TABLE IF NOT EXISTS reached (created_us)",
    "CREATE TABLE IF NOT EXISTS packed (assets)",
    "CREATE TABLE IF NOT EXISTS unpacked (id TEXT PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS answer (question TEXT PRIMARY KEY, value)",
    "CREATE TABLE IF NOT EXISTS complete (listing TEXT PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS item (asset_id TEXT PRIMARY KEY, updated_us, items, documents)",
    "CREATE TABLE IF NOT EXISTS size (id TEXT PRIMARY KEY, asset_id, stamp, size)",
    "CREATE INDEX IF NOT EXISTS size_of ON size (asset_id)",
)
#: Errors that a damaged file can raise.
UNUSABLE = (
    sqlite3.Error,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
)

Row = TypeVar("Row", Asset, Order)


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def prepare(database: sqlite3.Connection) -> None:
    """Prepare a file, creating the tables of a new one; raises ValueError for another format."""
    found = database.execute("PRAGMA user_version").fetchone()[0]
    if found > FORMAT:
        raise ValueError(f"it was written by a newer up42fs (format {found})")
    if found not in (0, FORMAT):
        raise ValueError(f"its format {found} is no longer read")
    # One process writes little at a time; a power cut that loses the last batch costs a request.
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA cache_size = -2000")  # KiB of memory for pages
    if found == 0:
        database.execute("BEGIN IMMEDIATE")
        for kind in (Asset, Order):
            columns = ", ".join(f'"{name}"' for name in _columns(kind)[1:])
            database.execute(
                f'CREATE TABLE IF NOT EXISTS {table_of(kind)} ("id" TEXT PRIMARY KEY, {columns})'
            )
        for statement in _TABLES:
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {FORMAT}")
        database.execute("COMMIT")
    member_tables.prepare(database)
    outline_table.prepare(database)
    size_counts.prepare(database)
    changes.prepare(database)


def table_of(kind: type[Asset] | type[Order]) -> str:
    return "asset" if kind is Asset else "order_"


def _columns(kind: type[Asset] | type[Order]) -> list[str]:
    return [column.name for column in fields(kind)]


def read_assets(database: sqlite3.Connection) -> AssetTable:
    """The packed assets and the changes since, or all rows if nothing usable is packed."""
    packed = database.execute("SELECT assets FROM packed").fetchone()
    if packed is not None:
        try:
            table = AssetTable(columns.unpack(packed[0], SEPARATOR))
        except UNUSABLE as error:
            log.debug("the packed assets cannot be used: %s", error)
        else:
            for (asset_id,) in database.execute("SELECT id FROM unpacked"):
                table.pop(asset_id)
            for asset in _made(database, "WHERE id IN (SELECT id FROM unpacked)"):
                table.put(asset)
            return table
    table = AssetTable()
    for asset in _made(database):
        table.put(asset)
    return table


def pack(database: sqlite3.Connection) -> None:
    """Pack the assets, oldest first, if many differ from the packed ones."""
    with transaction(database):
        count = database.execute("SELECT count(*) FROM asset").fetchone()[0]
        unpacked = database.execute("SELECT count(*) FROM unpacked").fetchone()[0]
        if unpacked < max(REPACK_ROWS, count * REPACK_SHARE):
            return
        packed = columns.pack(_select(database, Asset, "ORDER BY created_at, id"))
        database.execute("DELETE FROM packed")
        database.execute("DELETE FROM unpacked")
        database.execute("INSERT INTO packed VALUES (?)", (packed,))


def assets_of(database: sqlite3.Connection, asset_ids: Sequence[str]) -> list[Asset]:
    """The stored ones of these assets."""
    return [one for part in _parts(asset_ids) for one in _made(database, *part)]


def orders_of(database: sqlite3.Connection, order_ids: Sequence[str]) -> list[Order]:
    """The stored ones of these orders."""
    return [one for part in _parts(order_ids) for one in read_orders(database, *part)]


def _parts(ids: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    for start in range(0, len(ids), _MOST_VALUES):
        part = ids[start : start + _MOST_VALUES]
        yield f"WHERE id IN ({', '.join('?' * len(part))})", part


def _made(
    database: sqlite3.Connection, where: str = "", values: Sequence[str] = ()
) -> Iterator[Asset]:
    # Written out, and equal values shared: this loads a large storage in half the time.
    shared: dict[str | None, str | None] = {}
    share = shared.setdefault
    tags_of: dict[str, tuple[str, ...]] = {}
    for (
        id_, name, title, size, created_us, updated_us, words, status, content_type, order_id,
        account_id, workspace_id, product_id, collection, producer, source,
    ) in _select(database, Asset, where, values):  # fmt: skip
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


def read_orders(
    database: sqlite3.Connection, where: str = "", values: Sequence[str] = ()
) -> Iterator[Order]:
    for (
        id_, name, status, kind, created_us, updated_us, words, *of
    ) in _select(database, Order, where, values):  # fmt: skip
        created_at, updated_at = from_us(created_us), from_us(updated_us)
        yield Order(id_, name, status, kind, created_at, updated_at, _words(words), *of)


def _select(
    database: sqlite3.Connection,
    kind: type[Asset] | type[Order],
    rest: str = "",
    values: Sequence[str] = (),
) -> Iterator[Any]:
    names = ", ".join(f'"{name}"' for name in _columns(kind))
    return database.execute(f"SELECT {names} FROM {table_of(kind)} {rest}", values)  # noqa: S608


def _words(text: str) -> tuple[str, ...]:
    return tuple(map(sys.intern, text.split(SEPARATOR))) if text else ()


def put(database: sqlite3.Connection, kind: type[Row], rows: Sequence[Row]) -> None:
    names = _columns(kind)
    values = ([_value(getattr(row, name)) for name in names] for row in rows)
    insert(database, table_of(kind), values)


def _value(value: object) -> object:
    match value:
        case datetime():
            return to_us(value)
        case tuple():
            return SEPARATOR.join(value)
        case CnamStatus():
            return value.value
        case str():
            return value.encode("utf-8", "replace").decode()  # SQLite accepts no lone surrogates
        case _:
            return value


def insert(database: sqlite3.Connection, table: str, rows: Iterable[Sequence[object]]) -> None:
    """Write rows to one of the smaller tables; they replace those with the same key."""
    for row in rows:
        marks = ", ".join("?" for _ in row)
        database.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608


def remove(database: sqlite3.Connection, table: str, key: str, ids: Sequence[str]) -> None:
    statement = f"DELETE FROM {table} WHERE {key} = ?"  # noqa: S608
    database.executemany(statement, [(id_,) for id_ in ids])


def is_complete(database: sqlite3.Connection, listing: str) -> bool:
    found = database.execute("SELECT 1 FROM complete WHERE listing = ?", (listing,))
    return found.fetchone() is not None


def reached(database: sqlite3.Connection) -> datetime | None:
    """The progress of an interrupted listing of assets; None if there is none."""
    found = database.execute("SELECT created_us FROM reached").fetchone()
    return None if found is None else from_us(found[0])


def transformed_us(database: sqlite3.Connection) -> dict[str, int]:
    noted = _noted(database, TRANSFORMED)
    return {asset_id: int(value) for asset_id, value in noted.items() if value.isdigit()}


def extensions(database: sqlite3.Connection) -> dict[str, str]:
    noted = _noted(database, EXTENSION)
    return {asset_id: value.decode("ascii") for asset_id, value in noted.items() if value.isascii()}


def uncounted(database: sqlite3.Connection) -> dict[str, int]:
    noted = _noted(database, UNCOUNTED)
    return {name: int(n) for name, n in noted.items() if n.removeprefix(b"-").isdigit()}


def no_archives(database: sqlite3.Connection) -> dict[str, str]:
    """By asset ID, the stamp of the bytes that turned out to be no archive."""
    noted = _noted(database, member_tables.NO_ARCHIVE)
    return {asset_id: value.decode(errors="replace") for asset_id, value in noted.items()}


def _noted(database: sqlite3.Connection, question: str) -> dict[str, bytes]:
    """The answers whose key is `question` followed by an ID, by that ID."""
    rows = database.execute(
        "SELECT question, value FROM answer WHERE question >= ? AND question < ?",
        (question, question + "\x7f"),
    )
    return {key.removeprefix(question): value for key, value in rows if isinstance(value, bytes)}
