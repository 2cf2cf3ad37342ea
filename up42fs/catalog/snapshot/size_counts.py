"""How many files each asset's items have, in the snapshot: to count the sizes that are unknown.

Sizes that no longer hold go when the items of their asset are counted. Knows SQL, and file IDs with
the stamps (`SizeRow.stamp`) that their sizes must have; not what an item is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

#: By file ID of one asset, the stamp that its size must have to hold.
Stamps = Mapping[str, str | None]

_CREATE = (
    "CREATE TABLE IF NOT EXISTS file_count (asset_id TEXT PRIMARY KEY, files)",
    # A release that counts no files writes items all the same; then they are counted anew.
    "CREATE TRIGGER IF NOT EXISTS file_count_is_old AFTER INSERT ON item "
    "BEGIN DELETE FROM file_count WHERE asset_id = NEW.asset_id; END",
)
_KNOWN = (
    "SELECT count(*) FROM size WHERE id != asset_id AND asset_id IN "
    "(SELECT asset_id FROM file_count)"
)


def prepare(database: sqlite3.Connection) -> None:
    """Create the table in a file that lacks it: older releases made files without."""
    found = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'file_count_is_old'")
    if found.fetchone() is None:
        for statement in _CREATE:
            database.execute(statement)


def put(database: sqlite3.Connection, files: Mapping[str, Stamps]) -> None:
    """Count files, by asset ID, after the items that they are of; forget sizes of other states."""
    counts = [(asset_id, len(stamps)) for asset_id, stamps in files.items()]
    database.executemany("INSERT OR REPLACE INTO file_count VALUES (?, ?)", counts)
    for asset_id, stamps in files.items():
        sizes = database.execute(
            "SELECT id, stamp FROM size WHERE asset_id = ? AND id != asset_id", (asset_id,)
        )
        over = [(id_,) for id_, stamp in sizes if id_ not in stamps or stamps[id_] != stamp]
        if over:
            database.executemany("DELETE FROM size WHERE id = ?", over)


def uncounted(database: sqlite3.Connection, most: int) -> Sequence[tuple[str, str]]:
    """(Asset ID, items as text) of up to `most` assets whose files are not counted."""
    return database.execute(
        "SELECT asset_id, items FROM item WHERE asset_id NOT IN (SELECT asset_id FROM file_count) "
        "LIMIT ?",
        (most,),
    ).fetchall()


def totals(database: sqlite3.Connection) -> tuple[int, int]:
    """How many files were counted, and of how many of these the size is known."""
    (files,) = database.execute("SELECT total(files) FROM file_count").fetchone()
    (known,) = database.execute(_KNOWN).fetchone()
    return int(files), min(known, int(files))
