"""Jumps by like distances are foretold; nothing else is."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs.readahead.jumps import STEPS, Stride


@given(
    st.fractions(min_value=Fraction(3, 2), max_value=200, max_denominator=999),
    st.fractions(min_value=0, max_value=500, max_denominator=97),
    st.integers(STEPS + 1, 120),
    st.integers(1, 30),
)
@settings(max_examples=300)
def test_thinned_rows_are_foretold(step: Fraction, start: Fraction, seen: int, ahead: int) -> None:
    """`floor(a + i * n)`: the position to come lies in the span foretold, of few rows."""
    stride = Stride()
    for index in range(seen):
        position = int(start + index * step)
        if index and position - int(start + (index - 1) * step) <= 1:
            return  # steps of one row are a run
        stride.observe(position, 1)
    foretold = stride.coming(ahead)
    assert foretold is not None
    low, high = foretold
    assert low <= int(start + (seen - 1 + ahead) * step) <= high
    if seen > 2 * ahead:
        assert high - low <= 4


@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_few_like_steps_foretell_nothing(positions: list[int]) -> None:
    stride = Stride()
    for position in positions:
        stride.observe(position, 1)
        foretold = stride.coming(1)
        assert (foretold is None) == (stride.steps < STEPS)
        if foretold is not None:
            assert foretold[0] >= position
    for _ in range(2):
        stride.observe(0, 1)  # backwards, or again
    assert stride.coming(1) is None


def test_another_step_begins_anew() -> None:
    stride = Stride()
    for position in (0, 10, 20, 30, 40):
        stride.observe(position, 1)
    assert stride.coming(1) == (49, 51)
    stride.observe(140, 1)
    assert stride.coming(1) is None
    for position in (240, 340):
        stride.observe(position, 1)
    assert stride.coming(1) == (439, 441)
