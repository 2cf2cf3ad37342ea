"""Outlines of items in the snapshot, one row for each asset: a document of all of them reads these.

They lie apart from the items, whose documents are a hundred times as long. Knows SQL; what a text
says is its owner's (`model.outlines`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

_CREATE = (
    "CREATE TABLE IF NOT EXISTS outline (asset_id TEXT PRIMARY KEY, updated_us, drawn)",
    # A release that knows no outlines writes items without them; then the old ones must not stay.
    "CREATE TRIGGER IF NOT EXISTS outline_is_old AFTER INSERT ON item "
    "BEGIN DELETE FROM outline WHERE asset_id = NEW.asset_id; END",
)
QUESTION = "SELECT asset_id, updated_us, drawn FROM outline"


def prepare(database: sqlite3.Connection) -> None:
    """Create the table in a file that lacks it: older releases made files without."""
    found = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'outline_is_old'")
    if found.fetchone() is None:
        for statement in _CREATE:
            database.execute(statement)


def put(database: sqlite3.Connection, rows: Iterable[tuple[str, int, str]]) -> None:
    """Write (asset ID, `updated_us`, outlines) after the items that they are of."""
    database.executemany("INSERT OR REPLACE INTO outline VALUES (?, ?, ?)", rows)
