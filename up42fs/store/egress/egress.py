"""Enforces the download budget, shared by all mounts of one account.

A request is paid for before it is sent (`http.race`), and bytes that did not arrive are given back.
A cancelled request stays paid, so the budget is never exceeded by more than the requests that were
running when it ran out.

Requests that no reader waits for (read-ahead, prefetches of unopened files, hedges) may not use up
the last tenth, so that guesses leave something to readers. Their refusal is silent: the bytes are
simply not prefetched, and the reader that needs them pays for them.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import trio

from up42fs import supervise
from up42fs.errors import QuotaExceeded
from up42fs.metrics import Metrics
from up42fs.store.egress.budget import Budget, EgressLimit

log = logging.getLogger(__name__)

#: Interval at which spent and returned bytes are written to the book, seconds.
SAVE_S = 10.0
#: The longest that writing to the book may take, seconds.
BOOK_TIMEOUT_S = 2.0
#: The share of the budget that is reserved for reads that wait.
RESERVED = 0.1
#: Larger than any book: 24 buckets, each a number of 20 digits at most.
_MOST_BYTES = 4096


class Book:
    """One account's book for one budget period: a small file shared by its mounts on this machine.

    It is opened for each addition. Blocking: call it in a worker thread. A count is added to what
    the file holds at that moment, under a lock, and written by one call in place: a mount that is
    killed leaves the file as it was before or after. An unreadable file is started anew, with a
    warning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, spent: Mapping[int, int], first: int = 0) -> dict[int, int]:
        """Add counts; return the totals of all mounts, without buckets before `first`.

        Raises OSError.
        """
        with self._locked() as descriptor:
            known = _parse(os.pread(descriptor, _MOST_BYTES, 0), self.path)
            total = Counter(known)
            total.update(spent)
            whole = {piece: count for piece, count in total.items() if piece >= first and count}
            if whole != known:
                text = json.dumps(whole).encode()
                os.pwrite(descriptor, text.ljust(_MOST_BYTES), 0)
            return whole

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


class Egress:
    """The budget of one account; with `book` None the count is forgotten at unmount."""

    def __init__(
        self,
        limit: EgressLimit,
        book: Book | None,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limit = limit
        self._book = book
        self._metrics = metrics
        self._clock = clock
        self._booked: dict[int, int] = {}  # spent by all mounts, as last read from the book
        self._unbooked: Counter[int] = Counter()  # spent by this mount since
        self._booking = trio.Lock()
        self._is_told = False

    async def pay(self, count: int, *, is_wanted: bool = True) -> None:
        """Spend `count` bytes; raises QuotaExceeded if nothing is left, or only the reserve."""
        if not self._allows(count, is_wanted):
            await self.share()
        if self._allows(count, is_wanted):
            self._spend(count)
            await self.share()
            if self._left() + count > 0:  # else another mount spent the rest meanwhile
                self._is_told = False
                return
            self._spend(-count)
        self._refuse(is_wanted)

    def give_back(self, count: int) -> None:
        """Return `count` bytes that were paid for but did not arrive."""
        self._spend(-count)

    def status(self) -> dict[str, object]:
        """The budget's entry in `status.json`."""
        now_s, budget = self._clock(), self._budget()
        left = budget.left(now_s)
        return {
            "limit_bytes": self.limit.bytes,
            "period_seconds": self.limit.period_s,
            "left_bytes": max(0, left),
            "free_again_at": None if left > 0 else _clock_time(budget.free_at_s(now_s)),
        }

    async def run(self) -> None:
        """Synchronise with the book every `SAVE_S` seconds, and once more when cancelled."""
        try:
            while True:
                await self.share()
                await trio.sleep(SAVE_S)
        finally:
            with trio.CancelScope(shield=True):
                await self.share()

    async def share(self) -> None:
        """Add this mount's bytes to the book and read the others'; warns once if that fails."""
        async with self._booking:
            book, spent = self._book, dict(self._unbooked)
            if book is None:
                return
            first = self._budget().first_piece(self._clock())
            why = f"no answer in {BOOK_TIMEOUT_S:.0f} s"
            with trio.move_on_after(BOOK_TIMEOUT_S):
                try:
                    self._booked = await trio.to_thread.run_sync(
                        book.add, spent, first, abandon_on_cancel=True
                    )
                except Exception as error:
                    if supervise.is_short_of_anything(error):
                        log.debug("what is fetched is written down later: %s", error)
                        return
                    if not isinstance(error, OSError):
                        raise
                    why = str(error)
                else:
                    self._unbooked.subtract(spent)
                    return
            self._book = None
            log.warning("what is fetched is counted by this mount alone: %s: %s", book.path, why)

    def _budget(self) -> Budget:
        spent = Counter(self._booked)
        spent.update(self._unbooked)
        return Budget(self.limit, spent)

    def _left(self) -> int:
        return self._budget().left(self._clock())

    def _allows(self, count: int, is_wanted: bool) -> bool:
        left = self._left()
        return left > 0 if is_wanted else left - count >= self.limit.bytes * RESERVED

    def _spend(self, count: int) -> None:
        self._unbooked[self._budget().piece(self._clock())] += count

    def _refuse(self, is_wanted: bool) -> NoReturn:
        error = QuotaExceeded(self._words(self._budget(), self._clock()))
        if not is_wanted:
            self._metrics.count("store.egress_spared")
            raise error
        self._metrics.count("store.egress_refused")
        if not self._is_told:
            self._is_told = True
            log.warning("%s", error)
        raise error

    def _words(self, budget: Budget, now_s: float) -> str:
        hours = self.limit.period_s / 3600
        again = _clock_time(budget.free_at_s(now_s))
        return (
            f"the budget max_egress, {self.limit.bytes:,} bytes in {hours:g} hours, is "
            f"used up; what is not cached can be read again at {again}, or with a larger max_egress"
        )


def _clock_time(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s).astimezone().strftime("%Y-%m-%d %H:%M")


def _parse(text: bytes, path: Path) -> dict[int, int]:
    if not text.strip():
        return {}
    try:
        return {int(piece): int(count) for piece, count in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s): the budget begins anew", path, error)
        return {}
