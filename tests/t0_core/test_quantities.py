"""Sizes and spans of time as people write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.config.quantities import (
    DAY_S,
    MIB,
    parse_size,
    parse_span_s,
    show_count,
    show_size,
    show_span,
)


@pytest.mark.claim("S156")
@pytest.mark.parametrize(
    ("text", "size"),
    [("4G", 4 << 30), ("4g", 4 << 30), ("4GiB", 4 << 30), ("4 GB", 4 << 30), ("1m", 1 << 20),
     ("512", 512), ("512B", 512), ("1.5k", 1536), ("0", 0), (" 10M ", 10 << 20), (".5K", 512)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.claim("S156")
@pytest.mark.parametrize(
    ("text", "span_s"),
    [("90", 90), ("90s", 90), ("1m", 60), ("1 min", 60), ("1h30m", 5400), ("2 days", 172800),
     ("1w", 604800), ("500ms", 0.5), ("1e3", 1000), ("1H", 3600), ("1 hour 5 seconds", 3605)],
)  # fmt: skip
def test_spans(text: str, span_s: float) -> None:
    assert parse_span_s(text) == span_s


def test_bare_numbers_count_in_the_settings_own_unit() -> None:
    assert parse_size("256", MIB) == parse_size("256M", MIB) == 256 << 20
    assert parse_size("256B", MIB) == 256
    assert parse_span_s("30", DAY_S) == parse_span_s("30d") == 30 * DAY_S


@pytest.mark.parametrize(
    "text", ["", " ", "G", "-1", "-5G", "10X", "inf", "nan", "1e400", "1e300T", "0x10", "1,5", "४"]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_size(text)


@pytest.mark.parametrize("text", ["", " ", "s", "-1", "-1s", "soon", "1y", "1 5", "inf", "1e400s"])
def test_no_spans(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_span_s(text)


@given(st.integers(0, 1 << 53))
def test_what_is_shown_is_read_again(size: int) -> None:
    assert parse_size(show_size(size)) == size


@given(st.integers(1, 999_999))
def test_spans_shown_are_read_again(span_s: int) -> None:
    assert parse_span_s(show_span(float(span_s))) == span_s


@given(st.text(max_size=40) | st.text("0123456789.ekmgtsdhw -", max_size=40))
def test_no_text_makes_them_fail_otherwise(text: str) -> None:
    for read in (parse_size, parse_span_s):
        with suppress(ValueError):
            assert read(text) >= 0


@pytest.mark.parametrize(("count", "shown"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows")])
def test_counts(count: int, shown: str) -> None:
    assert show_count(count, "row") == shown
