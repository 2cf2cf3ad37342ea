"""Reads of bytes that were read before: planned later, and still in time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.ranges import RangeSet
from up42fs.readahead.plan import Access, Exact, Plan
from up42fs.readahead.tuning import KERNEL_READ_BYTES, MIB
from up42fs.types import ByteRange

PAGE = 4096
SIZE = 64 * MIB


class Reader:
    """One handle of a file of which memory has `have`: what it reads, and what is asked for."""

    def __init__(self, have: RangeSet) -> None:
        self.access = Access(SIZE)
        self.have = have
        self.read_before = RangeSet(have)
        self.plans: list[tuple[ByteRange, Plan]] = []

    def read(self, span: ByteRange) -> None:
        if self.read_before.covers(span) and self.access.reads_again(
            span.start, span.stop, self.have
        ):
            return
        plan = self.access.on_read(span, self.have, SIZE)
        self.plans.append((span, plan))
        wanted = RangeSet(self.have)
        for piece in (*plan.demand, *plan.ahead, *plan.guesses):
            assert wanted.missing(piece) == [piece], "all is missing, and nothing is asked twice"
            wanted.add(piece)
        for piece in plan.demand:
            self.have.add(piece)
        assert self.have.covers(span)
        self.have = wanted
        self.read_before.add(span)


def test_read_ahead_begins_before_the_known_bytes_end() -> None:
    known = 8 * MIB
    reader = Reader(RangeSet([ByteRange(0, known)]))
    for start in range(0, known + 2 * MIB, PAGE):
        reader.read(ByteRange(start, start + PAGE))
    assert not any(plan.demand for _, plan in reader.plans)
    began = next(span.start for span, plan in reader.plans if plan.ahead)
    assert began < known - MIB
    in_known = [span for span, _ in reader.plans if span.stop <= known]
    assert len(in_known) <= known // KERNEL_READ_BYTES + 1


def test_reads_here_and_there_need_no_plan() -> None:
    reader = Reader(RangeSet([ByteRange(0, SIZE)]))
    for number in range(1000):
        start = number * 7919 % (SIZE // PAGE) * PAGE
        reader.read(ByteRange(start, start + PAGE))
    assert reader.plans == []
    assert len(reader.access._again) <= 8


@pytest.mark.parametrize("size", [PAGE, 16 * PAGE, KERNEL_READ_BYTES, MIB])
def test_a_file_that_memory_holds_whole_is_read_without_plans(size: int) -> None:
    reader = Reader(RangeSet([ByteRange(0, SIZE)]))
    for _ in range(2):
        for start in range(0, 8 * MIB, size):
            reader.read(ByteRange(start, start + size))
    assert reader.plans == []
    # A part is evicted, and read ahead again in time.
    reader.have.discard(ByteRange(10 * MIB, SIZE))
    for start in range(8 * MIB, 12 * MIB, size):
        reader.read(ByteRange(start, start + size))
    assert not any(plan.demand for _, plan in reader.plans)


def test_an_exact_handle_never_needs_one() -> None:
    access, have = Exact(SIZE), RangeSet([ByteRange(0, MIB)])
    assert all(access.reads_again(start, start + PAGE, have) for start in range(0, MIB, PAGE))


spans = st.builds(
    lambda page, pages: ByteRange(page * PAGE, (page + pages) * PAGE),
    st.integers(0, 3000),
    st.integers(1, 40),
)


@given(st.lists(spans, max_size=4), st.lists(spans | st.integers(1, 60), max_size=40))
def test_every_missing_byte_is_asked_for_once(
    known: list[ByteRange], reads: list[ByteRange | int]
) -> None:
    """Whatever is read again in between; a number is so many pages in order."""
    reader, at = Reader(RangeSet(known)), 0
    for read in reads:
        if isinstance(read, ByteRange):
            reader.read(read)
            at = read.stop
            continue
        for start, stop in itertools.pairwise(range(at, at + (read + 1) * PAGE, PAGE)):
            reader.read(ByteRange(start, stop))
        at += read * PAGE
