"""A budget of bytes in a sliding span of time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from up42fs.store.egress.budget import BUCKETS, Budget, EgressLimit

DAY = 86400.0
limits = st.builds(EgressLimit, st.integers(1, 10**12), st.sampled_from([3600.0, DAY, 7 * DAY]))
spending = st.lists(
    st.tuples(st.floats(0, 3 * DAY), st.integers(0, 10**9)), max_size=40
)  # seconds since the one before, bytes


@given(limits, spending, st.floats(1e9, 2e9))
def test_never_more_than_the_limit_in_any_span(
    limit: EgressLimit, spent: list, now_s: float
) -> None:
    """Whoever asks first never exceeds the limit by more than one request in a whole span."""
    budget = Budget(limit)
    paid: list[tuple[float, int]] = []
    for pause_s, count in spent:
        now_s += pause_s
        if budget.left(now_s) > 0:
            budget.spend(now_s, count)
            paid.append((now_s, count))
        span = [(t, n) for t, n in paid if now_s - t < limit.period_s]
        assert sum(n for _, n in span[:-1]) < limit.bytes or len(span) <= 1


@given(limits, spending, st.floats(1e9, 2e9))
def test_all_comes_back(limit: EgressLimit, spent: list, now_s: float) -> None:
    budget = Budget(limit)
    for pause_s, count in spent:
        now_s += pause_s
        budget.spend(now_s, count)
    free_s = budget.free_at_s(now_s)
    assert now_s <= free_s <= now_s + limit.period_s * (1 + 2 / BUCKETS)
    assert budget.left(free_s + 0.001) > 0
    assert budget.left(now_s + limit.period_s * (1 + 2 / BUCKETS)) == limit.bytes
    assert budget.spent() == {}


@given(limits, st.integers(1, 10**12))
def test_what_did_not_come_is_given_back(limit: EgressLimit, count: int) -> None:
    budget = Budget(limit)
    budget.spend(1e9, count)
    budget.spend(1e9 + 1, -count)
    assert budget.left(1e9 + 2) == limit.bytes


@given(limits, spending)
def test_it_goes_on_where_it_was(limit: EgressLimit, spent: list) -> None:
    budget = Budget(limit)
    now_s = 1e9
    for pause_s, count in spent:
        now_s += pause_s
        budget.spend(now_s, count)
    assert Budget(limit, budget.spent()).left(now_s) == budget.left(now_s)


def test_a_clock_set_back_does_not_lock_for_ever() -> None:
    budget = Budget(EgressLimit(100, DAY))
    budget.spend(2e9, 1000)
    assert budget.left(1e9) == 100
