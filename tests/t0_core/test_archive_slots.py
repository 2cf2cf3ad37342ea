"""Seek points on disk: their slots, the pieces that they check, and which start serves a reader."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.archive.points import span_bytes
from up42fs.archive.slots import (
    MIB,
    PIECE_BYTES,
    SLOT_BYTES,
    State,
    States,
    choose,
    decode,
    encode,
    slot_of,
    slots_bytes,
)

offsets = st.integers(0, 1 << 40)


@st.composite
def points(draw: st.DrawFn) -> State:
    after = draw(offsets)
    length = draw(st.integers(1, 24 * MIB))
    data_at = draw(offsets)
    count = -(-length // PIECE_BYTES)
    checks = draw(st.lists(st.integers(0, 2**32 - 1), min_size=count, max_size=count))
    return State(
        after + length, data_at + draw(offsets), data_at, draw(st.integers(0, 7)),
        draw(st.integers(0, 255)), draw(st.binary(min_size=1, max_size=32768)),
        draw(st.integers(0, 2**32 - 1)), after, PIECE_BYTES,
        tuple(checks) if draw(st.booleans()) else (),
    )  # fmt: skip


@given(points())
def test_a_slot_holds_a_point(point: State) -> None:
    slot = encode(point)
    assert len(slot) == SLOT_BYTES
    assert decode(slot) == point


@pytest.mark.claim("S205")
@given(st.binary(max_size=200), st.integers(0, SLOT_BYTES - 1), points())
def test_no_slot_makes_an_impossible_point(noise: bytes, at: int, point: State) -> None:
    slot = bytearray(encode(point))
    slot[at : at + len(noise)] = noise
    found = decode(bytes(slot[:SLOT_BYTES]))
    if found is not None:
        assert 0 <= found.after < found.out_at
        assert found.data_at <= found.in_at
        assert len(found.window) <= 32768
        assert len(found.checks) <= 192
    assert decode(bytes(noise)) is None
    assert decode(bytes(SLOT_BYTES)) is None


def test_more_checks_than_a_slot_holds_are_left_out() -> None:
    point = State(400 * PIECE_BYTES, 9, 9, checks=(7,) * 400, window=b"x")
    assert decode(encode(point)) == replace(point, checks=())


@given(st.integers(0, 1 << 44))
def test_slots_are_few(size: int) -> None:
    span = span_bytes(size)
    # Room for points costs at most a fiftieth of the member, but for one slot.
    assert slots_bytes(size, span) <= size // 50 + SLOT_BYTES


@given(st.lists(st.integers(1, 500), unique=True), st.integers(0, 600))
def test_points_are_found_by_offset(places: list[int], at: int) -> None:
    index = States(State(place, place, 0, window=b"w") for place in places)
    below = [place for place in sorted(places) if place <= at]
    above = [place for place in sorted(places) if place > at]
    before, after = index.before(at), index.after(at)
    assert (before.out_at if before else None) == (below[-1] if below else None)
    assert (after.out_at if after else None) == (above[0] if above else None)
    assert len(index) == len(places)
    assert all(not point.window for point in index)
    for place in places:
        index.discard(place)
    assert index.last is None


@given(st.integers(1, 5 * MIB), st.integers(0, 6 * MIB))
def test_every_offset_between_two_points_has_one_piece(length: int, at: int) -> None:
    start = MIB + 7
    count = -(-length // PIECE_BYTES)
    point = State(start + length, 5, 0, after=start, checks=tuple(range(count)))
    piece = States([point]).piece(at)
    if not start <= at < start + length:
        assert piece is None
        return
    assert piece is not None
    assert piece.start <= at < piece.stop <= start + length
    assert piece.start == start + piece.crc32 * PIECE_BYTES
    assert piece.stop - piece.start == PIECE_BYTES or piece.stop == start + length


@given(
    st.integers(0, 100), st.lists(st.integers(0, 100)), st.none() | st.integers(0, 100),
    st.integers(1, 50),
)  # fmt: skip
def test_the_nearest_start_wins_unless_waiting_costs_less_than_a_span(
    at: int, running: list[int], point_at: int | None, span: int
) -> None:
    if point_at is not None and point_at > at:
        point_at = None
    start = choose(at, running, point_at, span)
    usable = [one for one in [*running, *([] if point_at is None else [point_at])] if one <= at]
    assert (start is None) == (not usable)
    if start is None:
        return
    assert start in usable
    best = max(usable)
    assert start == best or (start in running and at - start < span)


def test_slots_of_points_a_span_apart_differ() -> None:
    span = span_bytes(0)
    places = [span + 5, 2 * span + 6, 3 * span + 6]
    assert len({slot_of(place, span) for place in places}) == 3
