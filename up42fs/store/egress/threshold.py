"""Warns when an account fetches more than people usually mean to. Refuses nothing.

Counts what the store's metrics say was fetched, so that no request has to know of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from up42fs import supervise
from up42fs.logs import FOR_DESKTOP
from up42fs.metrics import Metrics
from up42fs.store.egress.spending import Spending

log = logging.getLogger(__name__)

#: Interval between two looks at what was fetched, seconds.
LOOK_S = 5.0
#: Once warned, the next warning comes after the count was below this share of the threshold.
_OVER = 0.8


class Threshold:
    """`name_reader` returns the program that read most, or None if nothing was read."""

    def __init__(
        self, spending: Spending, metrics: Metrics, name_reader: Callable[[], str | None]
    ) -> None:
        self._spending = spending
        self._metrics = metrics
        self._name_reader = name_reader
        self._counted: int | None = None
        self._is_told = False

    async def run(self) -> None:
        """Look every `LOOK_S` seconds, and once more when cancelled."""
        await supervise.repeated(self.look, LOOK_S)

    async def look(self) -> None:
        """Count what was fetched since the last look; warns once if that passes the threshold."""
        fetched = self._metrics["store.bytes_fetched"]
        if fetched == self._counted:
            return  # an idle mount leaves the disk alone
        self._spending.spend(fetched - (self._counted or 0))
        self._counted = fetched
        await self._spending.share()
        limit, spent = self._spending.limit, self._spent()
        if spent < limit.bytes * _OVER:
            self._is_told = False
        elif spent >= limit.bytes and not self._is_told:
            self._is_told = True
            log.warning("%s", self._words(spent), extra=FOR_DESKTOP)

    def status(self) -> dict[str, object]:
        """The threshold's entry in `status.json`, with what was fetched since the last look."""
        since = self._metrics["store.bytes_fetched"] - (self._counted or 0)
        return {
            "bytes": self._spent() + since,
            "warn_bytes": self._spending.limit.bytes,
            "period_seconds": self._spending.limit.period_s,
            "mostly_by": self._name_reader(),
        }

    def _spent(self) -> int:
        return self._spending.limit.bytes - self._spending.left()

    def _words(self, spent: int) -> str:
        reader = self._name_reader()
        mostly = f", most of them read by {reader}" if reader else ""
        hours = self._spending.limit.period_s / 3600
        return (
            f"{spent:,} bytes were fetched from storage in {hours:g} hours{mostly}: if that is not "
            "meant, leave the mount out there, or limit it with max_egress; warn_egress sets when "
            "you are told"
        )
