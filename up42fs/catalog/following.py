"""Lets one process of an account refresh the catalogue, and the others follow its snapshot.

`turns` decides, `election` has the files, `sync` asks UP42. Each process looks every two seconds at
most whether the snapshot changed: one thread, three small files, one query of SQLite, no request to
UP42. It applies the changes of other processes to its index like a refresh, so that names, link
counts and the kernel follow; it does not write them again.

Without a snapshot there is nothing to follow, and each process refreshes for itself.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from up42fs.catalog.election import Election, is_unusable
from up42fs.catalog.index import ListingKind
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.snapshot.stored import Followed
from up42fs.catalog.sync import Sync
from up42fs.catalog.turns import HUNG_S, STORED_S, Act, Notice, act, look_s

log = logging.getLogger(__name__)

#: Changes how long an elected process may be silent, for tests.
HUNG_VARIABLE = "UP42FS_TEST_HUNG_S"
#: A sign of life during a long refresh, seconds.
ALIVE_S = 10.0


@dataclass(frozen=True, slots=True)
class _Observed:
    is_elected: bool
    elected: int | None
    notice: Notice | None
    wished_ns: int
    followed: Followed | None


class Following:
    """This process's part among those that share a snapshot."""

    def __init__(
        self,
        recorder: Recorder,
        sync: Sync,
        *,
        refresh_s: float,
        position: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`position`: where the recorder's snapshot stood when it was loaded."""
        self.leads = False
        self._recorder = recorder
        self._election = Election(recorder.snapshot.path)
        self._sync = sync
        self._refresh_s = refresh_s
        self._position = position
        self._clock = clock
        self._limiter = trio.CapacityLimiter(1)
        self._notice = Notice()
        self._elected: int | None = None
        self._since_s = clock()
        self._hung_s = float(os.environ.get(HUNG_VARIABLE) or HUNG_S)
        self._wished_s: float | None = None
        self._is_wishing = False
        self._granted_ns: int | None = None
        self._asks_alone = False
        self._look_now = trio.Event()
        #: Set once this process refreshes the catalogue.
        self.was_elected = trio.Event()
        self._alive_s = 0.0
        self._is_reported = False
        sync.on_wish = self.wish
        sync.on_attempt = self.attempted
        sync.let_others_ask()

    def status(self) -> dict[str, object]:
        """For `status.json`: which process refreshes, and whether it is this one."""
        return {"pid": self._elected, "is_this": self.leads}

    def wish(self) -> None:
        """A refresh is wanted: pass that on to the process that refreshes."""
        self._is_wishing = True
        self._look_now.set()

    async def run(self) -> None:
        """Look for ever; start it once."""
        while True:
            await self.look()
            self._look_now = trio.Event()
            if self._is_wishing:
                continue
            with trio.move_on_after(look_s(self._refresh_s)):
                await self._look_now.wait()

    async def look(self) -> None:
        """Look once: stand for election, apply what others wrote, wish or grant wishes."""
        is_wishing, self._is_wishing = self._is_wishing, False
        try:
            seen = await self._in_thread(lambda: self._seen(is_wishing))
        except Exception as error:
            # Readers wait for a first listing, and a shortage of memory or threads may last.
            if not is_unusable(error):
                raise
            self._go_alone(error)
            return
        if seen.followed is not None:
            await self._sync.follow(seen.followed, leads=seen.is_elected)
            self._position = seen.followed.position
        self._elected = seen.elected
        if seen.is_elected:
            await self._lead(seen)
        else:
            self._follow(seen)

    async def attempted(self, kind: ListingKind, error: str | None) -> None:
        """Tell the others that a refresh ended, after what it changed is stored."""
        with trio.move_on_after(STORED_S):
            await self._recorder.written()
        await self._publish(self._notice.after(kind.value, self._clock(), error))

    def close(self) -> None:
        """Let another process be elected, at once."""
        self.leads = False
        self._election.resign()

    # looks ---------------------------------------------------------------------------------

    def _seen(self, is_wishing: bool) -> _Observed:
        is_elected = self._election.stand()
        if is_wishing:
            self._election.wish()
        return _Observed(
            is_elected,
            self._election.elected(),
            self._election.notice(),
            self._election.wished_ns(),
            self._recorder.snapshot.follow(self._position),
        )

    async def _lead(self, seen: _Observed) -> None:
        now_s = self._clock()
        if not self.leads:
            self.leads = True
            self.was_elected.set()
            log.info("this process refreshes the catalogue for all of this account here")
            self._notice = seen.notice or self._notice
            self._sync.ask_from_now()
        elif self._granted_ns is not None and seen.wished_ns != self._granted_ns:
            self._sync.refresh_now()
        self._granted_ns = seen.wished_ns
        if self._sync.is_asking and now_s - self._alive_s > ALIVE_S:
            self._alive_s = now_s
            await self._publish(replace(self._notice, alive_s=now_s))

    def _follow(self, seen: _Observed) -> None:
        now_s = self._clock()
        if self.leads:
            self.leads, self._since_s = False, now_s
        notice = seen.notice
        if notice is not None and notice.tried_s != self._notice.tried_s:
            self._wished_s = None  # granted
        if notice is not None:
            self._notice = notice
            self._sync.heard(notice.refreshed_s, notice.errors, now_s)
        todo = act(
            notice,
            now_s=now_s,
            refresh_s=self._refresh_s,
            following_since_s=self._since_s,
            wished_s=self._wished_s,
            hung_s=self._hung_s,
        )
        if todo is Act.WISH:
            self._wished_s = now_s
            self.wish()
        if todo is Act.ASK and not self._asks_alone:
            self._asks_alone = True
            log.warning(
                "process %s, which refreshes the catalogue for all, does not answer: this one "
                "refreshes until it does", seen.elected,
            )  # fmt: skip
            self._sync.ask_from_now()
        elif todo is Act.REST and self._wished_s is None and self._asks_alone:
            self._asks_alone = False
            self._sync.let_others_ask()
        elif not self._asks_alone:
            self._sync.let_others_ask()

    def _go_alone(self, error: Exception) -> None:
        """The files cannot be used: this process refreshes for itself."""
        if not self._is_reported:
            self._is_reported = True
            # The snapshot's own warning tells the user: it lies in the same directory.
            log.info("the catalogue is refreshed by this process for itself: %s", error)
        self._sync.ask_from_now()

    async def _publish(self, notice: Notice) -> None:
        self._notice = notice
        try:
            await self._in_thread(lambda: self._election.publish(notice))
        except Exception as error:
            if not is_unusable(error):
                raise
            log.debug("the others are not told of a refresh: %s", error)

    async def _in_thread(self, job: Callable[[], object]):  # type: ignore[no-untyped-def]
        return await trio.to_thread.run_sync(job, limiter=self._limiter)
