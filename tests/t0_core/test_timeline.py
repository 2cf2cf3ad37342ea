"""Which bytes came when: bounded, and no byte forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from up42fs.ranges import RangeSet
from up42fs.timeline import MOST_MOMENTS, Timeline
from up42fs.types import ByteRange

GB = 1 << 30


@given(
    st.lists(
        st.tuples(st.integers(0, GB), st.integers(1, 1 << 22), st.floats(0, 3), st.floats(0, 1)),
        max_size=1500,
    )
)
def test_every_byte_is_kept_within_bounds(noted: list[tuple[int, int, float, float]]) -> None:
    line, came, now_s = Timeline(), RangeSet(), 0.0
    for start, length, pause_s, took_s in noted:
        now_s += pause_s
        span = ByteRange(start, start + length)
        came.add(span)
        line.note(span, now_s, now_s + took_s)
        assert len(line) <= MOST_MOMENTS
    kept = RangeSet(ByteRange(one.start, one.stop) for one in line)
    assert all(kept.covers(span) for span in came)
    assert all(one.began_s <= one.ended_s <= now_s + 1 for one in line)


def test_what_goes_on_is_one_moment_and_what_pauses_is_another() -> None:
    line = Timeline()
    line.note(ByteRange(0, 10), 0.0, 0.01)
    line.note(ByteRange(10, 20), 0.02, 0.03)
    line.note(ByteRange(20, 30), 5.0, 5.1)
    line.note(ByteRange(100, 110), 5.1, 5.2)
    assert line.since(0.0) == [[0.0, 0.03, 0, 20], [5.0, 5.1, 20, 30], [5.1, 5.2, 100, 110]]


def test_many_moments_keep_their_order() -> None:
    line = Timeline()
    for number in range(4 * MOST_MOMENTS):
        line.note(ByteRange(number * 10_000, number * 10_000 + 10), number, number + 0.5)
    began = [one.began_s for one in line]
    assert began == sorted(began)
    assert len(line) > MOST_MOMENTS // 2, "no more is merged than is needed"
