"""The end of a mount's process has a deadline, whatever hangs: a thread, a disk, the event loop.

Each step of an end has a deadline of its own, but a blocking call in a worker thread cannot be
cancelled, and trio waits for it. So a thread watches the end as a whole. When its time is over it
says in the log what is still under way, and ends the process. Transactions and renames keep what is
to be kept, so a process that leaves at any moment harms nothing.

Behind it stands a timer of the C library, which needs no lock of the interpreter: for a call that
hangs with that lock held, and for the interpreter's own end. A mount that ended well skips the
latter (`leave`).
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from up42fs.mount import signals

log = logging.getLogger(__name__)

#: How long all of a mount's end may take, seconds. The parts: 2 s for handlers in flight, 3 s for
#: an edit under way, 5 s for what is written down.
END_S = 12.0
#: The timer comes so much later.
_TIMER_S = 3.0


class Ending:
    """Ends this process with status 1 where the end of its mount takes longer than `within_s`.

    `take_away` is called just before that: it makes sure that nothing is left mounted.
    """

    def __init__(
        self,
        take_away: Callable[[], None],
        within_s: float | None = None,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._take_away = take_away
        self._within_s = END_S if within_s is None else within_s
        self._leave = leave
        self._is_over = threading.Event()
        self._has_begun = False
        self._tasks: Callable[[], list[str]] = list

    def begin(self) -> None:
        """The mount ends from now on; called on the loop, once or more often."""
        if self._has_begun:
            return
        self._has_begun = True
        self._tasks = signals.task_lister()
        with suppress(RuntimeError, OSError, ValueError):  # no thread, no stderr: the other does it
            faulthandler.dump_traceback_later(self._within_s + _TIMER_S, exit=True)
        with suppress(RuntimeError, MemoryError):
            threading.Thread(target=self._watch, name="up42fs-end", daemon=True).start()

    def over(self) -> None:
        """All is done but the interpreter's own end, for which the timer goes on."""
        self._is_over.set()

    def _watch(self) -> None:
        if self._is_over.wait(self._within_s):
            return
        try:
            self._tell()
            self._take_away()
        finally:
            self._leave(1)

    def _tell(self) -> None:
        threads = ", ".join(sorted(thread.name for thread in threading.enumerate()))
        log.error(
            "the end of this mount takes more than %.0f s: the process leaves now. Threads: %s. "
            "Tasks still under way:\n%s",
            self._within_s, threads, "\n".join(self._tasks()),
        )  # fmt: skip
        with suppress(RuntimeError, OSError, ValueError):
            faulthandler.dump_traceback(all_threads=True)


def leave(status: int) -> NoReturn:
    """End this process now, without the interpreter's own end.

    All is written by then. The interpreter would free every object of a large catalogue one by one,
    which takes seconds on a busy machine, and wait for threads of libraries, which may hang.
    """
    with suppress(Exception):
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status)
