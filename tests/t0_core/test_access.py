"""The planner: what it must never do (hypothesis), and what it does for the readers we know."""

from __future__ import annotations

import io
import random
import zipfile

from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs.ranges import RangeSet
from up42fs.readahead.plan import Access, Insight, Plan
from up42fs.readahead.tuning import BUFFER_BYTES, KIB, MIB, Tuning
from up42fs.types import ByteRange

BLOCK = 128 * KIB
WINDOW = 32 * MIB


class Object:
    """Coverage of one object as a fetcher keeps it; every plan is checked as it is applied."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.have = RangeSet()
        self.requests: list[ByteRange] = []

    def read(self, access: Access, start: int, length: int, window: int = WINDOW) -> Plan:
        wanted = ByteRange(start, min(start + length, self.size))
        plan = access.on_read(wanted, self.have, window)
        self._take(plan.demand)
        assert self.have.covers(wanted)
        self._take(plan.ahead)
        assert sum(map(len, plan.ahead)) <= min(window, WINDOW) + MIB
        return plan

    def _take(self, spans: tuple[ByteRange, ...]) -> None:
        for span in spans:
            assert span.stop <= self.size
            assert self.have.missing(span) == [span], "asked for twice"
            self.have.add(span)
            self.requests.append(span)

    @property
    def asked(self) -> int:
        return sum(map(len, self.requests))


reads = st.lists(
    st.tuples(
        st.integers(0, 3),  # handle
        st.one_of(st.integers(0, 64 * MIB), st.sampled_from([-1, -2])),  # -1: goes on, -2: down
        st.sampled_from([1, 4 * KIB, 16 * KIB, 100_000, BLOCK, 256 * KIB, MIB]),
    ),
    max_size=60,
)
sizes = st.one_of(st.integers(1, 64 * MIB), st.sampled_from([1, MIB, MIB + 1, 40 * MIB]))


@given(sizes, reads, st.integers(0, WINDOW), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_plans_are_always_sound(
    size: int, steps: list[tuple[int, int, int]], window: int, chance: random.Random
) -> None:
    """Demand covers the read, nothing lies beyond the end, nothing is asked for twice."""
    thing = Object(size)
    handles = [Access(size) for _ in range(4)]
    ends: dict[int, tuple[int, int]] = {}
    for handle, offset, length in steps:
        low, high = ends.get(handle, (size // 2, size // 2))
        start = {-1: high, -2: max(0, low - length)}.get(offset, offset)
        if start >= size:
            continue
        plan = thing.read(handles[handle], start, length, window)
        ends[handle] = (start, min(start + length, size))
        for span in plan.cancel:
            assert span.stop <= size
            assert all(s.stop <= span.start or s.start >= span.stop for s in plan.demand)
        if chance.random() < 0.2:  # evicted, or lost on the way
            lost = chance.randrange(size)
            thing.have.discard(ByteRange(lost, min(size, lost + chance.randrange(1, 4 * MIB))))
    for access in handles:
        access.on_close()
        assert access.on_close() == Plan()


@given(st.integers(1, 200 * MIB), st.sampled_from([4 * KIB, BLOCK, 256 * KIB, MIB]))
@settings(max_examples=40)
def test_a_sequential_run_asks_each_byte_once(size: int, step: int) -> None:
    thing = Object(size)
    access = Access(size)
    for start in range(0, min(size, 2000 * step), step):
        thing.read(access, start, step)
    assert thing.asked == thing.have.total
    assert thing.asked <= min(size, 2000 * step + 2000 * step + 2 * MIB)


def test_a_whole_file_of_64_mib_takes_few_requests_of_one_to_eight_mib() -> None:
    thing = Object(64 * MIB)
    access = Access(thing.size)
    for start in range(0, thing.size, BLOCK):
        thing.read(access, start, BLOCK)
    assert thing.asked == thing.size
    assert len(thing.requests) <= 44
    assert max(map(len, thing.requests)) <= 8 * MIB


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40, unique=True))
def test_far_jumps_cost_aligned_blocks_and_nothing_ahead(places: list[int]) -> None:
    thing = Object(1002 * 4 * MIB)
    access = Access(thing.size)
    for place in places:
        plan = thing.read(access, place * 4 * MIB + 100 * KIB, 60 * KIB)
        assert plan.ahead == ()
    assert thing.asked == len(places) * 2 * BLOCK


def test_header_then_tail_is_two_requests() -> None:
    thing = Object(100 * MIB + 77)
    access = Access(thing.size)
    thing.read(access, 0, 16 * KIB)
    thing.read(access, thing.size - 4 * KIB, 4 * KIB)
    for step in range(1, 18):  # the backward search of a zip reader
        thing.read(access, thing.size - step * 4 * KIB, 4 * KIB)
    assert thing.requests == [ByteRange(0, BLOCK), ByteRange(thing.size - BLOCK, thing.size)]


def archive() -> tuple[bytes, int]:
    """A zip whose largest member is neither first nor last, and where that begins."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        target.writestr("preview.png", bytes(300 * KIB))
        target.writestr("scene.tif", bytes(2 * MIB))
        target.writestr("rpc.xml", bytes(100 * KIB))
    return out.getvalue(), out.getvalue().index(b"PK\x03\x04", 1)


def test_the_directory_searched_for_from_the_end_brings_the_head_of_the_largest_member() -> None:
    data, member = archive()
    thing, insight = Object(len(data)), Insight(len(data))
    access = Access(thing.size, insight=insight)
    guesses: list[ByteRange] = []
    for step in range(1, 18):
        start = thing.size - step * 4 * KIB
        guesses += thing.read(access, start, 4 * KIB).guesses
        insight.structure.learn(ByteRange(start, start + 4 * KIB), lambda s: data[s.start : s.stop])
    start = member // BUFFER_BYTES * BUFFER_BYTES  # what the C library reads of it
    assert guesses == [ByteRange(start, start + BLOCK)]


def test_who_knows_where_the_directory_is_gets_no_member() -> None:
    data, _ = archive()
    thing, insight = Object(len(data)), Insight(len(data))
    access = Access(thing.size, insight=insight)
    directory = data.index(b"PK\x01\x02")
    for start in (thing.size - 22, thing.size - 4 * KIB, directory, directory + 40, directory):
        assert thing.read(access, start, thing.size - start).guesses == ()
        insight.structure.learn(ByteRange(start, len(data)), lambda s: data[s.start : s.stop])
    assert thing.asked == BLOCK


def test_a_small_file_is_fetched_whole() -> None:
    thing = Object(MIB)
    thing.read(Access(thing.size), 700 * KIB, 10)
    assert thing.requests == [ByteRange(0, MIB)]


def test_reads_that_overtake_each_other_stay_one_run() -> None:
    thing = Object(64 * MIB)
    access = Access(thing.size)
    order = [0, 1, 3, 2, 5, 4, 6, 8, 7, 9, 11, 10]
    for block in order:
        thing.read(access, 8 * MIB + block * BLOCK, BLOCK)
    assert access.reads_ahead
    assert thing.have.covers(ByteRange(8 * MIB, 10 * MIB))


def test_reading_again_is_no_run() -> None:
    thing = Object(64 * MIB)
    access = Access(thing.size)
    for _ in range(50):
        plan = thing.read(access, 8 * MIB, BLOCK)
        assert plan.ahead == ()
    assert thing.asked == BLOCK


def test_a_run_downward_grows_downward() -> None:
    thing = Object(256 * MIB)
    access = Access(thing.size)
    for step in range(1, 401):
        thing.read(access, 128 * MIB - step * 76 * KIB, 76 * KIB)
    assert len(thing.requests) <= 45
    assert thing.asked <= 400 * 76 * KIB + MIB


def test_interleaved_streams_keep_their_read_ahead() -> None:
    thing = Object(256 * MIB)
    access = Access(thing.size)
    for step in range(64):
        for base in (0, 64 * MIB, 128 * MIB):
            plan = thing.read(access, base + step * BLOCK, BLOCK)
            assert plan.cancel == ()
    assert len(thing.requests) <= 3 * 16


def test_a_jump_away_gives_up_the_read_ahead_once_it_lasts() -> None:
    thing = Object(256 * MIB)
    access = Access(thing.size)
    for step in range(32):
        thing.read(access, step * BLOCK, BLOCK)
    cancelled = [thing.read(access, 200 * MIB + step * BLOCK, BLOCK).cancel for step in range(24)]
    assert cancelled[0] == ()
    dropped = [span for spans in cancelled for span in spans]
    assert dropped
    assert all(4 * MIB <= span.start < span.stop <= 13 * MIB for span in dropped)


def test_closing_gives_up_the_read_ahead() -> None:
    thing = Object(256 * MIB)
    access = Access(thing.size)
    for step in range(32):
        thing.read(access, step * BLOCK, BLOCK)
    (span,) = access.on_close().cancel
    assert span.stop > 4 * MIB
    assert not access.reads_ahead


def test_a_small_window_bounds_units_and_read_ahead() -> None:
    thing = Object(64 * MIB)
    access = Access(thing.size)
    for step in range(128):
        plan = thing.read(access, step * BLOCK, BLOCK, window=256 * KIB)
        assert sum(map(len, plan.ahead + plan.demand)) <= 256 * KIB + 2 * BLOCK


def test_no_more_is_read_ahead_than_was_read_and_twice_that_of_long_runs() -> None:
    thing = Object(256 * MIB)
    access = Access(thing.size, Tuning())
    for step in range(200):
        thing.read(access, step * BLOCK, BLOCK)
        read_bytes = (step + 1) * BLOCK
        share = 2 if read_bytes < 2 * MIB else 3
        assert thing.asked <= share * read_bytes + MIB
