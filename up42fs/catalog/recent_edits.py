"""What was edited here a short while ago, so that a listing asked before does not take it back.

Knows nothing of how edits are made. A listing takes seconds, and an answer of a service with
several copies of its data may be older than its question: a row is older than an edit if it was
asked for before, or if it says so itself by its `updated_at`. Where rows have no such time (STAC,
see `stac_only`) the moment of the question alone decides, and the row goes on with the time of the
edit: `ctime` does not go back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import trio

from up42fs.types import Asset

#: How long a row may be older than what it answers, seconds.
KEEP_S = 600.0


class _Entry(NamedTuple):
    asset: Asset
    at_s: float
    timed: bool


class Edited:
    """Assets by ID as the latest edits left them."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def note(self, asset: Asset, *, timed: bool) -> None:
        """UP42 answered that the asset is so now; `timed` if its `updated_at` tells."""
        now_s = self._clock()
        if len(self._entries) > 100:
            old = [id_ for id_, entry in self._entries.items() if now_s - entry.at_s > KEEP_S]
            for id_ in old:
                del self._entries[id_]
        self._entries[asset.id] = _Entry(asset, now_s, timed)

    def settle(
        self, rows: Iterable[Asset], gone: Iterable[str], asked_s: float
    ) -> tuple[tuple[Asset, ...], frozenset[str]]:
        """Rows asked for at `asked_s` and IDs missing there, as far as they are to be believed."""
        if not self._entries:
            return tuple(rows), frozenset(gone)
        kept = frozenset(id_ for id_ in gone if not self._is_after(id_, asked_s))
        return tuple(self._settled(row, asked_s) for row in rows), kept

    def _settled(self, row: Asset, asked_s: float) -> Asset:
        entry = self._entries.get(row.id)
        if entry is None or self._clock() - entry.at_s > KEEP_S:
            return row
        edited = entry.asset
        if entry.at_s >= asked_s:
            return row if entry.timed and row.updated_at > edited.updated_at else edited
        if row.updated_at >= edited.updated_at:
            return row
        return edited if entry.timed else replace(row, updated_at=edited.updated_at)

    def _is_after(self, asset_id: str, asked_s: float) -> bool:
        entry = self._entries.get(asset_id)
        return entry is not None and entry.at_s >= asked_s
