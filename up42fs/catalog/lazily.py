"""Shares the listings among processes that ask only when a call needs an answer.

The counterpart of `following` for `on_demand`: nothing runs in the background here. A pass over a
listing first looks at the files of the election and at the snapshot. If another process has read
that listing within `refresh_s`, what it stored is taken over and UP42 is asked for nothing. Else
the process that gets the lock asks, stores, tells the others and gives the lock back. One that does
not get it leaves a wish and waits for the answer, and after `PATIENCE_S` asks UP42 itself: the
holder may hang, or have an interval that is longer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from up42fs.catalog.election import Election, is_unusable
from up42fs.catalog.index import ListingKind
from up42fs.catalog.on_demand import OnDemand
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.snapshot.stored import Followed
from up42fs.catalog.turns import STORED_S, Notice

T = TypeVar("T")

log = logging.getLogger(__name__)

#: How long a pass waits for another process's, and the pause between two looks, seconds.
PATIENCE_S, LOOK_S = 15.0, 0.25


@dataclass(frozen=True, slots=True)
class _Seen:
    is_elected: bool
    notice: Notice | None
    followed: Followed | None


class Lazily:
    """This process's part among those that share a snapshot, while it asks on demand."""

    def __init__(
        self,
        recorder: Recorder,
        sync: OnDemand,
        *,
        refresh_s: float,
        position: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`position`: where the recorder's snapshot stood when it was loaded."""
        self._recorder, self._sync = recorder, sync
        self._election = Election(recorder.snapshot.path)
        self._refresh_s = refresh_s
        self._position = position
        self._clock = clock
        self._files = trio.CapacityLimiter(1)
        self._passes = 0  # under way; the lock is theirs together
        sync.share = self.share

    async def share(
        self, kind: ListingKind, attempt: Callable[[ListingKind], Awaitable[bool]]
    ) -> None:
        """Make a listing current: by what another process stored, else by `attempt`."""
        self._passes += 1
        try:
            is_elected = await self._look_until(kind)
            if is_elected is not None:
                is_done = await attempt(kind)
                if is_elected and is_done:
                    await self._tell(kind)
        except Exception as error:
            if not is_unusable(error):
                raise
            log.info("the catalogue is read by this process for itself: %s", error)
            await attempt(kind)
        finally:
            self._passes -= 1
            if not self._passes:
                self._election.resign()

    def close(self) -> None:
        """Let another process be elected."""
        self._election.resign()

    async def _look_until(self, kind: ListingKind) -> bool | None:
        """None once the listing is current; else whether this process asks for all."""
        began_s, wished = trio.current_time(), False
        while True:
            seen = await self._in_thread(self._seen)
            if seen.followed is not None:
                await self._sync.follow(seen.followed, leads=False)
                self._position = seen.followed.position
            if seen.notice is not None and self._is_fresh(kind, seen.notice):
                refreshed_s = {kind.value: seen.notice.refreshed_s[kind.value]}
                self._sync.heard(refreshed_s, {}, self._clock())
                return None
            if seen.is_elected:
                return True
            if trio.current_time() - began_s > PATIENCE_S:
                return False
            if not wished:
                wished = True
                await self._in_thread(self._election.wish)
            await trio.sleep(LOOK_S)

    def _is_fresh(self, kind: ListingKind, notice: Notice) -> bool:
        refreshed_s = notice.refreshed_s.get(kind.value, 0.0)
        is_recent = 0 <= self._clock() - refreshed_s < self._refresh_s
        return is_recent and self._sync.is_synced(kind) and refreshed_s >= self._sync.wanted_s

    def _seen(self) -> _Seen:
        is_elected, notice = self._election.stand(), self._election.notice()
        return _Seen(is_elected, notice, self._recorder.snapshot.follow(self._position))

    async def _tell(self, kind: ListingKind) -> None:
        with trio.move_on_after(STORED_S):
            await self._recorder.written()

        def tell() -> None:
            known = self._election.notice() or Notice()
            self._election.publish(known.after(kind.value, self._clock()))

        await self._in_thread(tell)

    async def _in_thread(self, job: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(job, limiter=self._files)
