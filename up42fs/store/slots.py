"""Which job runs next: a bounded number at once, demanded ones before read-ahead.

Knows nothing of what a job does, only to which *group* (object) it belongs. Read-ahead may not fill
every slot, so that a demand finds one. Of jobs that wait alike, the one goes whose group has the
fewest under way: who asks for much gets no more than who asks for little. No group may have all
slots: an object whose answers stall keeps its jobs waiting for its own, not everybody's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import trio

from up42fs import supervise

Job = TypeVar("Job")


class Slots(Generic[Job]):
    """Runs `work(job)` for submitted jobs, at most `total` at once, `ahead` of them not urgent.

    `group` tells which jobs share a fate; by itself each is on its own.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        work: Callable[[Job], Awaitable[None]],
        *,
        total: int,
        ahead: int,
        group: Callable[[Job], Hashable] = lambda job: job,
    ) -> None:
        self._nursery = nursery
        self._work = work
        self._total = total
        self._ahead = ahead
        self._group = group
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

    def is_queued(self, job: Job) -> bool:
        """Whether the job has not begun."""
        return job in self._later or job in self._urgent

    @property
    def running(self) -> int:
        """Jobs under way."""
        return len(self._running)

    def _fill(self) -> None:
        while len(self._running) < self._total:
            urgent = True
            job = self._next(self._urgent)
            if job is None and list(self._running.values()).count(False) < self._ahead:
                urgent = False
                job = self._next(self._later)
            if job is None:
                return
            # Started first: where there is no memory for a task the job stays in its queue.
            supervise.start(self._nursery, self._run, job)
            del (self._urgent if urgent else self._later)[job]
            self._running[job] = urgent

    def _next(self, queue: dict[Job, None]) -> Job | None:
        """The first of the queue whose group has the fewest jobs under way, if not all it may."""
        if not queue:
            return None
        under_way = Counter(map(self._group, self._running))
        job = min(queue, key=lambda job: under_way[self._group(job)])
        most = max(1, self._total - 1)
        return job if under_way[self._group(job)] < most else None

    async def _run(self, job: Job) -> None:
        try:
            await self._work(job)
        finally:
            del self._running[job]
            self._fill()
