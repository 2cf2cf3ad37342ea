"""Range arithmetic against plain sets of integers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.ranges import RangeSet, align, coalesce, divide, intersect, split, subtract
from up42fs.types import ByteRange

LIMIT = 60


@st.composite
def spans(draw: st.DrawFn) -> ByteRange:
    start = draw(st.integers(0, LIMIT - 1))
    return ByteRange(start, draw(st.integers(start + 1, LIMIT)))


def offsets(*ranges: ByteRange) -> set[int]:
    return {offset for r in ranges for offset in range(r.start, r.stop)}


def assert_sorted_and_apart(ranges: list[ByteRange], *, least_gap: int = 1) -> None:
    for one, other in itertools.pairwise(ranges):
        assert one.stop + least_gap <= other.start


@given(spans(), st.integers(1, 17), st.integers(0, 20))
def test_align_covers_and_grows_by_less_than_a_unit(r: ByteRange, unit: int, beyond: int) -> None:
    size = r.stop + beyond
    grown = align(r, unit, size)
    assert offsets(r) <= offsets(grown)
    assert grown.start % unit == 0
    assert grown.stop % unit == 0 or grown.stop == size
    assert r.start - grown.start < unit
    assert grown.stop - r.stop < unit


@given(spans(), st.integers(1, 17))
def test_split_partitions_at_multiples(r: ByteRange, most: int) -> None:
    pieces = split(r, most)
    assert sum(map(len, pieces)) == len(r)
    assert pieces[0].start == r.start
    assert pieces[-1].stop == r.stop
    for one, other in itertools.pairwise(pieces):
        assert one.stop == other.start
        assert one.stop % most == 0
    assert max(map(len, pieces)) <= most


@given(spans(), spans())
def test_intersect(one: ByteRange, other: ByteRange) -> None:
    both = intersect(one, other)
    assert (offsets(both) if both else set()) == offsets(one) & offsets(other)


@given(st.lists(spans(), max_size=8), st.integers(0, 5))
def test_coalesce_fills_only_gaps_up_to_the_limit(ranges: list[ByteRange], gap: int) -> None:
    joined = coalesce(ranges, gap)
    assert offsets(*ranges) <= offsets(*joined)
    assert_sorted_and_apart(joined, least_gap=gap + 1)
    if gap == 0:
        assert offsets(*joined) == offsets(*ranges)


@given(spans(), st.lists(spans(), max_size=8))
def test_subtract(r: ByteRange, others: list[ByteRange]) -> None:
    left = subtract(r, others)
    assert offsets(*left) == offsets(r) - offsets(*others)
    assert_sorted_and_apart(left)


steps = st.lists(st.tuples(st.booleans(), spans()), max_size=30)


@given(steps, spans())
def test_range_set_is_a_set_of_offsets(changes: list[tuple[bool, ByteRange]], r: ByteRange) -> None:
    held = RangeSet()
    model: set[int] = set()
    for adding, span in changes:
        if adding:
            held.add(span)
            model |= offsets(span)
        else:
            held.discard(span)
            model -= offsets(span)
        assert offsets(*held) == model
        assert_sorted_and_apart(list(held))
        assert held.total == len(model)
        assert bool(held) == bool(model)
    assert offsets(*held.missing(r)) == offsets(r) - model
    assert held.covers(r) == (offsets(r) <= model)
    assert list(RangeSet(held)) == list(held)
    held.clear()
    assert not held
    assert held.missing(r) == [r]


@given(spans(), st.integers(1, 40))
def test_divided_pieces_are_few_and_alike(span: ByteRange, most: int) -> None:
    pieces = divide(span, most)
    assert offsets(*pieces) == offsets(span)
    assert len(pieces) == -(-len(span) // most)
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def test_units_must_be_positive() -> None:
    with pytest.raises(ValueError, match="not a unit"):
        align(ByteRange(0, 1), 0, 1)
    with pytest.raises(ValueError, match="not a length"):
        split(ByteRange(0, 1), 0)
    with pytest.raises(ValueError, match="not a length"):
        divide(ByteRange(0, 1), 0)
