"""Keeps what is fetched from storage within a budget, across mounts of one account.

Stands where a transport stands, before the one that sends. A request is paid for before it is sent,
and what did not come is given back: a request that was cancelled stays paid, so the budget is never
exceeded by more than the requests that were under way when it ran out. Knows nothing of readers.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import trio

from up42fs.core.budget import Budget, Limit
from up42fs.errors import QuotaExceeded
from up42fs.metrics import Metrics
from up42fs.store.ports import Outcome, RangeRequest, Sink, Transport

log = logging.getLogger(__name__)

#: How often what was spent is written down, seconds.
SAVE_S = 10.0


class Egress:
    """What one account may fetch and has fetched; `path` None: forgotten at unmount."""

    def __init__(
        self,
        limit: Limit,
        path: Path | None,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._metrics = metrics
        self._clock = clock
        self._budget = Budget(limit, _load(path, limit))
        self._saved = self._budget.spent()
        self._is_told = False

    def pay(self, count: int) -> None:
        """Spend `count` bytes; raises QuotaExceeded where nothing is left."""
        now_s = self._clock()
        if self._budget.left(now_s) > 0:
            self._is_told = False
            self._budget.spend(now_s, count)
            return
        self._metrics.count("store.egress_refused")
        error = QuotaExceeded(self._words(now_s))
        if not self._is_told:
            self._is_told = True
            log.warning("%s", error)
        raise error

    def give_back(self, count: int) -> None:
        """`count` bytes that were paid did not come."""
        self._budget.spend(self._clock(), -count)

    def status(self) -> dict[str, object]:
        """What `status.json` says of it."""
        now_s = self._clock()
        left = self._budget.left(now_s)
        return {
            "limit_bytes": self._budget.limit.bytes,
            "period_seconds": self._budget.limit.period_s,
            "left_bytes": max(0, left),
            "free_again_at": None if left > 0 else _clock_time(self._budget.free_at_s(now_s)),
        }

    async def run(self) -> None:
        """Write down what was spent now and then, and at the end."""
        try:
            while True:
                await trio.sleep(SAVE_S)
                await trio.to_thread.run_sync(self.save)
        finally:
            self.save()

    def save(self) -> None:
        """Write down what was spent; what cannot be written is told once and forgotten."""
        spent = self._budget.spent()
        if self._path is None or spent == self._saved:
            return
        document = {"period_seconds": self._budget.limit.period_s, "spent": spent}
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_text(json.dumps(document), encoding="utf-8")
            fresh.replace(self._path)
            self._saved = spent
        except OSError as error:
            log.warning("what was fetched cannot be noted in %s: %s", self._path, error)
            self._path = None

    def _words(self, now_s: float) -> str:
        hours = self._budget.limit.period_s / 3600
        again = _clock_time(self._budget.free_at_s(now_s))
        return (
            f"the budget max_egress, {self._budget.limit.bytes:,} bytes in {hours:g} hours, is "
            f"used up; what is not cached can be read again at {again}, or with a larger max_egress"
        )


class BudgetedTransport:
    """A transport that asks an `Egress` first."""

    def __init__(self, transport: Transport, egress: Egress) -> None:
        self._transport = transport
        self._egress = egress

    async def fetch(self, request: RangeRequest, sink: Sink) -> Outcome:
        """Send `request`; raises QuotaExceeded instead where nothing may be fetched."""
        paid = len(request.span)
        self._egress.pay(paid)
        outcome = await self._transport.fetch(request, sink)
        self._egress.give_back(paid - outcome.body_bytes)
        return outcome

    def reset(self) -> None:
        """As the transport does."""
        self._transport.reset()

    def close(self) -> None:
        """As the transport does."""
        self._transport.close()


def _load(path: Path | None, limit: Limit) -> dict[int, int]:
    """What was spent before; nothing where it cannot be read, or was counted by other periods."""
    if path is None:
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["period_seconds"] != limit.period_s:
            return {}
        return {int(bucket): int(count) for bucket, count in document["spent"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s): the budget begins anew", path, error)
        return {}


def _clock_time(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s).astimezone().strftime("%Y-%m-%d %H:%M")
