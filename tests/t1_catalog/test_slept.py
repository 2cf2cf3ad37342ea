"""A machine that slept is noticed, a busy one is not taken for it; clocks are moved."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from up42fs.mount.process import SLEPT_S, TICK_S, watch_sleep


@pytest.mark.claim("S79")
async def test_each_sleep_is_told_once(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    asleep_s, woke = 0.0, []

    def boottime_s() -> float:
        return trio.current_time() + asleep_s

    nursery.start_soon(watch_sleep, lambda: woke.append(trio.current_time()), boottime_s)
    await trio.sleep(10 * TICK_S)
    assert woke == []
    await trio.sleep(TICK_S / 2)
    asleep_s += SLEPT_S - 1  # a busy machine
    await trio.sleep(2 * TICK_S)
    assert woke == []
    asleep_s += 3600
    await trio.sleep(TICK_S)
    assert len(woke) == 1
    await trio.sleep(100)
    assert len(woke) == 1
    asleep_s += SLEPT_S + 1
    await trio.sleep(TICK_S)
    assert len(woke) == 2
