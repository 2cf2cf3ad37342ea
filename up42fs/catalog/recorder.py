"""Writes changes of the catalogue to its snapshot in the background.

`snapshot` knows the format. Changes are gathered for a moment and written as one transaction in a
worker thread, so that a first listing of many rows takes few transactions. A failed batch is merged
with later changes and retried after a growing pause. After the snapshot file was created anew, the
whole index is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import trio

from up42fs import supervise
from up42fs.catalog.index import Delta, Index, ListingKind
from up42fs.catalog.snapshot.member_tables import TableRow
from up42fs.catalog.snapshot.snapshot import SaveResult, Snapshot
from up42fs.catalog.snapshot.stored import Batch, ItemRow, SizeRow

log = logging.getLogger(__name__)

#: How long changes are gathered before a write, seconds.
GATHER_S = 0.5
#: How long the last write may delay an unmount, seconds.
FLUSH_TIMEOUT_S = 5.0
#: Limit of rows of each smaller kind that are held while writes fail.
MOST_HELD = 2000


@dataclass(slots=True)
class _Noted:
    """The changes to write: assets and orders by ID, and rows of the smaller kinds."""

    assets: set[str] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    items: dict[str, ItemRow] = field(default_factory=dict)
    sizes: dict[str, SizeRow] = field(default_factory=dict)
    answers: dict[str, bytes | None] = field(default_factory=dict)
    members: dict[str, TableRow] = field(default_factory=dict)
    members_used_us: dict[str, int] = field(default_factory=dict)


class Recorder:
    """Writes the changes of one index to one snapshot."""

    def __init__(
        self,
        snapshot: Snapshot,
        index: Index,
        is_synced: Callable[[ListingKind], bool],
        gather_s: float = GATHER_S,
        reached: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        self.snapshot = snapshot
        self._index = index
        self._is_synced = is_synced
        self._gather_s = gather_s
        self._reached = reached
        self._noted = _Noted()
        #: The rows that a thread is writing: they are in the snapshot only when it has ended.
        self._taken = _Noted()
        self._changed = trio.Event()
        self._is_writing = False
        self._wrote = trio.Event()  # set, and replaced, when a write ends
        #: How many batches were written.
        self.writes = 0
        self._token: trio.lowlevel.TrioToken | None = None
        snapshot.on_rebuilt = self._rebuilt

    def note(self, delta: Delta) -> None:
        self._noted.assets |= delta.assets
        self._noted.orders |= delta.orders
        self._changed.set()

    def note_items(self, row: ItemRow) -> None:
        self._noted.items[row.asset_id] = row
        self._changed.set()

    def unwritten_items(self, asset_id: str) -> ItemRow | None:
        """The noted items of an asset that are not in the snapshot yet."""
        return self._noted.items.get(asset_id) or self._taken.items.get(asset_id)

    def unwritten_without_items(self) -> list[str]:
        """IDs of assets without items that are noted so, and not in the snapshot yet."""
        unwritten = self._taken.items | self._noted.items
        return [row.asset_id for row in unwritten.values() if row.items == "[]"]

    def note_answer(self, question: str, packed: bytes | None) -> None:
        """Remember an answer of the service; None removes it, because its subject is gone."""
        self._noted.answers[question] = packed
        self._changed.set()

    def note_size(self, row: SizeRow) -> None:
        self._noted.sizes[row.object_id] = row
        self._changed.set()

    def note_members(self, row: TableRow) -> None:
        """Remember the table of an archive's members to write."""
        self._noted.members[row.object_id] = row
        self._changed.set()

    def note_members_used(self, object_id: str, at_us: int) -> None:
        """Remember that a stored table was used; written with the next change."""
        self._noted.members_used_us[object_id] = at_us

    def unwritten_members(self, object_id: str) -> TableRow | None:
        """The noted table of an archive that is not in the snapshot yet."""
        return self._noted.members.get(object_id) or self._taken.members.get(object_id)

    async def run(self) -> None:
        """Write for ever; start it once. Cancelled at unmount, when `flush` writes the rest."""
        self._token = trio.lowlevel.current_trio_token()
        pause_s = 0.0
        while True:
            await self._changed.wait()
            await trio.sleep(self._gather_s)
            if await self._write() is SaveResult.AGAIN:
                pause_s = supervise.next_pause_s(pause_s, 0.0)
                await trio.sleep(pause_s)
                continue
            pause_s = 0.0
            if self._is_synced(ListingKind.ASSETS):
                await trio.to_thread.run_sync(self.snapshot.pack)

    async def written(self) -> None:
        """Return once all that was noted is written."""
        while self._changed.is_set() or self._is_writing:
            await self._wrote.wait()

    async def wrote_since(self, writes: int) -> None:
        """Return once more than so many batches are written."""
        while self.writes <= writes:
            await self._wrote.wait()

    async def flush(self) -> None:
        """Write the rest and close the file."""
        with trio.move_on_after(FLUSH_TIMEOUT_S) as scope:
            scope.shield = True
            await self._write(abandons=True)
            await trio.to_thread.run_sync(self.snapshot.close, abandon_on_cancel=True)
        if scope.cancelled_caught:
            log.warning(
                "the last changes of the catalogue are not stored: another mount of this account, "
                "or the disk, takes more than %.0f s; the next mount lists them anew",
                FLUSH_TIMEOUT_S,
            )

    async def _write(self, *, abandons: bool = False) -> SaveResult:
        self._changed = trio.Event()
        taken, self._noted = self._noted, _Noted()
        self._is_writing, self._taken = True, taken
        try:
            batch = self._batch(taken)
            # Not abandoned when cancelled: half a write would be rolled back, but block the next.
            # At the end there is no next one, and the process must not wait for it.
            outcome = await trio.to_thread.run_sync(
                self.snapshot.save, batch, abandon_on_cancel=abandons
            )
            self.writes += outcome is SaveResult.DONE
        except BaseException as error:
            # If cancelled, the outcome is unknown, and `flush` writes it again.
            self._put_back(taken)
            # No thread could be started, or memory is short.
            if not supervise.is_short_of_anything(error):
                raise
            log.debug("the catalogue is written later: %s", error)
            return SaveResult.AGAIN
        finally:
            self._is_writing, self._taken = False, _Noted()
            self._wrote.set()
            self._wrote = trio.Event()
        if outcome is not SaveResult.DONE:
            self._put_back(taken)
        return outcome

    def _put_back(self, old: _Noted) -> None:
        """Take a failed batch back; changes noted meanwhile are newer and win."""
        new = self._noted
        new.assets |= old.assets
        new.orders |= old.orders
        new.items, new.sizes = old.items | new.items, old.sizes | new.sizes
        new.answers = old.answers | new.answers
        new.members = old.members | new.members
        new.members_used_us = old.members_used_us | new.members_used_us
        for held in (new.items, new.sizes, new.answers, new.members, new.members_used_us):
            while len(held) > MOST_HELD:  # a later mount requests them again
                del held[next(iter(held))]
        self._changed.set()

    def _rebuilt(self) -> None:
        """Note that the file was created anew; may run in any thread."""
        try:
            if self._token is not None:
                self._token.run_sync_soon(self._note_all)
        except trio.RunFinishedError:
            return

    def _note_all(self) -> None:
        self._noted.assets |= set(self._index.assets)
        self._noted.orders |= set(self._index.orders)
        self._changed.set()

    def _batch(self, noted: _Noted) -> Batch:
        assets, orders = self._index.assets, self._index.orders
        return Batch(
            assets=[assets[id_] for id_ in noted.assets if id_ in assets],
            orders=[orders[id_] for id_ in noted.orders if id_ in orders],
            removed_assets=[id_ for id_ in noted.assets if id_ not in assets],
            removed_orders=[id_ for id_ in noted.orders if id_ not in orders],
            complete=frozenset(kind.value for kind in ListingKind if self._is_synced(kind)),
            reached=self._reached(),
            items=[row for id_, row in noted.items.items() if id_ in assets],
            sizes=[row for row in noted.sizes.values() if row.asset_id in assets],
            answers=noted.answers,
            members=[row for row in noted.members.values() if row.asset_id in assets],
            members_used_us=noted.members_used_us,
        )
