"""How packed bytes are requested: the first request alone, then so that the line is never idle."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.ranges import RangeSet
from up42fs.readahead.plan import Plan
from up42fs.store.members.inflate.inflow import (
    AHEAD_BYTES,
    COMING_BYTES,
    LAST_BYTES,
    LEAST_BYTES,
    LEAST_STEP_BYTES,
    MIB,
    PART_BYTES,
    STEP_BYTES,
    Passing,
)
from up42fs.types import ByteRange

ROUND_TRIP_S = 0.05


class Line:
    """A line that all requests share evenly, each a round trip after it was sent."""

    def __init__(self, bytes_s: float) -> None:
        self.now_s = self.idle_s = 0.0
        self.requests: list[ByteRange] = []
        self._bytes_s = bytes_s
        self._open: list[tuple[float, ByteRange, list[float]]] = []  # from when, what, arrived

    def send(self, span: ByteRange) -> None:
        self.requests.append(span)
        self._open.append((self.now_s + ROUND_TRIP_S, span, [0.0]))

    def arrived(self, span: ByteRange) -> int:
        """Bytes of `span` that have arrived."""
        ends = [ByteRange(one.start, one.start + int(n[0])) for _, one, n in self._open if n[0] > 1]
        return sum(max(0, min(end.stop, span.stop) - max(end.start, span.start)) for end in ends)

    def first_hole(self, at: int) -> int:
        """The offset up to which all bytes from `at` on have arrived."""
        for _, one, count in sorted(self._open, key=lambda each: each[1].start):
            if one.start <= at < one.stop:
                at = one.start + int(count[0])
                if at < one.stop:
                    break
        return at

    def step(self, seconds: float) -> None:
        self.now_s += seconds
        flowing = [
            (one, count)
            for from_s, one, count in self._open
            if from_s <= self.now_s and count[0] < len(one)
        ]
        self.idle_s += seconds if not flowing else 0
        for one, count in flowing:
            count[0] = min(len(one), count[0] + self._bytes_s * seconds / len(flowing))


def read_through(line: Line, size: int, *, window: int = 88 * MIB) -> Passing:
    """Read `[0, size)` as an inflater does that is faster than the line."""
    plan, have, at = Passing(size), RangeSet(), 0
    plan.limit = size
    while at < size:
        here = line.arrived(ByteRange(at, max(plan.asked_up_to, at + 1)))
        plan.coming = max(0, plan.asked_up_to - at - here)
        assert plan.coming <= COMING_BYTES
        read = ByteRange(at, min(size, at + min(STEP_BYTES, max(here, LEAST_STEP_BYTES))))
        made = plan.on_read(read, have, window)
        for span in (*made.demand, *made.ahead):
            assert have.missing(span) == [span], "nothing is requested twice"
            assert span.stop <= size
            have.add(span)
            line.send(span)
        assert not have.missing(read)
        assert plan.asked_up_to - at <= max(AHEAD_BYTES, PART_BYTES)
        while line.first_hole(at) < read.stop:
            line.step(0.002)
        at = read.stop
    return plan


@pytest.mark.claim("S256")
@pytest.mark.parametrize("mbytes_s", [2, 25, 60, 120])
def test_the_line_is_never_idle_once_bytes_come(mbytes_s: int) -> None:
    line = Line(mbytes_s * 1e6)
    read_through(line, 60 * MIB)
    # Only before the first bytes, and once more while the second request is on its way.
    assert line.idle_s <= 2 * ROUND_TRIP_S + 0.01
    assert line.now_s <= 1.03 * 60 * MIB / (mbytes_s * 1e6) + 2 * ROUND_TRIP_S + 0.02
    assert max(map(len, line.requests)) <= PART_BYTES
    assert len(line.requests) <= 2 * 60 // 4


@pytest.mark.claim("S256")
def test_the_first_request_is_alone_until_its_bytes_come() -> None:
    plan, have = Passing(100 * MIB), RangeSet()
    plan.limit = 90 * MIB
    first = plan.on_read(ByteRange(7, 37), have, 88 * MIB)
    assert first.demand == (ByteRange(7, 7 + PART_BYTES),)
    assert not first.ahead
    have.add(first.demand[0])
    plan.coming = PART_BYTES - 64
    again = plan.on_read(ByteRange(37, 37 + LEAST_STEP_BYTES), have, 88 * MIB)
    assert not again.demand
    assert not again.ahead, "little has come"
    plan.coming = PART_BYTES // 2
    more = plan.on_read(ByteRange(2 * MIB, 2 * MIB + STEP_BYTES), have, 88 * MIB)
    assert sum(map(len, more.ahead)) <= 2 * PART_BYTES


@pytest.mark.claim("S405")
def test_what_may_be_wanted_next_is_requested_when_little_is_to_come() -> None:
    plan, have = Passing(100 * MIB), RangeSet()
    plan.limit, plan.spare = 3 * MIB, 2 * MIB
    first = plan.on_read(ByteRange(0, 64), have, 88 * MIB)
    assert first.demand == (ByteRange(0, 3 * MIB),), "the reader's bytes have the line first"
    have.add(first.demand[0])
    plan.coming = LAST_BYTES + 1
    at = 3 * MIB - plan.coming
    assert plan.on_read(ByteRange(at, at + STEP_BYTES), have, 88 * MIB) == Plan()
    plan.coming = LAST_BYTES
    more = plan.on_read(ByteRange(at + 1, at + STEP_BYTES), have, 88 * MIB)
    assert more.ahead == (ByteRange(3 * MIB, 5 * MIB),)
    have.add(more.ahead[0])
    plan.coming = 2 * MIB
    again = plan.on_read(ByteRange(3 * MIB - 9, 3 * MIB), have, 88 * MIB)
    assert again == Plan(), "once, for readers that do not go on"


@pytest.mark.claim("S405")
@pytest.mark.parametrize("rest", [1, 30_000, LEAST_BYTES - 1])
def test_no_rest_before_the_end_is_left_for_another_round_trip(rest: int) -> None:
    end, read = 3 * MIB, ByteRange(0, 64)
    # The estimate was short of the end, and grows while bytes come.
    plan, have = Passing(100 * MIB), RangeSet()
    plan.limit, plan.end = end - rest, end
    have.add(plan.on_read(read, have, 88 * MIB).demand[0])
    plan.coming, plan.limit = MIB, end
    more = plan.on_read(ByteRange(2 * MIB, 2 * MIB + STEP_BYTES), have, 88 * MIB)
    assert more.ahead == (ByteRange(end - rest, end),)


def test_a_short_way_is_one_request() -> None:
    plan = Passing(100 * MIB)
    plan.limit = 5 * MIB + 700_000
    made = plan.on_read(ByteRange(5 * MIB, 5 * MIB + 30), RangeSet(), 88 * MIB)
    assert made.demand == (ByteRange(5 * MIB, 5 * MIB + 700_000),)
    assert not made.ahead


@given(
    size=st.integers(1, 40 * MIB),
    window=st.sampled_from([128 << 10, MIB, 24 * MIB, 88 * MIB]),
    seed=st.integers(0, 1000),
)
def test_what_is_read_is_requested_once_and_nothing_beyond_the_limit(
    size: int, window: int, seed: int
) -> None:
    chance = random.Random(seed)
    plan, have, at = Passing(size), RangeSet(), chance.randrange(size)
    start, most = at, at
    while at < size:
        read = ByteRange(at, min(size, at + chance.randrange(1, 512 << 10)))
        plan.limit = min(size, read.stop + chance.randrange(0, 8 * MIB))
        plan.coming = chance.randrange(0, max(1, plan.asked_up_to - at))
        most = max(most, plan.limit, read.stop, start + PART_BYTES if not have.total else 0)
        # The rest before the end is not worth a request of its own.
        most = size if size - most < LEAST_BYTES else most
        made = plan.on_read(read, have, window)
        for span in (*made.demand, *made.ahead):
            assert have.missing(span) == [span]
            assert span.stop <= min(most, size)
            have.add(span)
        assert not have.missing(read)
        if chance.random() < 0.1:
            have.discard(ByteRange(read.stop, read.stop + MIB))  # evicted, or failed
        at = read.stop
        if chance.random() < 0.05:
            at += chance.randrange(0, 8 * MIB)
    for span in plan.on_close().cancel:
        assert span.stop <= size
