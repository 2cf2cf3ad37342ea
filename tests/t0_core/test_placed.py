"""A file within an object is planned as the same file alone; its local header comes with it."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.ranges import RangeSet, coalesce, subtract
from up42fs.readahead.neighbours import CELL_BYTES, LEAST_BYTES, MOST_BYTES, USUAL_BYTES, Neighbours
from up42fs.readahead.placed import HEADER_BYTES, LOCAL_BYTES, FirstReach, Placed, around, moved
from up42fs.readahead.plan import Access, Exact, Plan
from up42fs.readahead.tuning import KIB, MIB
from up42fs.types import ByteRange

SIZES = st.integers(1, 40 * MIB)
BASES = st.integers(0, 1 << 40)


def taken(plan: Plan) -> list[ByteRange]:
    return [*plan.demand, *plan.ahead, *plan.guesses]


@pytest.mark.claim("S230")
@given(SIZES, BASES, st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(1, 300 * KIB))))
def test_every_plan_is_that_of_the_file_alone(
    size: int, base: int, reads: list[tuple[int, int]]
) -> None:
    alone, have, placed_have = Access(size), RangeSet(), RangeSet()
    placed = Placed(Access(size), base)
    for offset, count in reads:
        start = offset % size
        read = ByteRange(start, min(start + count, size))
        plan = alone.on_read(read, have, 64 * MIB)
        within = placed.on_read(moved(read, base), placed_have, 64 * MIB)
        for name in ("demand", "ahead", "guesses", "cancel", "keep"):
            shifted = tuple(moved(one, base) for one in getattr(plan, name))
            assert getattr(within, name) == shifted
        for one in taken(plan):
            have.add(one)
            placed_have.add(moved(one, base))
        assert alone.reads_again(read.start, read.stop, have) == placed.reads_again(
            read.start + base, read.stop + base, placed_have
        )
    assert placed.on_close().cancel == tuple(moved(one, base) for one in alone.on_close().cancel)


@given(
    SIZES,
    st.integers(0, 1 << 34),
    st.integers(LOCAL_BYTES, HEADER_BYTES),
    st.integers(0, 1 << 30),
    st.integers(1, 300 * KIB),
    st.sampled_from([Access, Exact]),
)
def test_the_first_reach_holds_what_the_first_read_needs(
    size: int, header_at: int, header: int, offset: int, count: int, kind: type[Access]
) -> None:
    base = header_at + header
    archive_size = base + size + 22
    wanted = ByteRange(offset % size, min(offset % size + count, size))
    access = kind(size)
    reach = FirstReach(
        header_at, archive_size, access=access.twin(), wanted=wanted, window_bytes=MIB
    )
    have = RangeSet()
    plan = reach.on_read(reach.header, have, 0)
    spans = taken(plan)
    assert sum(map(len, spans)) == sum(map(len, coalesce(spans)))  # nothing twice
    assert all(span.stop <= archive_size for span in spans)
    assert plan.demand[0].start == header_at
    for span in spans:
        have.add(span)
    assert Placed(access, base).on_read(moved(wanted, base), have, MIB).demand == ()
    alone = Access(size) if kind is Access else Exact(size)
    asked = sum(map(len, taken(alone.on_read(wanted, RangeSet(), MIB))))
    assert sum(map(len, spans)) <= asked + 2 * HEADER_BYTES


@given(
    st.integers(0, 1 << 30), SIZES, st.lists(st.tuples(st.integers(0, MIB), st.integers(1, MIB)))
)
def test_around_holds_the_spans_wherever_the_data_begins(
    header_at: int, size: int, pairs: list[tuple[int, int]]
) -> None:
    spans = [ByteRange(start, start + length) for start, length in pairs]
    found = around(header_at, spans, header_at + size)
    bounds = [ByteRange(header_at + size, 1 << 50)]
    for base in (header_at + LOCAL_BYTES, header_at + HEADER_BYTES):
        for span in spans:
            for piece in subtract(moved(span, base), bounds):
                assert subtract(piece, found) == []


@st.composite
def folders(draw: st.DrawFn) -> tuple[list[ByteRange], int]:
    sizes = draw(st.lists(st.integers(100, 60_000), min_size=2, max_size=120))
    members, at = [], draw(st.integers(0, MIB))
    for size in sizes:
        members.append(ByteRange(at, at + size))
        at += size
    return members, at + draw(st.integers(0, 4 * MIB))


@pytest.mark.claim("S235")
@given(folders(), st.randoms(use_true_random=False), st.sampled_from(["up", "down", "any", "some"]))
def test_neighbours_waste_no_more_than_was_read(
    folder: tuple[list[ByteRange], int], chance: random.Random, order: str
) -> None:
    members, size = folder
    have, neighbours, requests, read_bytes = RangeSet(), Neighbours(size), 0, 0
    if order == "down":
        members = members[::-1]
    elif order == "any":
        chance.shuffle(members)
    elif order == "some":
        members = sorted(chance.sample(members, chance.randrange(1, len(members))))
    visits = Counter[int]()
    for member in members:
        neighbours.note(member)
        visits.update(range(member.start // CELL_BYTES, member.stop // CELL_BYTES + 1))
        read_bytes += len(member)
        for hole in have.missing(member):
            grown = neighbours.grown(hole, have)
            assert grown.start <= hole.start
            assert hole.stop <= grown.stop <= size
            assert have.missing(grown) == [grown]
            have.add(grown)
            requests += 1
        beyond = have.total - read_bytes
        twice = sum(count > 1 for count in visits.values()) if order in ("any", "some") else 0
        assert beyond <= max(read_bytes, USUAL_BYTES) + (2 + twice) * CELL_BYTES
        assert have.total <= read_bytes + requests * MOST_BYTES
    if order in ("up", "down"):
        assert requests <= 2 + (read_bytes // LEAST_BYTES).bit_length()
    if order == "any":
        assert requests <= 14


@given(st.integers(1, 5), st.integers(2 * MIB, 9 * MIB))
def test_members_far_apart_come_alone(count: int, apart: int) -> None:
    neighbours, have = Neighbours(1 << 40), RangeSet()
    for number in range(count):
        member = ByteRange(number * apart, number * apart + 5000)
        neighbours.note(member)
        assert neighbours.grown(member, have) == member
        have.add(member)


def test_a_member_read_again_is_no_neighbour() -> None:
    neighbours, member = Neighbours(MIB), ByteRange(0, 5000)
    for _ in range(5):
        neighbours.note(member)
    assert neighbours.grown(member, RangeSet()) == member
