"""A part that lags is asked for twice; whichever comes first, the bytes are one version's."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from store_script import Bench, Fault, bench, pattern

from up42fs.errors import QuotaExceeded, VersionChanged
from up42fs.net.hedging import FEWEST
from up42fs.net.retry import FailureKind
from up42fs.ranges import RangeSet
from up42fs.store.http.answer import Delivery, Outcome, RangeRequest
from up42fs.store.members.extent import StoredObject

KIB, MIB = 1 << 10, 1 << 20
STEP = 4 * MIB  # so far apart that each read is a jump, and a request
DATA = pattern(MIB) * 128
Clock = trio.testing.MockClock


async def jumps(b: Bench, first: int, count: int) -> float:
    """Read in `count` places, each a request; how long the slowest took."""
    handle = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    slowest_s = 0.0
    for number in range(first, first + count):
        began_s = trio.current_time()
        offset = number * STEP + MIB
        assert await handle.read(offset, 64 * KIB) == DATA[offset : offset + 64 * KIB]
        slowest_s = max(slowest_s, trio.current_time() - began_s)
    await trio.sleep(1.0)  # the rest of the last part
    return slowest_s


def late(*numbers: int, **fault: float | int) -> dict[int, Fault]:
    return {number: Fault(**fault) for number in numbers}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fault", [{"wait_s": 25.0}, {"hang_s": 25.0}, {"hang_s": 25.0, "hang_at": 48 * KIB}]
)
async def test_a_request_that_lags_is_raced_and_beaten(
    nursery: trio.Nursery, autojump_clock: Clock, fault: dict[str, float]
) -> None:
    b = bench(nursery, {"a": DATA}, late(12, **fault).get)
    assert await jumps(b, 0, 20) < 2.0
    assert b.metrics["store.hedges"] == 1
    assert b.metrics["store.hedges_won"] == 1
    assert b.metrics["store.requests"] == len(b.script.requests) == 21
    assert b.script.active == 0, "the loser is ended"
    assert b.script.requests[13][2] == '"a-1"', "it asks for the same version"
    assert b.script.requests[13][1].stop == b.script.requests[12][1].stop
    assert b.metrics["store.retries"] == 0


async def test_what_the_first_brought_is_not_asked_again(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA}, late(12, hang_s=25.0, hang_at=48 * KIB).get)
    await jumps(b, 0, 13)
    assert b.script.requests[13][1].start == b.script.requests[12][1].start + 48 * KIB


async def test_a_first_that_wakes_up_in_time_wins(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    faults = late(12, wait_s=1.5) | late(13, wait_s=20.0)
    b = bench(nursery, {"a": DATA}, faults.get)
    assert await jumps(b, 0, 20) < 2.0
    assert b.metrics["store.hedges"] == 1
    assert b.metrics["store.hedges_won"] == 0
    assert b.script.active == 0


@pytest.mark.parametrize(
    ("faults", "is_twice"),
    [
        (late(12, hang_s=25.0, hang_at=48 * KIB), False),
        (late(12, wait_s=1.1) | late(13, wait_s=0.2), True),  # both go on, and the first wins
        (late(12, hang_s=1.5, hang_at=16 * KIB) | late(13, wait_s=0.35), True),
    ],
)
async def test_what_came_twice_is_counted(
    nursery: trio.Nursery, autojump_clock: Clock, faults: dict[int, Fault], is_twice: bool
) -> None:
    b = bench(nursery, {"a": DATA}, faults.get)
    b.script.chunk_s = 0.05
    await jumps(b, 0, 14)
    assert b.metrics["store.hedges"] == 1
    came_once = RangeSet(span for _, span, _ in b.script.requests).total
    assert b.metrics["store.bytes_fetched"] - b.metrics["store.hedges_bytes"] == came_once
    assert (b.metrics["store.hedges_bytes"] > 0) is is_twice


@pytest.mark.parametrize("status", [403, 412, 503])
async def test_a_second_that_is_refused_harms_nobody(
    nursery: trio.Nursery, autojump_clock: Clock, status: int
) -> None:
    faults = late(12, wait_s=3.0) | late(13, status=status)
    b = bench(nursery, {"a": DATA}, faults.get)
    assert 2.5 < await jumps(b, 0, 20) < 4.0
    assert b.script.signs == ["a"]
    assert b.metrics["store.hedges_won"] == 0


async def test_a_second_that_must_not_be_sent_harms_nobody(
    nursery: trio.Nursery, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(nursery, {"a": DATA}, late(12, wait_s=3.0).get)
    fetch = b.script.fetch

    async def within_budget(request: RangeRequest, sink: Delivery) -> Outcome:
        if b.metrics["store.hedges"]:
            raise QuotaExceeded("enough for today")
        return await fetch(request, sink)

    monkeypatch.setattr(b.script, "fetch", within_budget)
    assert 2.5 < await jumps(b, 0, 13) < 4.0


async def test_a_first_that_breaks_leaves_it_to_the_second(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    faults = {12: Fault(wait_s=2.0, kind=FailureKind.BROKEN), 13: Fault(wait_s=2.0)}
    b = bench(nursery, {"a": DATA}, faults.get)
    assert await jumps(b, 0, 20) < 4.0
    assert len(b.script.requests) == 21, "no third"


async def test_nothing_is_raced_before_the_host_is_known_or_without_a_version(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA}, late(FEWEST - 2, wait_s=9.0).get)
    assert await jumps(b, 0, FEWEST) > 8.0
    assert b.metrics["store.hedges"] == 0
    weak = bench(nursery, {"a": DATA}, late(12, wait_s=9.0).get)
    weak.script.etags["a"] = 'W/"a"'
    assert await jumps(weak, 0, 14) > 8.0
    assert weak.metrics["store.hedges"] == 0


async def test_a_host_that_became_slow_is_not_asked_twice_for_everything(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA}, lambda n: Fault(wait_s=3.0) if n >= 10 else None)
    await jumps(b, 0, 30)
    assert 1 <= b.metrics["store.hedges"] <= 4


async def test_read_ahead_that_nobody_waits_for_is_not_raced(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA}, lambda n: Fault(wait_s=5.0) if n >= 12 else None)
    await jumps(b, 0, 10)
    handle = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    for offset in range(0, MIB, 128 * KIB):
        await handle.read(offset, 128 * KIB)
    assert len(b.script.requests) > 12, "it reads ahead"
    await trio.sleep(4.0)
    assert b.metrics["store.hedges"] == 0


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.booleans())
def test_whoever_wins_the_bytes_are_right(seed: int, changes: bool) -> None:
    chance = random.Random(seed)

    def faults(number: int) -> Fault | None:
        if number < 10 or chance.random() < 0.6:
            return None
        return Fault(
            wait_s=chance.choice([0.0, 1.2, 12.0]),
            hang_s=chance.choice([0.0, 1.2, 12.0]),
            hang_at=chance.randrange(128 * KIB),
        )

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            b = bench(nursery, {"a": DATA}, faults)
            await jumps(b, 0, 10)
            new = DATA[::-1]
            if changes:
                b.script.objects["a"], b.script.etags["a"] = new, '"a-2"'
            handle = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
            for _ in range(15):
                offset = chance.randrange(len(DATA) - MIB)
                try:
                    got = await handle.read(offset, 100 * KIB)
                except VersionChanged:
                    assert changes
                    break
                assert got == DATA[offset : offset + 100 * KIB]
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
