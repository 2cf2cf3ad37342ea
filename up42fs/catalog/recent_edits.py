"""Recent edits made by this mount, so that a listing requested earlier does not undo them.

A listing takes seconds, and a service with several copies of its data may return rows older than
the request. A row is older than an edit if it was requested before the edit, or if its `updated_at`
is earlier. If rows have no such time (STAC, see `stac_only`), only the time of the request decides,
and the row takes the time of the edit, so that `ctime` does not go back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import trio

from up42fs.types import Asset

#: How long a row may lag behind an edit, seconds.
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
        """Note an edit by UP42's response; `timed`: its `updated_at` moves with edits."""
        now_s = self._clock()
        if len(self._entries) > 100:
            old = [id_ for id_, entry in self._entries.items() if now_s - entry.at_s > KEEP_S]
            for id_ in old:
                del self._entries[id_]
        self._entries[asset.id] = _Entry(asset, now_s, timed)

    def settle(
        self, rows: Iterable[Asset], gone: Iterable[str], asked_s: float
    ) -> tuple[tuple[Asset, ...], frozenset[str]]:
        """Correct rows requested at `asked_s` and the IDs missing there by later edits."""
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
