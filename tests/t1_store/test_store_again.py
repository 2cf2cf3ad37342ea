"""Reads of bytes that were read before: at once, and as right as others."""

from __future__ import annotations

import random

import pytest
import trio
from store_script import Bench, bench, pattern

from up42fs.errors import BadHandle
from up42fs.store.handle import OpenFile
from up42fs.store.members.extent import StoredObject

KIB, MIB = 1 << 10, 1 << 20
DATA = pattern(4 * MIB + 4321)
Clock = trio.testing.MockClock


def opened(b: Bench) -> OpenFile:
    return b.files.open(StoredObject("a", len(DATA), "scene.bin"))


@pytest.mark.parametrize("seed", range(5))
async def test_right_bytes_however_reads_come(
    nursery: trio.Nursery, autojump_clock: Clock, seed: int
) -> None:
    """Odd offsets and sizes, small memory, two handles: it never differs from `read`."""
    b, dice, hits = bench(nursery, {"a": DATA}, memory_bytes=4 * MIB), random.Random(seed), 0
    handles = [opened(b), opened(b)]
    places = [dice.randrange(len(DATA)) for _ in range(12)]
    for _ in range(600):
        handle, offset = dice.choice(handles), dice.choice(places) + dice.choice((0, 1, 4096))
        size = dice.choice((1, 100, 4096, 70_000))
        again = handle.read_again(offset, size)
        hits += again is not None
        data = await handle.read(offset, size) if again is None else again
        assert data == DATA[offset : offset + size]
    assert hits > 100
    assert b.metrics["store.hits"] >= hits
    assert b.metrics["store.reads"] == b.metrics["store.hits"] + b.metrics["store.waits"]


async def test_only_what_was_read_before(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    b = bench(nursery, {"a": DATA})
    handle = opened(b)
    assert handle.read_again(MIB, 4 * KIB) is None
    await handle.read(MIB, 4 * KIB)
    again = handle.read_again(MIB, 4 * KIB)
    assert again is not None
    assert bytes(again) == DATA[MIB : MIB + 4 * KIB]
    assert handle.read_again(MIB + 8 * KIB, 4 * KIB) is None, "it is here, and was not read"
    assert handle.read_again(len(DATA), 1) is None
    handle.close()
    assert handle.read_again(MIB, 4 * KIB) is None
    with pytest.raises(BadHandle):
        await handle.read(MIB, 4 * KIB)


async def test_small_reads_in_order_waste_nothing(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    """Most of them come to a page of which a part was read: they count as read all the same."""
    b = bench(nursery, {"a": DATA})
    handle = opened(b)
    for offset in range(0, len(DATA), 512):
        if handle.read_again(offset, 512) is None:
            await handle.read(offset, 512)
    handle.close()
    b.files.forget("a")
    assert b.metrics["store.bytes_delivered"] == len(DATA)
    assert b.metrics["store.wasted_bytes"] == 0


async def test_none_after_the_store_has_ended(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    b = bench(nursery, {"a": DATA})
    handle = opened(b)
    await handle.read(0, 4 * KIB)
    await b.files.aclose()
    assert handle.read_again(0, 4 * KIB) is None
