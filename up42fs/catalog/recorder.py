"""Writes changes of the catalogue to its snapshot in the background.

Knows when to write; `snapshot` knows the format. Changes are gathered for a moment and written as
one transaction in a worker thread, so that a first listing of many rows takes few transactions. A
failed batch is merged with later changes and retried after a growing pause. After the snapshot file
was created anew, the whole index is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

import trio

from up42fs import supervise
from up42fs.catalog.index import Delta, Index
from up42fs.catalog.snapshot.snapshot import Batch, ItemRow, Outcome, SizeRow, Snapshot
from up42fs.catalog.sync import Part

log = logging.getLogger(__name__)

#: How long changes are gathered before a write, seconds.
GATHER_S = 0.5
#: How long the last write may delay an unmount, seconds.
FLUSH_TIMEOUT_S = 5.0
#: Limit of rows of each smaller kind that are held while writes fail.
MOST_HELD = 2000


class Recorder:
    """Writes the changes of one index to one snapshot."""

    def __init__(
        self,
        snapshot: Snapshot,
        index: Index,
        is_synced: Callable[[Part], bool],
        gather_s: float = GATHER_S,
        reached: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        self._snapshot = snapshot
        self._index = index
        self._is_synced = is_synced
        self._gather_s = gather_s
        self._reached = reached
        self._assets: set[str] = set()
        self._orders: set[str] = set()
        self._items: dict[str, ItemRow] = {}
        self._sizes: dict[str, SizeRow] = {}
        self._answers: dict[str, bytes | None] = {}
        self._changed = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        snapshot.on_rebuilt = self._rebuilt

    def note(self, delta: Delta) -> None:
        """Remember the changes to write."""
        self._assets |= delta.assets
        self._orders |= delta.orders
        self._changed.set()

    def note_items(self, row: ItemRow) -> None:
        """Remember the items of an asset to write."""
        self._items[row.asset_id] = row
        self._changed.set()

    def unwritten_items(self, asset_id: str) -> ItemRow | None:
        """The noted items of an asset that are not in the snapshot yet."""
        return self._items.get(asset_id)

    def note_answer(self, question: str, packed: bytes | None) -> None:
        """Remember an answer of the service; None removes it, because its subject is gone."""
        self._answers[question] = packed
        self._changed.set()

    def note_size(self, row: SizeRow) -> None:
        """Remember a learned size to write."""
        self._sizes[row.object_id] = row
        self._changed.set()

    async def run(self) -> None:
        """Write for ever; start it once. Cancelled at unmount, when `flush` writes the rest."""
        self._token = trio.lowlevel.current_trio_token()
        pause_s = 0.0
        while True:
            await self._changed.wait()
            await trio.sleep(self._gather_s)
            if await self._write() is Outcome.AGAIN:
                pause_s = supervise.next_pause_s(pause_s, 0.0)
                await trio.sleep(pause_s)
                continue
            pause_s = 0.0
            if self._is_synced(Part.ASSETS):
                await trio.to_thread.run_sync(self._snapshot.pack)

    async def flush(self) -> None:
        """Write the rest and close the file."""
        with trio.move_on_after(FLUSH_TIMEOUT_S) as scope:
            scope.shield = True
            await self._write(abandons=True)
            await trio.to_thread.run_sync(self._snapshot.close, abandon_on_cancel=True)
        if scope.cancelled_caught:
            log.warning(
                "the last changes of the catalogue are not stored: another mount of this account, "
                "or the disk, takes more than %.0f s; the next mount lists them anew",
                FLUSH_TIMEOUT_S,
            )

    async def _write(self, *, abandons: bool = False) -> Outcome:
        self._changed = trio.Event()
        taken = self._assets, self._orders, self._items, self._sizes, self._answers
        try:
            batch = self._take()
            # Not abandoned when cancelled: half a write would be rolled back, but block the next.
            # At the end there is no next one, and the process must not wait for it.
            outcome = await trio.to_thread.run_sync(
                self._snapshot.save, batch, abandon_on_cancel=abandons
            )
        except Exception as error:
            # No thread could be started, or memory is short.
            if not supervise.is_short_of_anything(error):
                raise
            log.debug("the catalogue is written later: %s", error)
            outcome = Outcome.AGAIN
        except trio.Cancelled:
            self._put_back(*taken)  # the outcome is unknown: `flush` writes it again
            raise
        if outcome is not Outcome.DONE:
            self._put_back(*taken)
        return outcome

    def _put_back(
        self,
        assets: set[str],
        orders: set[str],
        items: dict[str, ItemRow],
        sizes: dict[str, SizeRow],
        answers: dict[str, bytes | None],
    ) -> None:
        """Take a failed batch back; changes noted meanwhile are newer and win."""
        self._assets, self._orders = assets | self._assets, orders | self._orders
        self._items, self._sizes = items | self._items, sizes | self._sizes
        self._answers = answers | self._answers
        for held in (self._items, self._sizes, self._answers):
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
        self._assets |= set(self._index.assets)
        self._orders |= set(self._index.orders)
        self._changed.set()

    def _take(self) -> Batch:
        assets, orders = self._index.assets, self._index.orders
        batch = Batch(
            assets=[assets[id_] for id_ in self._assets if id_ in assets],
            orders=[orders[id_] for id_ in self._orders if id_ in orders],
            removed_assets=[id_ for id_ in self._assets if id_ not in assets],
            removed_orders=[id_ for id_ in self._orders if id_ not in orders],
            complete=frozenset(part.value for part in Part if self._is_synced(part)),
            reached=self._reached(),
            items=[row for id_, row in self._items.items() if id_ in assets],
            sizes=[row for row in self._sizes.values() if row.asset_id in assets],
            answers=self._answers,
        )
        self._assets, self._orders = set(), set()
        self._items, self._sizes, self._answers = {}, {}, {}
        return batch
