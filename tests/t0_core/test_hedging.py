"""When a request lags: judged by what its host showed, and seldom acted upon."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from up42fs.net.hedging import BURST, FEWEST, FLOOR_S, MEMORY, SHARE, HostTimes

WAITS = st.floats(0.0, 30.0)


def test_nothing_is_a_lag_before_the_host_is_known() -> None:
    pace = HostTimes()
    for _ in range(FEWEST - 1):
        pace.note(0.05, 0.01)
    assert pace.limit_s(has_begun=False) is None
    pace.note(0.05, 0.01)
    assert pace.limit_s(has_begun=False) == FLOOR_S


def test_a_slow_host_is_given_its_time() -> None:
    pace = HostTimes()
    for _ in range(MEMORY):
        pace.note(2.0, 0.1)
    assert pace.limit_s(has_begun=False) == 8.0
    assert pace.limit_s(has_begun=True) == FLOOR_S
    for _ in range(MEMORY):
        pace.note(0.05, 0.1)
    assert pace.limit_s(has_begun=False) == FLOOR_S, "it is quick again"


@given(st.lists(st.tuples(WAITS, WAITS), min_size=FEWEST, max_size=200))
def test_at_most_a_tenth_of_what_was_seen_would_have_been_a_lag(
    seen: list[tuple[float, float]],
) -> None:
    pace = HostTimes()
    for first_s, gap_s in seen:
        pace.note(first_s, gap_s)
    for column, has_begun in ((0, False), (1, True)):
        limit_s = pace.limit_s(has_begun=has_begun)
        assert limit_s is not None
        assert limit_s >= FLOOR_S
        late = [one for one in seen[-MEMORY:] if one[column] > limit_s]
        assert len(late) <= 1 + 0.1 * min(len(seen), MEMORY)


@given(st.lists(st.one_of(st.tuples(WAITS, WAITS), st.booleans()), max_size=150))
def test_a_limit_is_of_all_that_was_seen_so_far(steps: list[tuple[float, float] | bool]) -> None:
    """Whether it was asked for in between or not."""
    pace = HostTimes()
    seen: list[tuple[float, float]] = []
    for step in steps:
        if isinstance(step, bool):
            fresh = HostTimes()
            for one in seen:
                fresh.note(*one)
            assert pace.limit_s(has_begun=step) == fresh.limit_s(has_begun=step)
        else:
            pace.note(*step)
            seen.append(step)


@given(st.lists(st.booleans(), max_size=500))
def test_second_requests_are_a_bounded_share(steps: list[bool]) -> None:
    pace, taken, noted = HostTimes(), 0, 0
    for is_answer in steps:
        if is_answer:
            pace.note(0.1, 0.1)
            noted += 1
        else:
            taken += pace.take()
        assert taken <= BURST + SHARE * noted + 1e-6
