"""What each object cost, and that it adds up to what the mount cost."""

from __future__ import annotations

from collections import Counter

import trio
import trio.testing
from store_script import Fault, bench, pattern

from up42fs.metrics import Metrics
from up42fs.net.retry import FailureKind
from up42fs.store.http.tally import MOST_OBJECTS, Tallies
from up42fs.store.members.extent import StoredObject

KIB, MIB = 1 << 10, 1 << 20
Clock = trio.testing.MockClock
OBJECTS = {name: pattern(8 * MIB, seed) for seed, name in enumerate("abc", 1)}


async def test_the_objects_add_up_to_the_mount(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broken = Fault(kind=FailureKind.BROKEN, after_bytes=10 * KIB)
    b = bench(nursery, OBJECTS, {2: broken}.get, memory_bytes=16 * MIB)
    plans = {"a": 8 * MIB, "b": 300 * KIB, "c": 3 * MIB}
    for name, stop in plans.items():
        handle = b.files.open(StoredObject(name, 8 * MIB, f"{name}.tif"))
        for offset in range(0, stop, 100 * KIB):
            assert await handle.read(offset, 100 * KIB) == OBJECTS[name][offset:][: 100 * KIB]
        handle.close()
    await trio.sleep(5)
    total: Counter[str] = Counter()
    for name in plans:
        total.update(b.files.tally(name))
    mount = {
        key.removeprefix("store."): value
        for key, value in b.metrics.snapshot().items()
        if not key.startswith("store.disk")
    }
    assert {k: v for k, v in total.items() if v} == {k: v for k, v in mount.items() if v}
    one = b.files.tally("b")
    assert one["reads"] == 3
    assert one["requests"] == sum(name == "b" for name, *_ in b.script.requests)
    assert one["bytes_asked"] == b.script.asked("b")
    assert one["bytes_delivered"] == 300 * KIB
    assert one["signs"] == 1
    assert b.files.tally("a")["retries"] == 1
    ranks = b.files.tallies(2)
    assert [rank["name"] for rank in ranks] == ["a.tif", "c.tif"], "by bytes fetched"


async def test_opening_and_looking_count_nothing(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, OBJECTS)
    b.files.open(StoredObject("a", 8 * MIB, "a.tif")).close()
    assert b.files.tally("a") == {}
    assert b.files.tally("none") == {}
    assert b.files.tallies() == []


def test_what_is_remembered_is_bounded() -> None:
    tallies = Tallies(Metrics())
    for number in range(MOST_OBJECTS + 100):
        tallies.of(f"object {number}", "x").count("store.bytes_fetched", number + 1)
    assert len(tallies.top(10_000)) == MOST_OBJECTS
    assert [rank["bytes_fetched"] for rank in tallies.top(2)] == [
        MOST_OBJECTS + 100,
        MOST_OBJECTS + 99,
    ]
