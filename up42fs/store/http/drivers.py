"""The pool of network threads: which one takes a request, and what replaces a failed one.

Knows how busy each thread is; nothing of transfers, requests or links.

Theory. A request goes to the first of the least busy threads, so that sequential requests reuse one
connection. A failed thread is replaced. A stuck thread gets nothing new, and if all are stuck
another one is started, up to `MOST`: stuck threads cannot be ended, only waited for. If no thread
can be started, the running ones take the request; if none is running, the request is lost, and its
reader may retry.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from up42fs.store.http.attempt import Attempt
from up42fs.store.http.driver import Driver

log = logging.getLogger(__name__)

#: Maximum number of threads, stuck ones included.
MOST = 8


class Drivers:
    """The threads of one transport. Call its methods from one thread, usually trio's."""

    def __init__(self, count: int, make: Callable[[], Driver]) -> None:
        self._make = make
        self._is_closed = False
        self._all = [make() for _ in range(count)]

    def __len__(self) -> int:
        """Number of threads."""
        return len(self._all)

    def submit(self, attempt: Attempt) -> Driver | None:
        """Start `attempt` and return its driver; end it and return None if none takes it."""
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
        """End all running requests as broken, and reuse none of their connections."""
        for driver in self._all:
            driver.reset()

    def close(self) -> None:
        """End all running requests as broken, for good."""
        self._is_closed = True
        for driver in self._all:
            driver.close()
