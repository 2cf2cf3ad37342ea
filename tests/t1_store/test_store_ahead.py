"""Files fetched before they are opened: links first and few, bytes as read-ahead, no errors."""

from __future__ import annotations

import pytest
import trio
from store_script import Bench, Fault, bench, pattern
from trio.testing import MockClock

from up42fs.errors import Offline
from up42fs.store.ahead import SIGNING_AHEAD, Prefetch
from up42fs.store.members.extent import StoredObject
from up42fs.types import ByteRange

KIB, MIB = 1 << 10, 1 << 20
HEAD = 128 * KIB
DATA = pattern(3 * MIB)


def start(b: Bench, name: str = "a", size: int | None = len(DATA), front: int = HEAD) -> Prefetch:
    def spans(size: int) -> list[ByteRange]:
        return [ByteRange(0, min(front, size))]

    return b.files.start_ahead(StoredObject(name, size, name), spans)


async def read(b: Bench, name: str = "a", size: int = HEAD, of: int = len(DATA)) -> bytes:
    file = b.files.open(StoredObject(name, of, name))
    try:
        return bytes(await file.read(0, size))
    finally:
        file.close()


async def test_a_head_fetched_ahead_is_one_link_and_one_range_and_its_read_is_free(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    b = bench(nursery, {"a": DATA})
    ahead = start(b)
    was_done = ahead.is_done
    await trio.sleep(1)
    assert (was_done, ahead.is_done) == (False, True)
    assert await read(b) == DATA[:HEAD]
    assert (b.script.signs, [span for _, span, _ in b.script.requests]) == (
        ["a"],
        [ByteRange(0, HEAD)],
    )
    assert b.metrics["store.hits"] == 1
    assert b.metrics["store.prefetched_bytes"] == HEAD


async def test_a_reader_who_comes_early_shares_the_request(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    b = bench(nursery, {"a": DATA})
    start(b)
    await trio.sleep(0.03)  # the link is there, the range on its way
    assert await read(b) == DATA[:HEAD]
    assert len(b.script.requests) == 1


async def test_what_is_here_is_not_asked_for_and_needs_no_link(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    b = bench(nursery, {"a": DATA})
    await read(b)
    b.files.suspend()  # the link is gone
    ahead = start(b)
    await trio.sleep(1)
    assert ahead.is_done
    assert (len(b.script.signs), len(b.script.requests)) == (1, 1)


async def test_an_unknown_size_is_learned_with_the_head(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    b = bench(nursery, {"a": DATA})
    ahead = start(b, size=None, front=MIB)
    await trio.sleep(2)
    assert ahead.is_done
    assert (await b.files.ensure_version(StoredObject("a", None, "a"))).size == len(DATA)
    assert await read(b, size=MIB) == DATA[:MIB]
    assert len(b.script.signs) == 1
    assert b.script.asked() == MIB


async def test_links_are_signed_few_at_once_and_a_reader_does_not_queue_behind_them(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    names = [f"f{number}" for number in range(40)]
    b = bench(nursery, dict.fromkeys([*names, "mine"], DATA))
    for name in names:
        start(b, name)
    await trio.sleep(0.001)
    assert len(b.script.signs) == SIGNING_AHEAD
    await read(b, "mine")
    assert b.script.signs.index("mine") == SIGNING_AHEAD
    await trio.sleep(5)
    assert sorted(b.script.signs) == sorted([*names, "mine"])


async def test_large_fronts_come_in_parallel_parts(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    data = pattern(9 * MIB)
    b = bench(nursery, {"a": data})
    start(b, size=len(data), front=8 * MIB)
    await trio.sleep(5)
    assert len(b.script.requests) == 2
    assert await read(b, size=8 * MIB, of=len(data)) == data[: 8 * MIB]


@pytest.mark.parametrize("moment_s", [0.0, 0.005, 0.02, 0.1])
async def test_cancelled_at_any_moment_it_leaves_a_file_that_reads_well(
    nursery: trio.Nursery, autojump_clock: MockClock, moment_s: float
) -> None:
    b = bench(nursery, {"a": DATA})
    ahead = start(b, front=3 * MIB)
    await trio.sleep(moment_s)
    ahead.cancel()
    await trio.sleep(0.01)
    assert b.script.active == 0
    assert not ahead.is_done
    assert b.script.asked() <= 3 * MIB
    assert await read(b, size=3 * MIB) == DATA


async def test_errors_are_nobodys_until_somebody_reads(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    b = bench(nursery, {"a": DATA}, faults=lambda n: Fault(status=503) if n < 2 else None)
    b.script.sign_error = Offline("no network")
    ahead = start(b)
    await trio.sleep(1)
    assert not ahead.is_done
    b.script.sign_error = None
    ahead = start(b)
    await trio.sleep(60)
    assert not ahead.is_done
    assert await read(b) == DATA[:HEAD]


async def test_memory_is_not_exceeded(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    names = [f"f{number}" for number in range(30)]
    b = bench(nursery, dict.fromkeys(names, DATA), memory_bytes=32 * MIB)
    for name in names:
        start(b, name, front=3 * MIB)
        await trio.sleep(0.2)
        assert b.files.gauges()["memory_bytes"] <= 32 * MIB
    await trio.sleep(5)
    assert b.files.gauges()["memory_bytes"] <= 32 * MIB


async def test_nothing_begins_after_the_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    b = bench(nursery, {"a": DATA})
    start(b)
    await b.files.aclose()
    assert not start(b).is_done
    await trio.sleep(1)
    assert b.script.requests == []
