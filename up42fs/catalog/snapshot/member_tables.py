"""Tables of archives' members in the snapshot: one row for each archive, the oldest use goes first.

Knows SQL and the bound; its owner knows the content of a table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: The most that all tables take, bytes: 25 000 deliveries of 115 members each.
MOST_BYTES = 64 << 20
#: Key prefix of assets whose bytes are no archive although their names say so; the asset's ID
#: follows, the value is the stamp of these bytes.
NO_ARCHIVE = "no archive "

_CREATE = (
    "CREATE TABLE IF NOT EXISTS member_table "
    "(id TEXT PRIMARY KEY, asset_id, stamp, version, used_us, bytes, packed)",
    "CREATE INDEX IF NOT EXISTS member_table_of ON member_table (asset_id)",
)


@dataclass(frozen=True, slots=True)
class TableRow:
    """The packed table of the archive `object_id`, read from bytes with this stamp and version."""

    object_id: str
    asset_id: str
    stamp: str | None
    version: str
    used_us: int
    packed: bytes


def prepare(database: sqlite3.Connection) -> None:
    """Create the table in a file that lacks it: older releases made files without."""
    found = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'member_table'")
    if found.fetchone() is None:
        for statement in _CREATE:
            database.execute(statement)


def put(database: sqlite3.Connection, rows: Sequence[TableRow]) -> None:
    """Write tables, and drop those that were not used for longest if all take too much."""
    for row in rows:
        database.execute(
            "INSERT OR REPLACE INTO member_table VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *(row.object_id, row.asset_id, row.stamp, row.version),
                *(row.used_us, len(row.packed), row.packed),
            ),
        )
    if rows:
        _shrink(database)


def _shrink(database: sqlite3.Connection) -> None:
    total = database.execute("SELECT sum(bytes) FROM member_table").fetchone()[0] or 0
    if total <= MOST_BYTES:
        return
    oldest = database.execute("SELECT id, bytes FROM member_table ORDER BY used_us").fetchall()
    for object_id, size in oldest:
        if total <= MOST_BYTES:
            return
        database.execute("DELETE FROM member_table WHERE id = ?", (object_id,))
        total -= size


def use(database: sqlite3.Connection, used_us: Mapping[str, int]) -> None:
    """Note when tables were used last, by archive."""
    database.executemany(
        "UPDATE member_table SET used_us = ? WHERE id = ?",
        [(at_us, object_id) for object_id, at_us in used_us.items()],
    )
