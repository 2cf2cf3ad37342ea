"""Which rows of a snapshot changed, in order: how other processes follow without reading it all.

One row for each transaction, written in it, with the IDs it wrote or removed. The latest `KEPT` are
kept; a process that was away for longer reads all rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

#: Transactions that are remembered.
KEPT = 2000
_SEPARATOR = "\x1f"

_CREATE = (
    "CREATE TABLE IF NOT EXISTS change "
    "(seq INTEGER PRIMARY KEY AUTOINCREMENT, writer, assets, orders)"
)


@dataclass(frozen=True, slots=True)
class Since:
    """The changes after a position: the new position, and IDs; `is_all`: read every row."""

    position: int
    assets: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()
    is_all: bool = False


def prepare(database: sqlite3.Connection) -> None:
    """Create the table in a file that lacks it: older releases made files without."""
    found = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'change'")
    if found.fetchone() is None:
        database.execute(_CREATE)


def note(
    database: sqlite3.Connection, writer: str, assets: Iterable[str], orders: Iterable[str]
) -> None:
    """Note what the running transaction of `writer` wrote and removed."""
    texts = _SEPARATOR.join(assets), _SEPARATOR.join(orders)
    if any(texts):
        database.execute(
            "INSERT INTO change (writer, assets, orders) VALUES (?, ?, ?)", (writer, *texts)
        )
        latest = position(database)
        database.execute("DELETE FROM change WHERE seq <= ?", (latest - KEPT,))


def position(database: sqlite3.Connection) -> int:
    """The number of the latest change; 0 before the first."""
    return int(database.execute("SELECT coalesce(max(seq), 0) FROM change").fetchone()[0])


def since(database: sqlite3.Connection, known: int, writer: str) -> Since:
    """What others than `writer` changed after position `known`."""
    first, latest = database.execute(
        "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM change"
    ).fetchone()
    if latest < known or first > known + 1:  # begun anew, or too much since
        return Since(latest, is_all=True)
    rows = database.execute(
        "SELECT assets, orders FROM change WHERE seq > ? AND writer <> ? ORDER BY seq",
        (known, writer),
    ).fetchall()
    assets = dict.fromkeys(id_ for texts, _ in rows for id_ in _split(texts))
    orders = dict.fromkeys(id_ for _, texts in rows for id_ in _split(texts))
    return Since(latest, tuple(assets), tuple(orders))


def _split(text: str) -> list[str]:
    return text.split(_SEPARATOR) if text else []
