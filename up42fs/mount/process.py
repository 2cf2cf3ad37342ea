"""The process of a mount in its system: memory returned, memory kept private, sleep noticed."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
from collections.abc import Callable
from contextlib import suppress

import trio

from up42fs import supervise
from up42fs.deadlines import boottime_s

log = logging.getLogger(__name__)

#: Large directories are many objects and little garbage; a collection that examines them takes
#: longer than listing them.
GC_THRESHOLD = (50_000, 20, 100)
#: From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_WANTED = ((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, 512 << 10), (_M_TRIM_THRESHOLD, 4 << 20))
_PR_SET_DUMPABLE = 4
#: Read at once of the socket by which threads wake trio; it rarely holds more than one byte.
_WAKEUP_BYTES = 4096
#: A wait of TICK_S that took this much longer means sleep, and not only a busy machine, seconds.
SLEPT_S = 10.0
TICK_S = 2.0
#: How often spare memory is looked after, seconds.
SPARE_PAUSE_S = 10.0


def return_memory() -> bool:
    """Make free() return memory; call it before threads start. Return whether it was possible.

    By default glibc keeps an arena for each thread and lets its mmap threshold grow with the sizes
    of freed blocks, so that gaps stay in the heap for good. Measured by contrib/bench/memory.py:
    25 MB less after the first minute.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return all(mallopt(option, value) for option, value in _WANTED)


def seclude() -> None:
    """Keep the user's other programs and core files from this process's memory, until it executes.

    The memory holds the password, the token and every link. `RLIMIT_CORE` alone is not enough: the
    kernel ignores it if a program receives core files (systemd-coredump). A process that is not
    dumpable leaves no core file anywhere, and only root can read its memory and environment
    (prctl(2), proc(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        log.warning("programs of this user may read the memory of this one: %s", reason)


def wake_without_memory() -> bool:
    """Let other threads wake this trio run without memory to spare. Return whether it was possible.

    For each wake-up trio reads its socket into 64 KiB that it allocates then. A MemoryError there
    ends the whole run, and with it the mount. Nothing public of trio changes that, so this replaces
    one method of one object; with another trio, which lacks it, all stays as it is.
    """
    token = trio.lowlevel.current_trio_token()
    try:
        wakeup = token._reentry_queue.wakeup
        receive, _ = wakeup.wakeup_sock.recv_into, wakeup.drain
    except AttributeError:
        log.info("this version of trio may end a mount for which no memory is left")
        return False
    scratch = bytearray(_WAKEUP_BYTES)

    def drain() -> None:
        # Without memory for the exception the socket stays readable, and is read once more.
        with suppress(BlockingIOError, MemoryError):
            while receive(scratch):
                pass

    wakeup.drain = drain  # type: ignore[method-assign]
    return True


async def keep_spare() -> None:
    """Keep memory for small objects, again some time after it was needed."""
    while True:
        supervise.SPARE.fill()
        await trio.sleep(SPARE_PAUSE_S)


async def watch_sleep(on_wake: Callable[[], None], now_s: Callable[[], float] = boottime_s) -> None:
    """Call `on_wake` after each sleep of the machine, by a clock that advances meanwhile."""
    while True:
        before_s = now_s()
        await trio.sleep(TICK_S)
        slept_s = now_s() - before_s - TICK_S
        if slept_s > SLEPT_S:
            log.info("slept for %.0f s: dropping links and connections, refreshing", slept_s)
            on_wake()
