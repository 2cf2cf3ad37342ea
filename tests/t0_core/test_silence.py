"""Whether a call waits in full for a host that answered nothing before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.errors import (
    DamagedArchive,
    DeadlineExceeded,
    NotADirectory,
    Offline,
    StillReading,
    Unavailable,
    Up42fsError,
)
from up42fs.net.silence import AGAIN_S, BRIEFLY_S, MOST_SLOW, SLOW_S, Silence

SILENT = DeadlineExceeded("stopped sending")
FULL_S = 25.0
#: Of hosts that answer.
ANSWERED = NotADirectory, DamagedArchive, StillReading
errors = st.sampled_from([SILENT, Unavailable("503"), *(kind("so") for kind in ANSWERED)])


@pytest.mark.claim("S386")
@given(st.integers(1, 3000), st.floats(0, 0.1))
def test_a_walk_waits_twice_and_once_more_every_half_minute(calls: int, pause_s: float) -> None:
    silence, now_s, in_full, brief_s = Silence(), 0.0, 0, 0.0
    for _ in range(calls):
        now_s += pause_s
        if silence.told(now_s) is None:
            in_full += 1
            silence.ended(now_s, now_s + FULL_S, SILENT)
            now_s += FULL_S
        else:
            now_s += BRIEFLY_S
            brief_s += BRIEFLY_S + pause_s
    assert in_full <= MOST_SLOW + brief_s / AGAIN_S
    assert in_full >= min(calls, MOST_SLOW)


@given(
    st.lists(
        st.tuples(st.floats(0, 60), st.floats(0, 30), st.one_of(st.none(), errors)), max_size=30
    )
)
def test_only_slow_failures_in_a_row_shorten_a_wait(
    calls: list[tuple[float, float, Up42fsError | None]],
) -> None:
    silence, now_s, row = Silence(), 0.0, 0
    last_s = 0.0
    for pause_s, took_s, error in calls:
        now_s += pause_s
        told = silence.told(now_s)
        assert (told is not None) == (row >= MOST_SLOW and now_s - last_s <= AGAIN_S)
        if told is not None:
            continue
        silence.ended(now_s, now_s + took_s, error)
        now_s += took_s
        is_vain = error is not None and not isinstance(error, ANSWERED)
        row = row + 1 if is_vain and took_s > SLOW_S else 0
        last_s = now_s


def test_no_network_at_all_is_told_at_once_and_needs_no_patience() -> None:
    silence = Silence()
    for second in range(10):
        silence.ended(second, second + 0.2, Offline("no route"))
        assert silence.told(second) is None


def test_an_answer_ends_it() -> None:
    silence = Silence()
    for _ in range(MOST_SLOW):
        silence.ended(0, 25, SILENT)
    assert silence.told(26) is SILENT
    silence.ended_early(SILENT)
    assert silence.told(26) is SILENT
    silence.ended_early()
    assert silence.told(27) is None
