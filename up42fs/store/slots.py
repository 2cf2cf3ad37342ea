"""Schedules jobs: a bounded number at once, demanded ones before read-ahead.

Each job belongs to a *group*, its object. Read-ahead may not fill every slot, so that a demand
finds a free one. Among waiting jobs of equal urgency, the job whose group has the fewest running
jobs goes first, so a busy object gets no larger share than a quiet one. No group may take all
slots: an object whose answers stall delays only its own jobs.
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

    `group` maps a job to its group; by default each job is a group of its own.
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
        """Queue a job; it starts now if a slot is free."""
        (self._urgent if urgent else self._later)[job] = None
        self._fill()

    def promote(self, job: Job) -> None:
        """Make a job urgent: a reader waits for it now."""
        if job in self._later:
            del self._later[job]
            self.submit(job, urgent=True)
        elif job in self._running:
            self._running[job] = True
            self._fill()

    def go_on(self) -> None:
        """Start what is queued although nothing runs: there was no memory for a task before."""
        if not self._running:
            self._fill()

    def withdraw(self, job: Job) -> bool:
        """Remove a job from the queue; False if it has begun already."""
        for queue in (self._urgent, self._later):
            if job in queue:
                del queue[job]
                return True
        return False

    def is_queued(self, job: Job) -> bool:
        """Whether the job has not begun."""
        return job in self._later or job in self._urgent

    def is_running(self, job: Job) -> bool:
        """Whether the job has begun, and has not ended."""
        return job in self._running

    @property
    def running(self) -> int:
        """Number of running jobs."""
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
            # Start it before dequeuing it: if there is no memory for a task, the job stays in its
            # queue.
            supervise.start(self._nursery, self._run, job)
            del (self._urgent if urgent else self._later)[job]
            self._running[job] = urgent

    def _next(self, queue: dict[Job, None]) -> Job | None:
        """The first job of the least busy group; None if that group has its maximum."""
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
