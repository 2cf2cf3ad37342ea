"""Sizes nobody knows: learned by one link and one GET, whose bytes are kept."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from store_script import EXPIRED, Bench, Fault, bench, pattern
from trio.testing import MockClock

from up42fs.errors import (
    AccessDenied,
    InvalidAnswer,
    NotFound,
    Unavailable,
    Up42fsError,
    VersionChanged,
)
from up42fs.net.retry import FailureKind
from up42fs.store.members.extent import StoredObject
from up42fs.store.versions import HEAD_BYTES, SIZE_BYTES

MIB = 1 << 20


async def learn(subject: Bench, name: str = "a", *, head: bool = True) -> int:
    return (await subject.files.ensure_version(StoredObject(name, None, name), head=head)).size


@pytest.mark.parametrize("size", [0, 1, 1000, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 3 * MIB])
async def test_a_size_costs_one_link_and_one_range(
    size: int, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    data = pattern(size)
    subject = bench(nursery, {"a": data})
    assert await learn(subject) == size
    assert await learn(subject) == size
    assert (len(subject.script.signs), len(subject.script.requests)) == (1, 1)
    file = subject.files.open(StoredObject("a", size, "a"))
    assert bytes(await file.read(0, 16384)) == data[:16384]
    assert len(subject.script.requests) == 1
    assert bytes(await file.read(0, size)) == data
    assert subject.script.asked() <= max(HEAD_BYTES, size)
    assert len(subject.script.signs) == 1


@pytest.mark.claim("S417")
@pytest.mark.parametrize("size", [0, 1, 2, 1000, HEAD_BYTES, HEAD_BYTES + 1, 3 * MIB])
async def test_a_size_alone_costs_a_byte_and_its_reader_one_range_more(
    size: int, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    data = pattern(size)
    subject = bench(nursery, {"a": data})
    assert await learn(subject, head=False) == size
    assert await learn(subject, head=False) == await learn(subject) == size
    assert subject.script.asked() == SIZE_BYTES
    file = subject.files.open(StoredObject("a", size, "a"))
    assert bytes(await file.read(0, 16384)) == data[:16384]
    spans = [span for _, span, _ in subject.script.requests[1:]]
    # Whole files up to 1 MiB, else the head: as if UP42 had listed the size.
    whole = size if size <= MIB else HEAD_BYTES
    assert [(span.start, span.stop) for span in spans] == ([(0, whole)] if size else [])
    assert len(subject.script.signs) == 1


@pytest.mark.claim("S418")
async def test_a_size_alone_pins_the_version_as_a_head_does(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    subject = bench(nursery, {"a": pattern(400_000)})
    assert await learn(subject, head=False) == 400_000
    file = subject.files.open(StoredObject("a", 400_000, "a"))
    subject.script.objects["a"] = pattern(400_000, seed=2)
    subject.script.etags["a"] = '"a-2"'
    with pytest.raises(VersionChanged):
        await file.read(0, 100)
    assert await learn(subject, head=False) == 400_000
    file = subject.files.open(StoredObject("a", 400_000, "a"))
    assert bytes(await file.read(0, 100)) == pattern(400_000, seed=2)[:100]


async def test_who_wants_the_head_while_a_size_alone_is_under_way_waits_for_it(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    subject = bench(nursery, {"a": pattern(400_000)})
    async with trio.open_nursery() as askers:
        for head in (False, True, False):
            askers.start_soon(partial(learn, subject, head=head))
            await trio.testing.wait_all_tasks_blocked()
    assert (len(subject.script.signs), subject.script.asked()) == (1, SIZE_BYTES)


async def test_an_empty_object_whose_416_tells_no_total(autojump_clock, nursery) -> None:
    subject = bench(nursery, {"a": b""}, lambda _: Fault(status=416))
    assert await learn(subject) == 0


async def test_many_askers_share_the_requests(autojump_clock, nursery: trio.Nursery) -> None:
    subject = bench(nursery, {"a": pattern(MIB)})
    sizes: list[int] = []

    async def ask() -> None:
        sizes.append(await learn(subject))

    async with trio.open_nursery() as askers:
        for _ in range(50):
            askers.start_soon(ask)
    assert sizes == [MIB] * 50
    assert (len(subject.script.signs), len(subject.script.requests)) == (1, 1)


async def test_who_runs_out_of_time_hears_what_went_wrong(autojump_clock, nursery) -> None:
    """Also who stood behind another."""
    subject = bench(nursery, {"a": pattern(MIB)})
    subject.script.sign_trouble = (0, Unavailable("UP42 answered 502"))

    async def ask(after_s: float) -> None:
        await trio.sleep(after_s)
        with pytest.raises(Unavailable, match="a: UP42 answered 502"):
            await learn(subject)

    async with trio.open_nursery() as askers:
        for after_s in (0.0, 1.0):
            askers.start_soon(ask, after_s)
    assert trio.current_time() < 28


async def test_sixteen_objects_at_a_time(autojump_clock, nursery: trio.Nursery) -> None:
    names = [f"o{n}" for n in range(21)]
    subject = bench(nursery, {name: pattern(10_000) for name in names})
    started_s = trio.current_time()
    async with trio.open_nursery() as askers:
        for name in names:
            askers.start_soon(learn, subject, name)
    assert trio.current_time() - started_s < 0.4
    assert subject.metrics["store.probes"] == 21


@pytest.mark.parametrize(
    "fault",
    [
        EXPIRED,
        Fault(status=503),
        Fault(kind=FailureKind.BROKEN),
        Fault(kind=FailureKind.BROKEN, after_bytes=5000),
        Fault(head={"content-range": "bytes 1-131072/99999999"}),
    ],
)
@pytest.mark.parametrize("head", [True, False])
async def test_faults_that_pass(
    fault: Fault, head: bool, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    data = pattern(400_000)
    subject = bench(nursery, {"a": data}, lambda n: fault if n < 2 and fault != EXPIRED else None)
    if fault is EXPIRED:
        subject.script.faults = lambda n: fault if n == 0 else None
    assert await learn(subject, head=head) == len(data)
    file = subject.files.open(StoredObject("a", len(data), "a"))
    assert bytes(await file.read(0, len(data))) == data


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=403), AccessDenied),
        (Fault(status=404), NotFound),
        (Fault(head={"content-encoding": "gzip"}), InvalidAnswer),
    ],
)
@pytest.mark.parametrize("head", [True, False])
async def test_faults_that_stay_are_told_and_not_remembered(
    fault: Fault,
    error: type[Up42fsError],
    head: bool,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
) -> None:
    subject = bench(nursery, {"a": pattern(5000)}, lambda _: fault)
    with pytest.raises(error, match="a:"):
        await learn(subject, head=head)
    subject.script.faults = lambda _: None
    assert await learn(subject, head=head) == 5000


async def test_a_silent_store_meets_the_deadline(autojump_clock, nursery: trio.Nursery) -> None:
    subject = bench(nursery, {"a": pattern(5000)}, lambda _: Fault(wait_s=1000))
    started_s = trio.current_time()
    with pytest.raises(Up42fsError):
        await learn(subject)
    assert trio.current_time() - started_s <= 31


@given(size=st.integers(0, 300_000), cut=st.integers(0, 200_000))
def test_a_cut_head_is_completed(size: int, cut: int) -> None:
    data = pattern(size)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            fault = Fault(kind=FailureKind.BROKEN, after_bytes=cut)
            subject = bench(nursery, {"a": data}, lambda n: fault if n == 0 else None)
            assert await learn(subject) == size
            file = subject.files.open(StoredObject("a", size, "a"))
            assert bytes(await file.read(0, size)) == data
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
