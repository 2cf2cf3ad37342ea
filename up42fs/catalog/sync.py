"""Keeps the index in step with the service: decides when a listing is read, and who waits for it.

`passes` knows how one is read, `listings` which requests that takes.

Theory. Two listings, assets and orders, are each *unsynced* until their first full pass is
complete. A caller that needs a complete listing awaits `ready`; a failed pass raises its error
there, and the next one is tried after a pause. Until the assets are synced, an order whose
directory you open is requested alone.

If several processes share a snapshot, one of them asks UP42, and the others `follow` what it stored
(`following`): until `ask_from_now` no request is sent here, and a refresh that is wanted becomes a
wish.

Rejected: webhooks (a desktop has no public endpoint), and `createdAfter` polls (miss updates).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from typing import Any

import trio

from up42fs import supervise
from up42fs.catalog.index import Changes, Delta, Index, ListingKind
from up42fs.catalog.listings import (
    BEING_FULFILLED,
    AssetListing,
    OrderListing,
    OwnAssets,
    StorageListing,
)
from up42fs.catalog.passes import ASSETS, BATCH, ORDERS, KeptListing
from up42fs.catalog.recent_edits import Edited
from up42fs.catalog.snapshot.stored import Followed
from up42fs.deadlines import Trouble, Turns, patient_s, watched, within
from up42fs.errors import DeadlineExceeded, NotFound, Unavailable, Up42fsError, copied
from up42fs.logs import FOR_DESKTOP
from up42fs.types import Asset

log = logging.getLogger(__name__)

#: Callers wait this many times their timeout for a first listing that is slow, but proceeds.
MOST_WAITS = 4
#: Pause after a failed pass, seconds; the retries inside it already took their time.
PAUSE_AFTER_FAILURE_S = patient_s(5.0)
#: Least time between refreshes that users request through `.up42fs/refresh`, seconds: every user
#: who may enter the mount can request one, and each costs API requests of the account.
ASKED_PAUSE_S = 5.0


class Sync:
    """Drives the two listings into the index."""

    #: Whether `ready_name` asks for rows, so that they may be known before their listing.
    asks_for_names = False

    def __init__(
        self,
        index: Index,
        *,
        assets: AssetListing,
        orders: OrderListing,
        on_change: Callable[[Delta], None],
        refresh_s: float,
        known: Collection[ListingKind] = (),
        edited: Edited | None = None,
        reached: datetime | None = None,
        uncounted: Mapping[str, int] | None = None,
        watched: Collection[str] = (BEING_FULFILLED,),
        keep: Callable[[str, bytes | None], None] | None = None,
    ) -> None:
        """`known` listings are in the index already, complete when they were stored.

        If the assets are incomplete, the index has those created after `reached`. Edits in `edited`
        are not undone by rows requested before them. `uncounted` says by how many rows the totals
        of known listings are off; `keep` stores that for later mounts. Orders in the states
        `watched` are requested again until they leave them.
        """
        self._edited = edited or Edited()
        self._index = index
        self._assets = assets
        sources: Mapping[ListingKind, StorageListing[Any]] = {ASSETS: assets, ORDERS: orders}
        self._states = {
            kind: KeptListing(
                kind,
                source,
                index,
                on_change=on_change,
                edited=self._edited,
                watched=watched,
                keep=keep or (lambda _question, _value: None),
            )
            for kind, source in sources.items()
        }
        for kind in known:
            self._states[kind].restore((uncounted or {}).get(kind.value, 0))
        if ASSETS not in known:
            self._states[ASSETS].reached = reached
        index.is_complete = ASSETS in known
        #: Receives what other processes changed: it is stored already.
        self.on_followed = on_change
        #: Called when a refresh is wanted while another process refreshes.
        self.on_wish: Callable[[], None] = lambda: None
        #: Awaited after each refresh, with the error that it ended with.
        self.on_attempt: Callable[[ListingKind, str | None], Awaitable[None]] = _nothing
        self._may_ask = trio.Event()
        self._may_ask.set()
        self._asking = 0
        self._refresh_s = refresh_s
        self._wanted = trio.Event()
        #: Set while a requested refresh waits for the end of its pause.
        self._asked = trio.Event()
        self._asked_not_before_s = -math.inf
        self._orders_known: set[str] = set()
        self._order_turns: dict[str, Turns] = {}

    async def run(self) -> None:
        """Sync for ever; start it once, cancel it at unmount."""
        async with trio.open_nursery() as nursery:
            for kind in ListingKind:
                supervise.start_for_good(nursery, self._keep, kind)
            while True:
                await self._asked.wait()
                self._asked = trio.Event()
                await trio.sleep_until(self._asked_not_before_s)
                self.refresh_soon()

    async def ready(self, *kinds: ListingKind, timeout_s: float) -> None:
        """Return once the first pass over `kinds` is complete.

        Raises the error of a pass that failed meanwhile. If no rows came for `timeout_s` seconds,
        and in any case after MOST_WAITS times that, it raises the last error of a request of this
        pass or of the one before; DeadlineExceeded if there was none.
        """
        waiting = [self._states[kind] for kind in kinds if not self._states[kind].synced]
        if not waiting:
            return
        asked_s = trio.current_time()
        for _ in range(MOST_WAITS):
            rows = [state.partial_rows for state in waiting]
            with trio.move_on_after(timeout_s):
                for state in waiting:
                    await self._first_pass(state)
                return
            if rows == [state.partial_rows for state in waiting]:
                break
        troubles = (state.trouble.told() or state.error for state in waiting)
        if (told := next(filter(None, troubles), None)) is not None:
            raise copied(told)
        raise DeadlineExceeded(
            f"UP42 has not listed the storage within {trio.current_time() - asked_s:.0f} s of "
            "asking; it goes on in the background: try again"
        )

    async def ready_order(self, order_id: str, *, timeout_s: float) -> None:
        """Return once the assets of an order are known; raises as `ready` does.

        Until all assets are listed, this order's are requested alone. If that finds none, this
        waits for the whole listing: it is unknown which fields a server searches.
        """
        if self._states[ASSETS].synced or order_id in self._orders_known:
            return
        own = self._assets.own
        if own is not None:
            late = f"UP42 has not listed order {order_id} within {timeout_s:.0f} s: try again"
            with within(timeout_s, late):
                try:
                    async with self._order_turns.setdefault(order_id, Turns()).turn():
                        if await self._learn_order(order_id, own):
                            return
                except NotFound:  # UP42 lists no assets any more: read STAC's listing
                    pass
        await self.ready(ASSETS, timeout_s=timeout_s)

    async def ready_name(
        self, kind: ListingKind, name: str, *, by_id: bool, timeout_s: float
    ) -> None:
        """Ask for one row alone, where that is cheaper than its listing; see `on_demand`."""

    async def ready_top(self, *, timeout_s: float) -> None:
        """Ask what the top level lists, where nothing is read in the background."""

    def may_know_more(self, *, by_id: bool) -> bool:  # noqa: ARG002
        """Whether a listing of all assets may show an order that is not known, named by its ID."""
        return not self._index.is_complete

    async def _learn_order(self, order_id: str, own: OwnAssets) -> bool:
        """Request an order's assets alone; return whether they are known now."""
        if self._states[ASSETS].synced or order_id in self._orders_known:
            return True
        asked_s = trio.current_time()
        rows = await own.of_order(order_id)
        if not self._states[ASSETS].synced:
            self._states[ASSETS].apply(rows, frozenset(), asked_s)
            if rows:
                self._orders_known.add(order_id)
        return bool(rows) or self._states[ASSETS].synced

    async def synced(self, kind: ListingKind) -> None:
        """Return once a listing is complete, however long that takes."""
        state = self._states[kind]
        while not state.synced:
            await state.attempt.wait()
            if not state.synced:
                await trio.sleep(PAUSE_AFTER_FAILURE_S)

    @property
    def reached(self) -> datetime | None:
        """Progress of the first pass over the assets: all created after this time are known."""
        return self._states[ASSETS].reached

    def is_synced(self, kind: ListingKind) -> bool:
        return self._states[kind].synced

    def refresh_now(self) -> None:
        """Refresh without waiting for the next interval."""
        if self._may_ask.is_set():
            self._wanted.set()
        else:
            self.on_wish()

    def refresh_soon(self) -> None:
        """Refresh at once, or `ASKED_PAUSE_S` after the last one requested here; none is lost."""
        now_s = trio.current_time()
        if now_s >= self._asked_not_before_s:
            self._asked_not_before_s = now_s + ASKED_PAUSE_S
            self.refresh_now()
        else:
            self._asked.set()

    # several processes -----------------------------------------------------------------------

    @property
    def is_asking(self) -> bool:
        """Whether a refresh is under way."""
        return self._asking > 0

    def ask_from_now(self) -> None:
        """Ask UP42: no other process does."""
        self._may_ask.set()

    def let_others_ask(self) -> None:
        """Send no more requests for listings; a pass that is under way ends."""
        if self._may_ask.is_set():
            self._may_ask = trio.Event()

    async def follow(self, found: Followed, *, leads: bool) -> None:
        """Apply what other processes stored. `leads`: this one refreshes, and saw an edit."""
        assets = [row for row in found.assets if _is_news(self._index.assets.get(row.id), row)]
        for start in range(0, len(assets), BATCH):
            rows = assets[start : start + BATCH]
            if leads:
                for row in rows:  # a listing that was requested before must not undo it
                    self._edited.note(row, timed=True)
            self._tell_followed(self._index.apply(Changes(assets=tuple(rows))))
            await trio.lowlevel.checkpoint()
        removed, removed_orders = set(found.removed_assets), set(found.removed_orders)
        if found.is_all:
            removed |= self._index.assets.keys() - {row.id for row in found.assets}
            removed_orders |= self._index.orders.keys() - {row.id for row in found.orders}
        changes = Changes(
            orders=tuple(found.orders),
            removed_assets=frozenset(removed),
            removed_orders=frozenset(removed_orders),
        )
        self._tell_followed(self._index.apply(changes))
        for kind in ListingKind:
            state = self._states[kind]
            if not state.synced and not leads:
                state.partial_rows = len(state.known)
                if kind.value in found.complete:
                    state.error = None
                    self._tell_followed(state.complete())
                    state.attempt.set()

    def heard(
        self, refreshed_s: Mapping[str, float], errors: Mapping[str, str], now_s: float
    ) -> None:
        """Take over how another process's refreshes went; `refreshed_s` and `now_s` since 1970."""
        for kind in ListingKind:
            state, error = self._states[kind], errors.get(kind.value)
            if kind.value in refreshed_s and state.synced:
                age_s = max(0.0, now_s - refreshed_s[kind.value])
                state.synced_at_s = max(state.synced_at_s, trio.current_time() - age_s)
            if error is not None:
                state.error = Unavailable(error)
                state.attempt.set()
            elif state.error is not None:
                state.error = None
                if not state.synced:
                    state.attempt = trio.Event()

    def _tell_followed(self, delta: Delta) -> None:
        if delta:
            self.on_followed(delta)

    def status(self) -> Mapping[str, Mapping[str, object]]:
        """For `status.json`: per listing, whether it is complete, how old, and the last error."""
        now_s = trio.current_time()
        return {
            kind.value: {
                "complete": state.synced,
                "rows_so_far": None if state.synced else state.partial_rows,
                "seconds_since_refresh": (
                    round(now_s - state.synced_at_s, 1)
                    if math.isfinite(state.synced_at_s)
                    else None
                ),
                "uncounted": state.totals.uncounted,
                "error": str(state.error) if state.error else None,
            }
            for kind, state in self._states.items()
        }

    async def _first_pass(self, state: KeptListing) -> None:
        while not state.synced:
            await state.attempt.wait()
            if not state.synced and state.error is not None:
                raise copied(state.error)

    async def _keep(self, kind: ListingKind) -> None:
        while True:
            await self._may_ask.wait()
            # Taken before the attempt, which may miss a refresh requested during it.
            wanted = self._wanted
            is_done = await self._attempt(kind)
            pause_s = self._refresh_s if is_done else PAUSE_AFTER_FAILURE_S
            with trio.move_on_after(pause_s):
                await wanted.wait()
            if wanted is self._wanted and wanted.is_set():
                self._wanted = trio.Event()

    async def _attempt(self, kind: ListingKind) -> bool:
        self._asking += 1
        try:
            return await self._tried(kind)
        finally:
            self._asking -= 1
            error = self._states[kind].error
            await self.on_attempt(kind, None if error is None else str(error))

    async def _tried(self, kind: ListingKind) -> bool:
        state = self._states[kind]
        if state.attempt.is_set():
            state.attempt = trio.Event()
        try:
            state.trouble = Trouble()
            state.total = None  # the one of an earlier refresh is no reason for a full pass
            with watched(state.trouble):
                await state.pass_over()
        except Up42fsError as error:
            self._report(kind, error)
            state.error = error
            return False
        except Exception as error:
            log.exception("refreshing the %s failed unexpectedly", kind.value)
            state.error = Unavailable(f"refreshing the {kind.value} failed: {error!r}")
            return False
        else:
            if state.error is not None and state.synced:
                extra = FOR_DESKTOP if kind is ListingKind.ASSETS else None
                log.info("refreshing the %s works again", kind.value, extra=extra)
            state.error = None
            state.synced_at_s = trio.current_time()
            return True
        finally:
            state.attempt.set()

    def _report(self, kind: ListingKind, error: Up42fsError) -> None:
        """Log that a pass failed, once as long as the reason stays the same."""
        state = self._states[kind]
        if state.error is None or str(state.error) != str(error):
            is_news = kind is ListingKind.ASSETS and state.error is None
            extra = FOR_DESKTOP if is_news else None
            said = "refreshing the %s failed, the last known state stays: %s"
            if not state.synced:
                said = "listing the %s failed, it is tried again: %s"
            log.warning(said, kind.value, error, extra=extra)


def _is_news(known: Asset | None, row: Asset) -> bool:
    """Whether a stored row is newer than the known one, or at least another of its age."""
    return known is None or (row.updated_at >= known.updated_at and row != known)


async def _nothing(_kind: ListingKind, _error: str | None) -> None:
    """Nobody is to be told."""
