"""Detects that the machine slept, or that the process was stopped for long.

Knows two clocks; nothing of the reaction to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from up42fs.deadlines import boottime_s

log = logging.getLogger(__name__)

#: A wait of TICK_S that took this much longer means sleep, and not only a busy machine, seconds.
SLEPT_S = 10.0
TICK_S = 2.0


async def watch(on_wake: Callable[[], None], now_s: Callable[[], float] = boottime_s) -> None:
    """Call `on_wake` after each sleep, for ever. `now_s` must advance while the machine sleeps."""
    while True:
        before_s = now_s()
        await trio.sleep(TICK_S)
        slept_s = now_s() - before_s - TICK_S
        if slept_s > SLEPT_S:
            log.info("slept for %.0f s: dropping links and connections, refreshing", slept_s)
            on_wake()
