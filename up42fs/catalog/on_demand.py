"""A catalogue that asks UP42 only when a call needs an answer, and only for that.

For commands and libraries: they live for seconds, or wait for hours, so a listing that is kept
current in the background would cost more than their calls. Knows when to ask; `sync` knows how a
listing is read and compared, and `lazily` how processes share one.

Theory. A listing is *current* for `refresh_s` seconds after it was read. A call that needs one that
is not current waits for one pass over it: the rows changed last if it is known, else all rows.
Calls at the same time share the pass. If the pass over a known listing fails, the known rows stay
and are shown, as in a mount. An order is asked for alone, also if all assets are known: one
request, which also notices what is gone from it. A name in `orders/` or `assets/` is asked for by
that name: UP42 answers with all rows whose names contain a part of it, so those that clash with it
are among them. An ID is asked for as such. After `MOST_QUESTIONS` of them the caller is walking
through the storage, and whole listings are read instead.

A call falls back from one question to a wider one, and callers ask one after another: a server that
answers nothing would make them wait each time. So an error that took longer than `LONG_S` is
raised, and likewise raised at once by calls about the same listing in the next `FRESH_S`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import trio

from up42fs import supervise
from up42fs.catalog.index import PROCESSED, ListingKind
from up42fs.catalog.listings import OwnAssets, OwnListing
from up42fs.catalog.passes import ASSETS
from up42fs.catalog.sync import Sync
from up42fs.deadlines import Turns, request_s, within
from up42fs.errors import DeadlineExceeded, NotFound, Up42fsError, copied
from up42fs.model.names import certain_part

log = logging.getLogger(__name__)

#: Orders and names that are asked for one by one before all rows are listed.
MOST_QUESTIONS = 16
#: An error that came later than this was waited for, seconds; and how long others need not wait.
LONG_S = request_s(5.0)
FRESH_S = 2.0

#: A storage with no more assets than this is listed by about as few requests as questions take.
MOST_LISTED = 200
#: What the top level is noted as, beside the IDs of orders and names.
_TOP = "/"

Share = Callable[[ListingKind, Callable[[ListingKind], Awaitable[bool]]], Awaitable[None]]


class OnDemand(Sync):
    """The two listings, read when they are needed. Passes run in `nursery`; `run` is not used."""

    asks_for_names = True

    def __init__(self, nursery: trio.Nursery, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)  # type: ignore[arg-type]
        self._nursery = nursery
        self._passes: dict[ListingKind, trio.Event] = {}
        #: Makes a listing current with other processes' help; None: each asks for itself.
        self.share: Share | None = None
        #: When a refresh was asked for last, seconds since 1970: what is older does not count.
        self.wanted_s = 0.0
        #: When each order, and each name, was asked for alone.
        self._read_at_s: dict[str, float] = {}
        #: The last error about each listing that was waited for, and when it came.
        self._waited_for: dict[ListingKind, tuple[float, Up42fsError]] = {}

    async def ready(self, *kinds: ListingKind, timeout_s: float) -> None:
        """Return once each listing is current; raises as `Sync.ready` does."""
        stale = [kind for kind in kinds if not self._is_current(kind)]
        # A known listing that UP42 does not answer for in time is shown as it is.
        known = [kind for kind in stale if self.is_synced(kind) and not self._is_hopeless(kind)]
        unknown = [kind for kind in stale if not self.is_synced(kind)]
        self._raise_again(*unknown)
        passes = [self._begin(kind) for kind in known + unknown]
        begun_s = trio.current_time()
        with trio.move_on_after(timeout_s):
            for done in passes[: len(known)]:
                await done.wait()
        if trio.current_time() - begun_s > LONG_S:
            self._note_hopeless(kind for kind in known if not self._is_current(kind))
        with self._waiting(*unknown):
            await super().ready(*kinds, timeout_s=timeout_s)

    async def ready_order(self, order_id: str, *, timeout_s: float) -> None:
        """Return once the assets of an order are current; raises as `Sync.ready_order` does."""
        if self._is_current(ASSETS) or self._is_recent(order_id):
            return
        own = self._assets.own
        if own is None or len(self._read_at_s) >= MOST_QUESTIONS:
            await self.ready(ASSETS, timeout_s=timeout_s)
            return
        if not self.is_synced(ASSETS):
            self._raise_again(ASSETS)
            self._orders_known.discard(order_id)
            with self._waiting(ASSETS):
                await super().ready_order(order_id, timeout_s=timeout_s)
            self._note(order_id)
            return
        if self._is_hopeless(ASSETS):
            return  # it is shown as it is known
        late = f"UP42 has not listed order {order_id} within {timeout_s:.0f} s: try again"
        with self._waiting(ASSETS), within(timeout_s, late):
            async with self._order_turns.setdefault(order_id, Turns()).turn():
                if not self._is_recent(order_id):
                    await self._reread(order_id, own)

    async def ready_name(
        self, kind: ListingKind, name: str, *, by_id: bool, timeout_s: float
    ) -> None:
        """Ask for the rows that may be called `name`, or for the one with this ID, by one request.

        If that does not find the name, the listing is read, and can tell why. So an error is raised
        only if it was waited for and nothing of the listing is known.
        """
        own, question = self._states[kind].source.own, f"{kind.value} {name}"
        if own is None or self._is_current(kind) or self._is_recent(question):
            return
        part = name.lower() if by_id else certain_part(name)
        if part is None or len(self._read_at_s) >= MOST_QUESTIONS:
            return
        if self._is_hopeless(kind):
            return
        asked_s = trio.current_time()
        late = f"UP42 has not told what {name} is within {timeout_s:.0f} s: try again"
        try:
            with self._waiting(kind), within(timeout_s, late):
                rows: Sequence[Any] | None
                if by_id:
                    rows = await self._row(own, part)
                else:
                    rows = await own.called(part)
        except Up42fsError:
            if self._is_hopeless(kind) and not self.is_synced(kind):
                raise
            return
        if rows is not None:
            self._states[kind].apply(rows, frozenset(), asked_s)
            self._note(question)

    async def ready_top(self, *, timeout_s: float) -> None:
        """Ask whether there are results and several workspaces: three requests, or the listing.

        A storage that is known, small, or refuses the questions is listed.
        """
        own = self._assets.own
        if own is None or self.is_synced(ASSETS) or self._is_hopeless(ASSETS):
            await self.ready(ASSETS, timeout_s=timeout_s)
        elif not self._is_recent(_TOP):
            known = False
            late = f"UP42 has not told what the storage holds within {timeout_s:.0f} s: try again"
            with suppress(Up42fsError), self._waiting(ASSETS), within(timeout_s, late):
                known = await self._probe(own)
            if not known:
                await self.ready(ASSETS, timeout_s=timeout_s)

    async def _probe(self, own: OwnAssets) -> bool:
        asked_s = trio.current_time()
        newest = await own.first()
        if newest.total is None or newest.total <= MOST_LISTED or not newest.items:
            return False
        workspace = newest.items[0].workspace_id
        theirs = await own.first(workspace=workspace) if workspace is not None else None
        results = await own.first(source=PROCESSED)
        if theirs is None or theirs.total is None:
            return False
        self._states[ASSETS].apply(results.items, frozenset(), asked_s)
        self._index.is_told_of_workspaces = theirs.total < newest.total
        self._note(_TOP)
        return True

    async def _row(self, own: OwnListing[Any], row_id: str) -> Sequence[Any]:
        try:
            return (await own.one(row_id),)
        except NotFound:
            return ()

    def may_know_more(self, *, by_id: bool) -> bool:
        """Whether all assets may show an unknown order; see `Sync.may_know_more`."""
        if self.is_synced(ASSETS):
            return not self._is_current(ASSETS)
        # UP42 lists orders by name: only one that it does not list is named by its ID.
        return by_id or self._assets.own is None

    def refresh_now(self) -> None:
        """Read each listing again when it is next needed."""
        self._read_at_s.clear()
        self.wanted_s = time.time()
        for state in self._states.values():
            state.synced_at_s = -math.inf

    refresh_soon = refresh_now

    @contextmanager
    def _waiting(self, *kinds: ListingKind) -> Iterator[None]:
        """Remember an error of the block for these listings, if it was waited for."""
        begun_s = trio.current_time()
        try:
            yield
        except Up42fsError as error:
            now_s = trio.current_time()
            if now_s - begun_s > LONG_S:
                for kind in kinds:
                    self._waited_for[kind] = now_s, error
            raise

    def _note_hopeless(self, kinds: Iterable[ListingKind]) -> None:
        """Remember that these listings, which are shown as they are known, were waited for."""
        for kind in kinds:
            error = self._states[kind].error or DeadlineExceeded(f"no answer about {kind.value}")
            self._waited_for[kind] = trio.current_time(), error

    def _is_hopeless(self, kind: ListingKind) -> bool:
        """Whether a call about this listing waited for an error until just now."""
        came_s, _ = self._waited_for.get(kind, (-math.inf, None))
        return trio.current_time() - came_s <= FRESH_S

    def _raise_again(self, *kinds: ListingKind) -> None:
        for kind in filter(self._is_hopeless, kinds):
            raise copied(self._waited_for[kind][1])

    def _report(self, kind: ListingKind, error: Up42fsError) -> None:
        # The call that needs a listing raises the error; only what is shown all the same is told.
        if self.is_synced(kind):
            super()._report(kind, error)

    async def _reread(self, order_id: str, own: OwnAssets) -> None:
        """Read an order of a storage that is known."""
        asked_s = trio.current_time()
        try:
            with self._waiting(ASSETS):
                rows = await own.of_order(order_id)
        except NotFound:  # UP42 lists no assets any more: read STAC's listing
            rows = []
        except Up42fsError as error:
            log.warning("order %s is shown as it was known: %s", order_id, error)
            return
        if not rows:
            # It is unknown which fields a server searches.
            await self.ready(ASSETS, timeout_s=math.inf)
            return
        gone = set(self._index.ids_of_order(order_id)) - {row.id for row in rows}
        self._states[ASSETS].apply(rows, frozenset(gone), asked_s)
        self._note(order_id)

    def _is_current(self, kind: ListingKind) -> bool:
        state = self._states[kind]
        return state.synced and trio.current_time() - state.synced_at_s < self._refresh_s

    def _is_recent(self, row_id: str) -> bool:
        read_at_s = self._read_at_s.get(row_id, -math.inf)
        return trio.current_time() - read_at_s < self._refresh_s

    def _note(self, row_id: str) -> None:
        self._read_at_s[row_id] = trio.current_time()

    def _begin(self, kind: ListingKind) -> trio.Event:
        """Start a pass over a listing, unless one runs; return the event of its end."""
        done = self._passes.get(kind)
        if done is None:
            done = self._passes[kind] = trio.Event()
            # Set before the task runs: the end of an earlier pass is not the end of this one.
            self._states[kind].attempt = trio.Event()
            self._states[kind].error = None
            supervise.start(self._nursery, self._pass_over, kind, done)
        return done

    async def _pass_over(self, kind: ListingKind, done: trio.Event) -> None:
        try:
            if self.share is None:
                await self._attempt(kind)
            else:
                await self.share(kind, self._attempt)
        finally:
            self._states[kind].attempt.set()
            del self._passes[kind]
            done.set()
