"""One listing in the index: read whole at first, then followed by small refreshes.

Knows how a pass reads the rows; `sync` knows when, and who waits for it.

Theory. A refresh reads the rows updated last until it meets a known one, then compares the total:
if it moved, a row was removed (or the listing shifted during the read) and a full pass follows (see
`totals`). A full pass also runs from time to time, since `updatedAt` is only inferred to move with
every change (contract §2.2); for the same reason unfinished rows are requested by themselves,
assets in one refresh, orders in the next.

The first pass over the assets shows nothing before its end, but its rows are applied as they
arrive, newest first, and stored together with its progress: an interrupted pass continues from
there, followed by a refresh that must find the totals equal.

Between two awaits the index changes at most once, by `Index.apply`; readers never see half a row.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

import trio

from up42fs.api.pages import in_batches
from up42fs.catalog.index import Changes, Delta, Index, ListingKind
from up42fs.catalog.listings import StorageListing
from up42fs.catalog.recent_edits import Edited
from up42fs.catalog.snapshot.tables import UNCOUNTED
from up42fs.catalog.totals import Totals
from up42fs.deadlines import Trouble
from up42fs.errors import Up42fsError
from up42fs.types import Asset, CnamStatus, Order

ASSETS, ORDERS = ListingKind.ASSETS, ListingKind.ORDERS

log = logging.getLogger(__name__)

#: The whole listing is read again after this many refreshes.
FULL_PASS_EVERY = 60
#: Pages of rows updated last that are read before a full pass is cheaper.
MAX_NEWEST_PAGES = 10
#: Rows of a full pass applied together: some milliseconds of work.
BATCH = 500


class KeptListing:
    """One listing, its rows in the index, and how far they are known."""

    def __init__(
        self,
        kind: ListingKind,
        source: StorageListing[Any],
        index: Index,
        *,
        on_change: Callable[[Delta], None],
        edited: Edited,
        watched: Collection[str],
        keep: Callable[[str, bytes | None], None],
    ) -> None:
        """`edited`, `watched` and `keep` are those of `Sync`."""
        self.kind, self.source = kind, source
        self._index = index
        self._on_change = on_change
        self._edited = edited
        self._watched = frozenset(watched)
        self._keep_answer = keep
        self.synced = False
        self.refreshes = 0
        #: Set when the current attempt ends, successful or not; replaced by the next attempt.
        self.attempt = trio.Event()
        self.error: Up42fsError | None = None
        self.trouble = Trouble()
        self.synced_at_s = -math.inf
        self.partial_rows = 0
        #: Progress of the first pass over the assets: all created after this time are known.
        self.reached: datetime | None = None
        self.totals = Totals()
        #: The total that the latest refresh returned.
        self.total: int | None = None

    def restore(self, uncounted: int) -> None:
        """Begin with stored rows, which are complete: the next pass is a refresh."""
        self.synced, self.refreshes = True, 1
        self.totals.uncounted = uncounted

    @property
    def known(self) -> Mapping[str, Asset | Order]:
        """The rows in the index, by ID."""
        return self._index.assets if self.kind is ASSETS else self._index.orders

    def complete(self) -> Delta:
        """Note that all rows are known; return what changes with that."""
        self.synced, self.refreshes = True, max(1, self.refreshes)
        self.reached = None
        return self._index.complete() if self.kind is ASSETS else Delta()

    def apply(self, rows: Sequence[Any], gone: frozenset[str], asked_s: float) -> None:
        """Put rows that were requested at `asked_s` into the index, and remove those `gone`."""
        if self.kind is ASSETS:
            rows, gone = self._edited.settle(rows, gone, asked_s)
            changes = Changes(assets=tuple(rows), removed_assets=gone)
        else:
            changes = Changes(orders=tuple(rows), removed_orders=gone)
        self._tell(self._index.apply(changes))

    async def pass_over(self) -> None:
        """Make the rows current: by a refresh, or by reading all. Raises an `Up42fsError`."""
        is_first = not self.synced
        own: Any = self.source.own
        if self.reached is not None and own is not None:
            # The rest of an interrupted first pass.
            log.info("going on with the listing of assets that was cut off at %s", self.reached)
            reached, self.reached = self.reached, None  # if this fails, all is read
            await self._read(own.older_than(reached), set(self._index.assets))
            found_all = await self._refresh()
        else:
            found_all = self.refreshes % FULL_PASS_EVERY != 0 and await self._refresh()
        if not found_all:
            is_for_total = self.total is not None and not is_first
            found = await self._full_pass()
            if is_for_total:
                self.totals.acted_on(self.refreshes, found=found)
        elif not is_first:
            await self._look_again()
        self.refreshes += 1
        if is_first:
            self._tell(self.complete())

    async def _look_again(self) -> None:
        """Request unfinished rows: of one listing in one refresh, of the other in the next."""
        if self.refreshes % 2 != (self.kind is ORDERS):
            return
        own, unsettled = self.source.own, self._unsettled()
        if own is not None and unsettled:
            asked_s = trio.current_time()
            rows, gone = await own.look_again(unsettled, self.known.values())
            self.apply(rows, gone, asked_s)

    def _unsettled(self) -> list[Any]:
        """The rows that UP42 is still working on, as far as is known."""
        if self.kind is ASSETS:
            return list(self._index.with_status(CnamStatus.IN_PROGRESS))
        return [order for order in self._index.orders.values() if order.status in self._watched]

    async def _read(self, rows: AsyncGenerator[Any, None], found: set[str]) -> None:
        """Apply rows as they come; add their IDs to `found`."""
        asked_s = trio.current_time()
        async with aclosing(in_batches(rows, BATCH)) as batches:
            async for batch in batches:
                found |= {row.id for row in batch}
                self.partial_rows = len(found)
                self.apply(batch, frozenset(), asked_s)
                # Only rows that come newest first can be continued.
                last = batch[-1].created_at
                is_progress = self.reached is None or last <= self.reached
                if not self.synced and self.kind is ASSETS and is_progress:
                    self.reached = last

    async def _full_pass(self) -> bool:
        """Read everything; return whether rows are gone or were unknown."""
        found: set[str] = set()
        known = set(self.known)
        asked_s = trio.current_time()
        await self._read(self.source.everything(), found)
        gone = self.known.keys() - found
        self.apply((), frozenset(gone), asked_s)
        self._count(len(found))
        return found != known

    def _count(self, rows: int) -> None:
        """Compare the total of a listing that was read whole with its number of rows."""
        before = self.totals.uncounted
        told = self.source.told()
        self.totals.read_whole(self.total if told is None else told, rows)
        if self.totals.uncounted != before:
            log.info(
                "UP42 counts %d %s more than it lists under an ID of their own; what is removed "
                "is noticed all the same", self.totals.uncounted, self.kind.value,
            )  # fmt: skip
            self._keep_answer(UNCOUNTED + self.kind.value, str(self.totals.uncounted).encode())

    async def _refresh(self) -> bool:
        """Read the rows changed since the last pass; return False if a full pass is needed."""
        known = self.known
        asked_s = trio.current_time()
        changed: list[Asset | Order] = []
        for number in range(MAX_NEWEST_PAGES):
            page = await self.source.newest(number)
            # If a row is listed twice with different contents, the first one counts: else it would
            # change with every refresh.
            rows = {row.id: row for row in reversed(page.items)}
            changed += (row for row in rows.values() if known.get(row.id) != row)
            familiar = bool(page.items) and _same(known.get(page.items[-1].id), page.items[-1])
            if familiar or number + 1 >= page.total_pages:
                self.apply(changed, frozenset(), asked_s)
                self.total = page.total
                return self.totals.is_explained(page.total, len(self.known), self.refreshes)
        return False

    def _tell(self, delta: Delta) -> None:
        if delta:
            self._on_change(delta)


def _same(known: Asset | Order | None, row: Asset | Order) -> bool:
    return known is not None and known.updated_at == row.updated_at
