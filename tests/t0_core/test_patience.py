"""How long a reader waits for a packed member, by the rate at which bytes flow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from up42fs.store.members.inflate.patience import (
    LEAST_S,
    LONGEST_S,
    Flow,
    is_too_long,
    lacking_s,
)

rates = st.floats(1e3, 1e9)


@given(st.integers(0, 1 << 40), rates, st.floats(0, 200))
def test_a_reader_waits_exactly_if_its_bytes_come_in_time(
    to_go: int, rate: float, waited_s: float
) -> None:
    assert is_too_long(to_go, rate, waited_s) == (waited_s + to_go / rate > LONGEST_S)


@given(st.integers(0, 1 << 40), st.floats(0, 1000))
def test_without_a_rate_it_waits(to_go: int, waited_s: float) -> None:
    assert not is_too_long(to_go, None, waited_s)


@given(rates, st.floats(LEAST_S, 300), st.floats(0.05, 2.5), st.floats(0, 1e6))
def test_an_even_flow_is_measured(
    rate: float, for_s: float, every_s: float, began_s: float
) -> None:
    flow = Flow()
    now_s, at = began_s, 0
    while now_s - began_s <= for_s:
        flow.note(now_s, at)
        assert now_s - began_s >= LEAST_S or flow.bytes_s(now_s) is None
        now_s += every_s
        at = int(rate * (now_s - began_s))
    flow.note(now_s, at)
    measured = flow.bytes_s(now_s)
    assert measured is not None
    assert abs(measured - rate) <= 0.01 * rate + 1


def test_a_silent_line_is_not_measured_and_then_anew() -> None:
    flow = Flow()
    for second in range(6):
        flow.note(second, second * 1000)
    assert flow.bytes_s(5) == 1000
    assert flow.bytes_s(7.9) is not None
    assert flow.bytes_s(8.1) is None
    flow.note(40, 6000)  # a rest lies between
    assert flow.bytes_s(41) is None
    flow.begin()
    assert flow.bytes_s(100) is None
    assert lacking_s(10, None) is None
