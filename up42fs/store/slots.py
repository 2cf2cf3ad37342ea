"""Which job runs next: a bounded number at once, demanded ones before read-ahead.

Knows nothing of what a job does. Read-ahead may not fill every slot, so that a demand finds one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

Job = TypeVar("Job")


class Slots(Generic[Job]):
    """Runs `work(job)` for submitted jobs, at most `total` at once, `ahead` of them not urgent."""

    def __init__(
        self,
        nursery: trio.Nursery,
        work: Callable[[Job], Awaitable[None]],
        *,
        total: int,
        ahead: int,
    ) -> None:
        self._nursery = nursery
        self._work = work
        self._total = total
        self._ahead = ahead
        self._urgent: dict[Job, None] = {}  # in order of arrival
        self._later: dict[Job, None] = {}
        self._running: dict[Job, bool] = {}  # job -> urgent

    def submit(self, job: Job, *, urgent: bool) -> None:
        """Queue a job, or begin it now."""
        (self._urgent if urgent else self._later)[job] = None
        self._fill()

    def promote(self, job: Job) -> None:
        """A reader waits for it now."""
        if job in self._later:
            del self._later[job]
            self.submit(job, urgent=True)
        elif job in self._running:
            self._running[job] = True
            self._fill()

    def withdraw(self, job: Job) -> bool:
        """Take a job back that has not begun; whether it had not."""
        for queue in (self._urgent, self._later):
            if job in queue:
                del queue[job]
                return True
        return False

    @property
    def running(self) -> int:
        """Jobs under way."""
        return len(self._running)

    def _fill(self) -> None:
        while len(self._running) < self._total:
            if self._urgent:
                job, urgent = next(iter(self._urgent)), True
                del self._urgent[job]
            elif self._later and list(self._running.values()).count(False) < self._ahead:
                job, urgent = next(iter(self._later)), False
                del self._later[job]
            else:
                return
            self._running[job] = urgent
            self._nursery.start_soon(self._run, job)

    async def _run(self, job: Job) -> None:
        try:
            await self._work(job)
        finally:
            del self._running[job]
            self._fill()
