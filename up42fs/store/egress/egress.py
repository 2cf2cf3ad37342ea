"""Enforces the download budget, shared by all mounts of one account.

A request is paid for before it is sent (`http.race`), and bytes that did not arrive are given back.
A cancelled request stays paid, so the budget is never exceeded by more than the requests that were
running when it ran out.

Requests that no reader waits for (read-ahead, prefetches of unopened files, hedges) may not use up
the last tenth, so that guesses leave something to readers. Their refusal is silent: the bytes are
simply not prefetched, and the reader that needs them pays for them.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import NoReturn

from up42fs import supervise
from up42fs.errors import QuotaExceeded
from up42fs.logs import FOR_DESKTOP
from up42fs.metrics import Metrics
from up42fs.store.egress.spending import SAVE_S, Spending

log = logging.getLogger(__name__)

#: The share of the budget that is reserved for reads that wait.
RESERVED = 0.1
#: From this share of the budget on, users are warned that it will be used up.
NEARLY = 0.8


class Egress:
    """The budget of one account."""

    def __init__(self, spending: Spending, metrics: Metrics) -> None:
        self.limit = spending.limit
        self._spending = spending
        self._metrics = metrics
        self._is_told = False
        self._is_told_early = False

    async def pay(self, count: int, *, is_wanted: bool = True) -> None:
        """Spend `count` bytes; raises QuotaExceeded if nothing is left, or only the reserve."""
        if not self._allows(count, is_wanted):
            await self.share()
        if self._allows(count, is_wanted):
            self._spending.spend(count)
            await self.share()
            if self._spending.left() + count > 0:  # else another mount spent the rest meanwhile
                self._is_told = False
                return
            self._spending.spend(-count)
        self._refuse(is_wanted)

    def give_back(self, count: int) -> None:
        """Return `count` bytes that were paid for but did not arrive."""
        self._spending.spend(-count)

    def status(self) -> dict[str, object]:
        """The budget's entry in `status.json`."""
        now_s, budget = self._spending.now_s(), self._spending.budget()
        left = budget.left(now_s)
        return {
            "limit_bytes": self.limit.bytes,
            "period_seconds": self.limit.period_s,
            "left_bytes": max(0, left),
            "free_again_at": None if left > 0 else _clock_time(budget.free_at_s(now_s)),
        }

    async def run(self) -> None:
        """Synchronise with the book every `SAVE_S` seconds, and once more when cancelled."""
        await supervise.repeated(self.share, SAVE_S)

    async def share(self) -> None:
        """Synchronise with the book; says once when the budget is nearly used up."""
        await self._spending.share()
        used = 1 - self._spending.left() / self.limit.bytes
        if used < NEARLY:
            self._is_told_early = False
        elif not self._is_told_early:
            self._is_told_early = True
            said = "%.0f %% of the budget max_egress, %s bytes in %g hours, are spent"
            facts = (100 * used, f"{self.limit.bytes:,}", self.limit.period_s / 3600)
            log.warning(said, *facts, extra=FOR_DESKTOP)

    def _allows(self, count: int, is_wanted: bool) -> bool:
        left = self._spending.left()
        return left > 0 if is_wanted else left - count >= self.limit.bytes * RESERVED

    def _refuse(self, is_wanted: bool) -> NoReturn:
        error = QuotaExceeded(self._words())
        if not is_wanted:
            self._metrics.count("store.egress_spared")
            raise error
        self._metrics.count("store.egress_refused")
        if not self._is_told:
            self._is_told = True
            log.warning("%s", error, extra=FOR_DESKTOP)
        raise error

    def _words(self) -> str:
        hours = self.limit.period_s / 3600
        again = _clock_time(self._spending.budget().free_at_s(self._spending.now_s()))
        return (
            f"the budget max_egress, {self.limit.bytes:,} bytes in {hours:g} hours, is "
            f"used up; what is not cached can be read again at {again}, or with a larger max_egress"
        )


def _clock_time(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s).astimezone().strftime("%Y-%m-%d %H:%M")
