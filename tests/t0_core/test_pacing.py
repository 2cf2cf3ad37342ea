from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.net.pacing import LONGEST_PAUSE_S, Pace, Rate, plan_admission, plan_pause, retry_after_s

rates = st.builds(Rate, per_s=st.floats(0.5, 200), burst=st.integers(1, 50))
SLACK_S = 1e-6


@given(rates, st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_no_span_holds_more_than_the_burst_and_the_rate(rate: Rate, gaps_s: list[float]) -> None:
    pace, now_s, sent = Pace(), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        pace, send_at_s = plan_admission(pace, rate, now_s)
        assert send_at_s >= now_s
        sent.append(send_at_s)
    assert sent == sorted(sent)
    for first, start_s in enumerate(sent):
        for last in range(first, len(sent)):
            allowed = rate.burst + (sent[last] - start_s + SLACK_S) * rate.per_s
            assert last - first + 1 <= allowed + SLACK_S


@given(rates, st.floats(0, 1e6))
def test_an_idle_host_admits_a_whole_burst_at_once(rate: Rate, now_s: float) -> None:
    pace = Pace()
    for _ in range(rate.burst):
        pace, send_at_s = plan_admission(pace, rate, now_s)
        assert send_at_s == pytest.approx(now_s, abs=SLACK_S)
    _, send_at_s = plan_admission(pace, rate, now_s)
    assert send_at_s == pytest.approx(now_s + rate.interval_s, rel=1e-6, abs=SLACK_S)


@given(rates, st.floats(0, 100), st.floats(0.001, 59), st.integers(1, 60))
def test_a_pause_holds_everybody_and_lets_them_out_one_by_one(
    rate: Rate, now_s: float, pause_s: float, callers: int
) -> None:
    pace = plan_pause(Pace(), rate, now_s, pause_s)
    sent = []
    for _ in range(callers):
        pace, send_at_s = plan_admission(pace, rate, now_s)
        sent.append(send_at_s)
    assert sent[0] == pytest.approx(now_s + pause_s)
    for earlier_s, later_s in pairwise(sent):
        assert later_s - earlier_s == pytest.approx(rate.interval_s, rel=1e-3, abs=SLACK_S)


def test_pauses_do_not_shorten_one_another_and_are_capped() -> None:
    rate = Rate(10, 1)
    long = plan_pause(Pace(), rate, 0.0, 20.0)
    assert plan_pause(long, rate, 0.0, 5.0) == long
    assert plan_pause(Pace(), rate, 0.0, 86400.0).paused_until_s == LONGEST_PAUSE_S
    assert plan_pause(Pace(), rate, 0.0, 0.0) == Pace()
    assert plan_pause(Pace(), rate, 0.0, -3.0) == Pace()


NOW_S = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("header", "server_now_s", "wait_s"),
    [
        ("7", None, 7.0),
        (" 0 ", NOW_S, 0.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", NOW_S, 30.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", NOW_S, 0.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", None, None),
        ("-1", NOW_S, None),
        ("1.5", NOW_S, None),
        ("soon", NOW_S, None),
        ("", NOW_S, None),
        (None, NOW_S, None),
        ("٣", NOW_S, None),
    ],
)
def test_retry_after_is_read_by_the_servers_clock(
    header: str | None, server_now_s: float | None, wait_s: float | None
) -> None:
    assert retry_after_s(header, server_now_s) == wait_s


@given(st.text())
def test_no_retry_after_header_raises(header: str) -> None:
    found = retry_after_s(header, NOW_S)
    assert found is None or found >= 0
