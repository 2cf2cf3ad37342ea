"""The read engine over a scripted store: right bytes or an honest error, few requests, bounds."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from store_script import EXPIRED, Bench, Fault, bench, chaos, pattern
from tiff_support import Image, tiles_of, write_tiff

from up42fs.errors import (
    AccessDenied,
    BadHandle,
    DeadlineExceeded,
    InvalidAnswer,
    NotFound,
    Offline,
    Unavailable,
    Up42fsError,
    VersionChanged,
)
from up42fs.net.retry import FailureKind
from up42fs.readahead.tuning import Reading
from up42fs.store.handle import REPEATED_S, OpenFile
from up42fs.store.members.extent import StoredObject
from up42fs.store.part import Part
from up42fs.types import ByteRange, Version

KIB, MIB = 1 << 10, 1 << 20
BLOCK = 128 * KIB
DATA = pattern(8 * MIB + 4321)

Clock = trio.testing.MockClock


def every(fault: Fault) -> Callable[[int], Fault | None]:
    return lambda _: fault


def first(*faults: Fault | None) -> Callable[[int], Fault | None]:
    return lambda number: faults[number] if number < len(faults) else None


async def whole(b: Bench, size: int, step: int = BLOCK, object_id: str = "a") -> bytes:
    handle = b.files.open(StoredObject(object_id, size, "scene.tif"))
    got = bytearray()
    while piece := await handle.read(len(got), step):
        got += piece
    handle.close()
    return bytes(got)


# what it costs --------------------------------------------------------------------------------


@pytest.mark.claim("S4")
async def test_opening_costs_nothing(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    b = bench(nursery, {"a": DATA})
    handle = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    await trio.sleep(10)
    assert handle.version is None
    handle.close()
    assert b.script.signs == []
    assert b.script.requests == []


async def test_gdalinfo_is_one_signing_and_two_requests_and_free_when_repeated(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})
    for _ in range(2):
        handle = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
        assert await handle.read(0, 16 * KIB) == DATA[: 16 * KIB]
        assert await handle.read(len(DATA) - 4 * KIB, 4 * KIB) == DATA[-4 * KIB :]
        handle.close()
    assert b.script.signs == ["a"]
    assert [span for _, span, _ in b.script.requests] == [
        ByteRange(0, BLOCK),
        ByteRange(len(DATA) - BLOCK, len(DATA)),
    ]
    assert b.metrics["store.hits"] == 2
    assert b.metrics["store.reads"] == 4


async def test_an_exact_reader_asks_for_its_bytes_alone_each_once(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})
    spans = [ByteRange(MIB, 2 * MIB), ByteRange(5 * MIB, 5 * MIB + 7), ByteRange(MIB, 3 * MIB)]
    for span in spans:
        handle = b.files.open(StoredObject("a", len(DATA), "scene.tif"), Reading.EXACT)
        assert await handle.read(span.start, len(span)) == DATA[span.start : span.stop]
        handle.close()
    await trio.sleep(10)
    asked = [span for _, span, _ in b.script.requests]
    assert asked == [*spans[:2], ByteRange(2 * MIB, 3 * MIB)]


async def test_nothing_is_guessed_for_who_finds_all_here(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    image = Image(8192, 8192, 512, [100_000] * tiles_of(8192, 8192, 512))
    data = write_tiff([image])
    # A window of two tiles in each of the first rows.
    rows = [
        ByteRange(image.offsets[16 * row + 2], image.offsets[16 * row + 3] + 100_000)
        for row in range(4)
    ]
    asked = {}
    for is_warm in (False, True):
        b = bench(nursery, {"a": data})
        if is_warm:
            handle = b.files.open(StoredObject("a", len(data), "scene.tif"), Reading.EXACT)
            await handle.read(0, BLOCK)
            for row in rows[:2]:
                await handle.read(row.start, len(row))
            handle.close()
        before = len(b.script.requests)
        handle = b.files.open(StoredObject("a", len(data), "scene.tif"))
        await handle.read(0, 16 * KIB)
        for row in rows[:2]:
            for start in range(row.start, row.stop, BLOCK):
                await handle.read(start, min(BLOCK, row.stop - start))
        await trio.sleep(10)
        handle.close()
        asked[is_warm] = [span for _, span, _ in b.script.requests[before:]]
    assert asked[True] == []
    assert any(span.stop > rows[2].start for span in asked[False])  # who has not is guessed for


async def test_64_mib_in_order_ask_each_byte_once(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    data = pattern(MIB) * 64
    b = bench(nursery, {"a": data})
    assert await whole(b, len(data)) == data
    assert b.script.asked() == len(data)
    assert len(b.script.requests) <= 40
    assert b.script.signs == ["a"]
    assert b.metrics["store.bytes_fetched"] == len(data)
    assert b.metrics["store.bytes_delivered"] == len(data)


async def test_many_readers_of_one_range_cause_one_request(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})

    async def reader() -> None:
        handle = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
        assert await handle.read(3 * MIB, 4 * KIB) == DATA[3 * MIB : 3 * MIB + 4 * KIB]

    async with trio.open_nursery() as readers:
        for _ in range(30):
            readers.start_soon(reader)
    assert len(b.script.requests) == 1
    assert b.script.signs == ["a"]


async def test_a_read_is_answered_when_its_own_bytes_are_here(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})
    b.script.latency_s, b.script.chunk_s = 1.0, 1.0
    handle = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    begin = trio.current_time()
    await handle.read(0, 16 * KIB)
    assert trio.current_time() - begin < 2.5  # of 9 s for the 128 KiB


async def test_reads_within_one_part_are_not_copied(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})
    handle = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    piece = await handle.read(100, 1000)
    assert isinstance(piece, memoryview)
    assert piece.readonly
    assert piece == DATA[100:1100]


@pytest.mark.claim("S6")
async def test_the_edges_of_a_file(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    b = bench(nursery, {"a": DATA[:1000], "empty": b""})
    handle = b.files.open(StoredObject("a", 1000, "a"))
    assert await handle.read(1000, 5) == b""
    assert await handle.read(5000, 5) == b""
    assert await handle.read(0, 0) == b""
    assert b.script.requests == []
    assert await handle.read(990, 100) == DATA[990:1000]
    empty = b.files.open(StoredObject("empty", 0, "empty"))
    assert await empty.read(0, 100) == b""
    handle.close()
    handle.close()
    with pytest.raises(BadHandle):
        await handle.read(0, 1)


async def test_an_empty_file_is_closed_like_any_other(nursery: trio.Nursery) -> None:
    b = bench(nursery, {"a": b""})
    handle = b.files.open(StoredObject("a", 0, "empty.bin"))
    assert await handle.read(0, BLOCK) == b""
    handle.close()


async def test_closing_drops_the_read_ahead(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    data = pattern(MIB) * 64
    b = bench(nursery, {"a": data})
    b.script.chunk_s = 1.0
    handle = b.files.open(StoredObject("a", len(data), "a"))
    b.script.chunk_s = 0.001
    for offset in range(0, 8 * MIB, BLOCK):
        await handle.read(offset, BLOCK)
    b.script.chunk_s = 1.0
    handle.close()
    await trio.sleep(1)
    assert b.metrics["store.cancelled"] > 0
    asked = len(b.script.requests)
    await trio.sleep(600)
    assert len(b.script.requests) == asked
    assert b.metrics["store.bytes_fetched"] < 12 * MIB


async def test_what_came_before_it_was_given_up_is_counted(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    data = pattern(MIB) * 64
    b = bench(nursery, {"a": data})
    handle = b.files.open(StoredObject("a", len(data), "a"))
    for offset in range(0, 8 * MIB, BLOCK):
        await handle.read(offset, BLOCK)
    handle.close()
    await trio.sleep(600)
    held = b.in_memory("a")
    assert b.metrics["store.cancelled"] > 0
    assert held <= b.metrics["store.bytes_fetched"] < b.metrics["store.bytes_asked"]


@pytest.mark.parametrize("others", [0, 1])
async def test_a_fetch_ends_with_its_last_reader(
    nursery: trio.Nursery, autojump_clock: Clock, others: int
) -> None:
    b = bench(nursery, {"a": pattern(MIB)})
    b.script.chunk_s = 1.0
    handles = [b.files.open(StoredObject("a", MIB, "a")) for _ in range(1 + others)]
    assert await handles[0].read(0, BLOCK) == pattern(MIB)[:BLOCK]
    handles[0].close()
    await trio.sleep(100)
    assert b.metrics["store.cancelled"] == (0 if others else 1)
    assert b.script.active == 0
    assert (b.metrics["store.bytes_fetched"] < MIB // 4) == (not others)


async def test_nobody_is_woken_for_pieces_that_are_not_the_last_of_his(
    nursery: trio.Nursery, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    wake = Part._wake

    def counted(self: Part) -> None:
        looks.append(self.filled)
        wake(self)

    monkeypatch.setattr(Part, "_wake", counted)
    b = bench(nursery, {"a": pattern(MIB)})
    woken: list[int] = []

    async def reader(stop: int) -> None:
        handle = b.files.open(StoredObject("a", MIB, "a"))
        await handle.read(stop - 4 * KIB, 4 * KIB)
        woken.append(stop)

    async with trio.open_nursery() as readers:
        for stop in (900 * KIB, 100 * KIB, 500 * KIB):
            readers.start_soon(reader, stop)
    assert woken == [100 * KIB, 500 * KIB, 900 * KIB]
    assert len(b.script.requests) == 1
    assert len(looks) == 3, "of 64 pieces three end what somebody waits for"


async def test_demand_goes_before_read_ahead(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    data = pattern(MIB) * 64
    b = bench(nursery, {"a": data, "b": DATA}, connections=4)
    handle = b.files.open(StoredObject("a", len(data), "a"))
    for offset in range(0, 8 * MIB, BLOCK):
        await handle.read(offset, BLOCK)
    b.script.chunk_s = 0.1  # the read-ahead now takes its time
    await handle.read(16 * MIB, BLOCK)
    begin = trio.current_time()
    other = b.files.open(StoredObject("b", len(DATA), "b"))
    assert await other.read(0, 4 * KIB) == DATA[: 4 * KIB]
    assert trio.current_time() - begin < 1.0
    assert b.script.most_active <= 4


# the version ----------------------------------------------------------------------------------


@pytest.mark.claim("S72")
async def test_a_changed_object_ends_every_handle_for_good(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})
    one = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    two = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    await one.read(0, 10)
    assert one.version == Version(len(DATA), '"a-1"')
    other = pattern(len(DATA), seed=2)
    b.script.objects["a"], b.script.etags["a"] = other, '"a-2"'
    with pytest.raises(VersionChanged, match=r"scene\.tif: .*open it again"):
        await one.read(4 * MIB, 10)
    for handle, offset in ((one, 0), (two, 0), (two, 5 * MIB)):
        with pytest.raises(VersionChanged):
            await handle.read(offset, 10)
    assert b.versions == [("a", Version(len(DATA), '"a-2"'))]
    assert b.in_memory("a") == 0
    fresh = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    assert await fresh.read(0, 10) == other[:10]
    assert await fresh.read(4 * MIB, 10) == other[4 * MIB : 4 * MIB + 10]
    assert b.files.gauges()["memory_bytes"] == 2 * BLOCK
    with pytest.raises(VersionChanged):
        await one.read(0, 10)


async def test_the_first_answer_pins_and_later_requests_carry_the_condition(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    await handle.read(0, 10)
    await handle.read(4 * MIB, 10)
    assert [condition for _, _, condition in b.script.requests] == [None, '"a-1"']


async def test_a_store_that_misjudges_the_condition_is_asked_without_it(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA}, first(None, Fault(status=412)))
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    await handle.read(0, 10)
    assert await handle.read(4 * MIB, 10) == DATA[4 * MIB : 4 * MIB + 10]
    await handle.read(6 * MIB, 10)
    assert [condition for _, _, condition in b.script.requests] == [None, '"a-1"', None, None]


async def test_412_where_no_condition_was_sent_is_somebody_elses_answer(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA}, first(Fault(status=412), Fault(status=412)))
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    assert await handle.read(0, 10) == DATA[:10]
    b.script.faults = every(Fault(status=412))
    with pytest.raises(InvalidAnswer, match="cannot be right"):
        await handle.read(4 * MIB, 10)


@pytest.mark.parametrize("kind", [FailureKind.UNREACHABLE, FailureKind.TLS])
async def test_a_link_to_a_host_out_of_reach_is_not_kept(
    nursery: trio.Nursery, autojump_clock: Clock, kind: FailureKind
) -> None:
    """The next link may name another host: whoever reads next asks for one."""
    b = bench(nursery, {"a": DATA}, every(Fault(kind=kind)))
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    cure = "SSL_CERT_FILE" if kind is FailureKind.TLS else "check the network"
    for signs in (1, 2):
        with pytest.raises(Up42fsError, match=cure):
            await handle.read(0, 10)
        assert len(b.script.signs) == signs
    b.script.faults = lambda _: None
    assert await handle.read(0, 10) == DATA[:10]


@pytest.mark.parametrize("real", [len(DATA) + 1, len(DATA) - 1, 100])
async def test_another_size_than_the_catalogues_is_told_and_then_right(
    nursery: trio.Nursery, autojump_clock: Clock, real: int
) -> None:
    data = pattern(real)
    b = bench(nursery, {"a": data})
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    with pytest.raises(VersionChanged):
        await handle.read(len(DATA) - 10, 10)
    assert [version and version.size for _, version in b.versions] == [real]
    assert await whole(b, real) == data


@pytest.mark.claim("S74")
async def test_a_vanished_object_is_stale_when_open_and_missing_when_not(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    await handle.read(0, 10)
    del b.script.objects["a"]
    with pytest.raises(VersionChanged):
        await handle.read(4 * MIB, 10)
    fresh = b.files.open(StoredObject("a", len(DATA), "a"))
    with pytest.raises(NotFound, match="NoSuchKey"):
        await fresh.read(0, 10)


async def test_forgetting_drops_the_bytes_but_not_the_open_version(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    await handle.read(0, 10)
    await trio.sleep(1)
    assert b.in_memory("a") == BLOCK
    b.files.forget("a")
    assert b.in_memory("a") == 0
    assert b.files.gauges()["memory_bytes"] == 0
    assert await handle.read(0, 10) == DATA[:10]
    assert len(b.script.requests) == 2
    b.files.forget("never seen")


# links ----------------------------------------------------------------------------------------


async def test_expiry_in_the_middle_costs_one_signing(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA}, first(None, EXPIRED, EXPIRED, EXPIRED))
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    await handle.read(0, 10)

    async def reader(offset: int) -> None:
        assert await handle.read(offset, 10) == DATA[offset : offset + 10]

    async with trio.open_nursery() as readers:
        for number in range(3):
            readers.start_soon(reader, (2 + 2 * number) * MIB)
    assert len(b.script.requests) == 7
    assert b.script.signs == ["a", "a"]
    assert b.metrics["store.renewals"] == 1


async def test_a_long_read_renews_ahead_and_is_never_refused(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    for offset in range(0, len(DATA), BLOCK):
        await handle.read(offset, BLOCK)
        await trio.sleep(20)
    assert b.metrics["store.retries"] == 0
    assert 2 <= len(b.script.signs) <= 6


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_fresh_link_refused_is_meant(
    nursery: trio.Nursery, autojump_clock: Clock, status: int
) -> None:
    b = bench(nursery, {"a": DATA}, every(Fault(status=status)))
    handle = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    with pytest.raises(AccessDenied, match=f"scene.tif: .*{status}.*check that this account"):
        await handle.read(0, 10)
    assert len(b.script.requests) == 2
    assert b.script.signs == ["a", "a"]


@pytest.mark.claim("S79")
async def test_after_sleep_links_and_connections_are_fresh(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    await handle.read(0, 10)
    b.files.suspend()
    assert b.script.resets == 1
    await handle.read(0, 10)
    assert b.script.signs == ["a"]
    await handle.read(4 * MIB, 10)
    assert b.script.signs == ["a", "a"]


@pytest.mark.parametrize("signs_well", [0, 1])
async def test_who_runs_out_of_time_hears_what_went_wrong_with_the_link(
    nursery: trio.Nursery, autojump_clock: Clock, signs_well: int
) -> None:
    """And not that an old link was refused, nor that it took long."""
    b = bench(nursery, {"a": DATA}, every(EXPIRED))
    b.script.sign_trouble = (signs_well, Unavailable("UP42 answered 502"))
    handle = b.files.open(StoredObject("a", len(DATA), "scene"))
    with pytest.raises(Unavailable, match="scene: UP42 answered 502"):
        await handle.read(0, 10)
    assert 29 < trio.current_time() < 31


async def test_the_signers_error_is_the_readers(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})
    b.script.sign_error = Offline("UP42 cannot be reached; check the network")
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    with pytest.raises(Offline, match="check the network"):
        await handle.read(0, 10)
    b.script.sign_error = None
    assert await handle.read(0, 10) == DATA[:10]


# failures -------------------------------------------------------------------------------------


async def test_a_cut_body_is_resumed_at_the_missing_byte(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    cut = Fault(kind=FailureKind.BROKEN, after_bytes=50_000)
    b = bench(nursery, {"a": DATA}, first(cut))
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    assert await handle.read(0, BLOCK) == DATA[:BLOCK]
    spans = [span for _, span, _ in b.script.requests]
    assert spans == [ByteRange(0, BLOCK), ByteRange(50_000, BLOCK)]


FAILING = [
    (Fault(status=503), Unavailable, "503"),
    (Fault(status=429, headers={"retry-after": "60"}), Unavailable, "429"),
    (Fault(kind=FailureKind.UNREACHABLE), Offline, "could not be reached"),
    (Fault(kind=FailureKind.STALLED, wait_s=10), DeadlineExceeded, "stopped sending"),
    (Fault(wait_s=1000), DeadlineExceeded, "did not come within 30 s"),
    (Fault(kind=FailureKind.BROKEN), Unavailable, "broke the connection"),
    (Fault(head={"content-range": "bytes 5-9/10"}), InvalidAnswer, "cannot be right"),
    (Fault(head={"content-range": None}), InvalidAnswer, "cannot be right"),
    (Fault(status=302), InvalidAnswer, "302"),
]


@pytest.mark.parametrize(("fault", "error", "words"), FAILING)
async def test_a_store_that_keeps_failing_ends_in_an_honest_error_in_time(
    nursery: trio.Nursery,
    autojump_clock: Clock,
    fault: Fault,
    error: type[Up42fsError],
    words: str,
) -> None:
    b = bench(nursery, {"a": DATA}, every(fault))
    handle = b.files.open(StoredObject("a", len(DATA), "scene.tif"))
    begin = trio.current_time()
    with pytest.raises(error, match=f"scene.tif: .*{words}") as caught:
        await handle.read(0, 10)
    assert type(caught.value) is error
    assert trio.current_time() - begin <= 30.1
    assert "store/a" not in str(caught.value)
    b.script.faults = lambda _: None  # and nothing is remembered against it
    await trio.sleep(REPEATED_S)
    assert await handle.read(0, 10) == DATA[:10]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(status=429, headers={"retry-after": "3"}),
        Fault(kind=FailureKind.BROKEN),
        Fault(kind=FailureKind.STALLED, wait_s=9),
        Fault(kind=FailureKind.UNREACHABLE),
        Fault(kind=FailureKind.BROKEN, after_bytes=0),
        Fault(head={"content-range": "bytes 1-131071/8392929"}),
        Fault(head={"content-length": "7"}),
    ],
)
async def test_a_passing_failure_is_not_seen(
    nursery: trio.Nursery, autojump_clock: Clock, fault: Fault
) -> None:
    b = bench(nursery, {"a": DATA}, first(fault))
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    assert await handle.read(0, BLOCK) == DATA[:BLOCK]
    assert len(b.script.requests) == 2


async def test_an_answer_without_the_etag_of_earlier_ones_is_asked_again(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA}, first(None, Fault(head={"etag": None})))
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    await handle.read(0, 10)
    assert await handle.read(4 * MIB, 10) == DATA[4 * MIB : 4 * MIB + 10]
    assert len(b.script.requests) == 3


async def test_failed_read_ahead_is_silent_and_paused(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    data = pattern(MIB) * 32
    b = bench(nursery, {"a": data})
    handle = b.files.open(StoredObject("a", len(data), "a"))
    for offset in range(0, MIB, BLOCK):
        await handle.read(offset, BLOCK)
    await trio.sleep(5)
    have = b.in_memory("a")
    b.script.faults = every(Fault(status=503))
    await handle.read(MIB - BLOCK, BLOCK)
    for offset in range(MIB, have, BLOCK):
        assert await handle.read(offset, BLOCK) == data[offset : offset + BLOCK]
        await trio.sleep(5)
    assert 1 <= b.metrics["store.retries"] <= 8
    b.script.faults = lambda _: None
    assert await whole(b, len(data)) == data


async def test_two_readers_one_late_each_has_its_own_deadline(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA}, every(Fault(status=503)))
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    took: dict[str, float] = {}

    async def reader(who: str, after_s: float) -> None:
        await trio.sleep(after_s)
        begin = trio.current_time()
        with pytest.raises(Unavailable, match="503"):
            await handle.read(0, 10)
        took[who] = trio.current_time() - begin

    async with trio.open_nursery() as readers:
        readers.start_soon(reader, "early", 0)
        readers.start_soon(reader, "late", 20)
    assert 20 < took["early"] <= 30.1
    assert 20 < took["late"] <= 30.1


async def test_a_cancelled_reader_leaves_the_part_to_others(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})
    b.script.latency_s = 5
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    with trio.move_on_after(1) as scope:
        await handle.read(0, 10)
    assert scope.cancelled_caught
    assert await handle.read(0, 10) == DATA[:10]
    assert len(b.script.requests) == 1


@pytest.mark.claim("S188")
@pytest.mark.parametrize("is_shared", [False, True])
async def test_what_a_killed_reader_waited_for_goes_unless_another_waits(
    nursery: trio.Nursery, autojump_clock: Clock, is_shared: bool
) -> None:
    b = bench(nursery, {"a": DATA})
    b.script.latency_s = 25
    killed, other = (b.files.open(StoredObject("a", len(DATA), "a")) for _ in range(2))
    got: list[bytes] = []

    async def read_along() -> None:
        got.append(bytes(await other.read(0, 10)))

    async with trio.open_nursery() as readers:
        if is_shared:
            readers.start_soon(read_along)
        with trio.move_on_after(1):
            await killed.read(0, 10)
        killed.close()
        await trio.sleep(1)
        assert b.files.gauges()["requests_running"] == (1 if is_shared else 0)
    assert got == ([DATA[:10]] if is_shared else [])
    assert bytes(await other.read(0, 10)) == DATA[:10]
    assert len(b.script.requests) == (1 if is_shared else 2)


async def test_closing_the_store_ends_waiting_readers(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA})
    b.script.latency_s = 20
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    begin = trio.current_time()

    async def reader() -> None:
        with pytest.raises(Unavailable, match="unmounted"):
            await handle.read(0, 10)

    async with trio.open_nursery() as readers:
        readers.start_soon(reader)
        await trio.sleep(1)
        await b.files.aclose()
    assert trio.current_time() - begin < 2
    with pytest.raises(BadHandle):
        b.files.open(StoredObject("a", len(DATA), "a"))


# memory ---------------------------------------------------------------------------------------


async def test_a_large_sequential_read_stays_within_the_budget(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    data = pattern(MIB) * 96
    b = bench(nursery, {"a": data}, memory_bytes=8 * MIB)
    b.script.chunk_s = 0.0001
    handle = b.files.open(StoredObject("a", len(data), "a"))
    most = 0
    for offset in range(0, len(data), BLOCK):
        piece = await handle.read(offset, BLOCK)
        assert piece == data[offset : offset + BLOCK]
        most = max(most, b.files.gauges()["memory_bytes"])
    assert most <= 8 * MIB
    assert b.script.asked() == len(data)
    assert b.in_memory("a") <= 8 * MIB
    assert b.metrics["store.wasted_bytes"] == 0


async def test_what_a_long_run_has_read_makes_room_and_what_others_read_stays(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    data = pattern(MIB) * 96
    b = bench(nursery, {"a": data, "b": DATA}, memory_bytes=96 * MIB)
    b.script.chunk_s = 0.0001
    await b.files.open(StoredObject("b", len(DATA), "b")).read(0, BLOCK)
    held = b.in_memory("b")
    handle = b.files.open(StoredObject("a", len(data), "a"))
    for offset in range(0, len(data), BLOCK):
        await handle.read(offset, BLOCK)
        await trio.lowlevel.checkpoint()  # a read out of memory lets nobody else run
    assert b.in_memory("a") <= 8 * MIB
    assert b.in_memory("b") == held
    assert b.metrics["store.wasted_bytes"] == 0
    assert b.script.asked("a") == len(data)


async def test_a_long_run_may_begin_again_at_the_front_of_its_file(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    """A read at the front still belongs to the run, and nothing lies behind it to drop."""
    data = pattern(MIB) * 20
    b = bench(nursery, {"a": data}, memory_bytes=96 * MIB)
    handle = b.files.open(StoredObject("a", len(data), "a"))
    for offset in range(0, len(data), BLOCK):
        await handle.read(offset, BLOCK)
        await trio.lowlevel.checkpoint()
    for offset in (0, 4 * KIB, BLOCK, 3 * MIB, 4 * MIB - 4 * KIB, 4 * MIB):
        assert await handle.read(offset, 4 * KIB) == data[offset : offset + 4 * KIB]
    assert b.in_memory("a") <= 12 * MIB


async def test_many_streams_share_a_small_budget(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    names = [f"f{number}" for number in range(8)]
    data = pattern(12 * MIB)
    b = bench(nursery, dict.fromkeys(names, data), memory_bytes=16 * MIB)
    most = 0

    async def reader(name: str) -> None:
        nonlocal most
        handle = b.files.open(StoredObject(name, len(data), name))
        for offset in range(0, len(data), BLOCK):
            assert await handle.read(offset, BLOCK) == data[offset : offset + BLOCK]
            most = max(most, b.files.gauges()["memory_bytes"])

    async with trio.open_nursery() as readers:
        for name in names:
            readers.start_soon(reader, name)
    assert most <= 16 * MIB + 8 * MIB  # demand is always admitted: a unit a reader
    assert b.script.asked() <= 1.15 * 8 * len(data)


async def test_a_budget_smaller_than_one_read_still_reads(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    b = bench(nursery, {"a": DATA}, memory_bytes=64 * KIB)
    assert await whole(b, len(DATA), step=MIB) == DATA
    handle = b.files.open(StoredObject("a", len(DATA), "a"))
    for offset in (5 * MIB, 100, 5 * MIB + 60 * KIB, 3 * MIB):
        assert await handle.read(offset, 300 * KIB) == DATA[offset : offset + 300 * KIB]


# anything ---------------------------------------------------------------------------------------


async def disturb(b: Bench, handle: OpenFile, chance: random.Random) -> OpenFile:
    """Something that may happen between two reads."""
    what = chance.random()
    if what < 0.05:
        b.files.forget("a")
    elif what < 0.08:
        b.files.suspend()
    elif what < 0.15:
        handle.close()
        handle = b.files.open(StoredObject("a", len(b.script.objects["a"]), "a"))
    elif what < 0.35:
        await trio.sleep(chance.random() * 5)
    return handle


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@given(
    size=st.one_of(st.integers(1, 3 * MIB), st.sampled_from([1, MIB, MIB + 1, 2 * MIB + 77])),
    seed=st.integers(0, 2**32),
    share=st.sampled_from([0.0, 0.1, 0.3]),
    memory=st.sampled_from([64 * KIB, MIB, 8 * MIB]),
    life_s=st.sampled_from([0.5, 20.0, 300.0]),
)
@settings(max_examples=40)
@pytest.mark.claim("S6")
def test_whatever_happens_the_bytes_are_right(
    size: int, seed: int, share: float, memory: int, life_s: float
) -> None:
    data = DATA[:size]
    chance = random.Random(seed)

    async def reader(b: Bench) -> None:
        handle = b.files.open(StoredObject("a", size, "a"))
        position = 0
        for _ in range(25):
            if chance.random() < 0.4:
                position = chance.randrange(size)
            length = chance.choice([1, 4 * KIB, BLOCK, 300 * KIB])
            try:
                got = await handle.read(position, length)
            except (Unavailable, AccessDenied):
                assert share > 0  # with luck this bad an error is honest
            else:
                assert got == data[position : position + length]
            position += length
            handle = await disturb(b, handle, chance)
        handle.close()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            b = bench(nursery, {"a": data}, chaos(seed, share), memory_bytes=memory)
            b.script.life_s = life_s
            async with trio.open_nursery() as readers:
                for _ in range(4):
                    readers.start_soon(reader, b)
            await trio.sleep(60)
            assert b.script.active == 0
            assert b.files.gauges()["memory_bytes"] <= memory
            assert b.versions == []
            nursery.cancel_scope.cancel()

    run(main)


@given(seed=st.integers(0, 2**32), at=st.integers(0, 12), etags=st.booleans())
@settings(max_examples=40)
@pytest.mark.claim("S73")
def test_a_change_at_any_moment_never_mixes_versions(seed: int, at: int, etags: bool) -> None:
    old, new = pattern(3 * MIB, seed=1), pattern(3 * MIB + (0 if etags else 5), seed=2)
    chance = random.Random(seed)

    async def reader(b: Bench) -> None:
        handle = b.files.open(StoredObject("a", len(old), "a"))
        seen: set[bytes] = set()
        for _ in range(12):
            offset = chance.randrange(len(old) - 1000)
            try:
                got = bytes(await handle.read(offset, 1000))
            except VersionChanged:
                with pytest.raises(VersionChanged):
                    await handle.read(0, 1)
                return
            versions = {v for v in (old, new) if v[offset : offset + 1000] == got}
            assert versions
            seen |= versions
            assert len(seen) == 1

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            b = bench(nursery, {"a": old})
            b.script.ignore_conditions = chance.random() < 0.5

            def change(number: int) -> None:
                if number == at:
                    b.script.objects["a"] = new
                    b.script.etags["a"] = '"a-2"' if etags else b.script.etags["a"]

            b.script.faults = change
            async with trio.open_nursery() as readers:
                for _ in range(3):
                    readers.start_soon(reader, b)
            nursery.cancel_scope.cancel()

    run(main)


async def test_an_object_that_stalls_keeps_nobody_else_waiting(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    """Forty readers wait for an object that never answers; another one's reader does not notice."""
    b = bench(nursery, {"stalled": DATA, "b": DATA})
    b.script.faults = lambda n: Fault(wait_s=1000) if b.script.requests[n][0] == "stalled" else None

    async def wait_in_vain(place: int) -> None:
        handle = b.files.open(StoredObject("stalled", len(DATA), "stalled"))
        with pytest.raises(Up42fsError):
            await handle.read(place * BLOCK, 4 * KIB)

    async with trio.open_nursery() as readers:
        for place in range(1, 41):
            readers.start_soon(wait_in_vain, place)
        await trio.sleep(1)
        began_s = trio.current_time()
        assert await whole(b, len(DATA), object_id="b") == DATA
        assert trio.current_time() - began_s < 10
        readers.cancel_scope.cancel()
