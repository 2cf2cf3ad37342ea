"""The threads that move bytes: which one takes a request, and what replaces one that failed.

Knows how busy each thread is; nothing of transfers, requests or links.

Theory. A request goes to the first of the least busy threads, so that requests one after another
keep to one connection. A thread that failed is replaced. One that is stuck gets nothing new, and
where all are stuck another one is started, up to `MOST`: stuck threads cannot be ended, only
waited for. Where no thread can be started, those that run take the request; where none runs, the
request is lost, and its reader may try again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from up42fs.store.http.attempt import Attempt
from up42fs.store.http.driver import Driver

log = logging.getLogger(__name__)

#: Threads at most, stuck ones included.
MOST = 8


class Drivers:
    """The threads of one transport. Methods are the trio thread's, or any one thread's."""

    def __init__(self, count: int, make: Callable[[], Driver]) -> None:
        self._make = make
        self._is_closed = False
        self._all = [make() for _ in range(count)]

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all)

    def submit(self, attempt: Attempt) -> Driver | None:
        """Begin `attempt`, or end it as lost, or as broken after `close`. Returns its driver."""
        if self._is_closed:
            attempt.refuse()
            return None
        self._all = [self._make() if driver.is_over else driver for driver in self._all]
        usable = [driver for driver in self._all if not driver.is_stuck]
        if not usable and len(self._all) < MOST:
            usable = [self._make()]
            self._all += usable
        for driver in sorted(usable or self._all, key=lambda one: one.busy):
            try:
                if driver.submit(attempt):
                    return driver
            except (RuntimeError, MemoryError, OSError) as error:
                log.warning("no thread can be started to move bytes: %s", error)
        attempt.lose()
        return None

    def reset(self) -> None:
        """End all that runs as broken, and use none of its connections again."""
        for driver in self._all:
            driver.reset()

    def close(self) -> None:
        """End all that runs as broken, for good."""
        self._is_closed = True
        for driver in self._all:
            driver.close()
