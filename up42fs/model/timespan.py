"""Spans of time as people write them: `2024`, `2024-05`, `2024-05-01..2024-06-01`, `..2024-06-01`.

A literal means all of its year, month, day, minute or second, so both ends of a range are within
it. Spans are half-open, in UTC; a literal without an offset is UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_LITERAL = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)"
    r"(?P<time>T\d\d:\d\d(?P<second>:\d\d(?P<fraction>\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII | re.IGNORECASE,
)
_DAY, _MINUTE = timedelta(days=1), timedelta(minutes=1)
_SECOND, _INSTANT = timedelta(seconds=1), timedelta(microseconds=1)
_OPEN = ".."
_FIRST_MOMENT = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """All moments in `[start, stop)`, in UTC; None is an open end. At most one of them is None."""

    start: datetime | None
    stop: datetime | None

    def __post_init__(self) -> None:
        if self.start is None and self.stop is None:
            raise ValueError("all of time is no span")
        if self.start is not None and self.stop is not None and self.start >= self.stop:
            raise ValueError("a span ends after it begins")
        if self.stop == _FIRST_MOMENT:
            raise ValueError("nothing is before the year 1")

    def __str__(self) -> str:
        """The shortest common spelling; `parse_span` of it is this span."""
        first = "" if self.start is None else _literal(self.start, _unit(self.start))
        last = ""
        if self.stop is not None:
            unit = _unit(self.stop)
            last = _literal(self.stop - unit, unit)
        return first if first == last else f"{first}{_OPEN}{last}"

    def stac(self) -> str:
        """The span as STAC's `datetime` parameter, whose ends are both included."""
        first = _OPEN if self.start is None else _rfc3339(self.start)
        last = _OPEN if self.stop is None else _rfc3339(self.stop - _INSTANT)
        return f"{first}/{last}"

    def contains(self, moment: datetime) -> bool:
        after = self.start is None or self.start <= moment
        return after and (self.stop is None or moment < self.stop)

    def meet(self, other: TimeSpan) -> TimeSpan | None:
        """The intersection; None if it is empty."""
        starts = [each.start for each in (self, other) if each.start is not None]
        stops = [each.stop for each in (self, other) if each.stop is not None]
        try:
            return TimeSpan(max(starts, default=None), min(stops, default=None))
        except ValueError:
            return None


def parse_span(text: str) -> TimeSpan | None:
    """Parse a literal, or two around `..` of which one may be missing; None if it is neither."""
    first, dots, last = text.partition(_OPEN)
    if not dots:
        return parse_literal(text)
    begin, end = parse_literal(first), parse_literal(last)
    if (first and begin is None) or (last and end is None):
        return None
    try:
        return TimeSpan(begin.start if begin else None, end.stop if end else None)
    except ValueError:
        return None


def parse_literal(text: str) -> TimeSpan | None:
    """The span of one year, month, day or moment; None if there is no such time."""
    found = _LITERAL.fullmatch(text)
    if found is None:
        return None
    try:
        if found["time"]:
            start = datetime.fromisoformat(text.upper())
            start = (start if start.tzinfo else start.replace(tzinfo=UTC)).astimezone(UTC)
            unit = _INSTANT if found["fraction"] else _SECOND if found["second"] else _MINUTE
            return TimeSpan(start, start + unit)
        year, month, day = int(found["year"]), found["month"], found["day"]
        start = datetime(year, int(month or 1), int(day or 1), tzinfo=UTC)
        if day:
            return TimeSpan(start, start + _DAY)
        months = year * 12 + start.month + (0 if month else 11)
        return TimeSpan(start, datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def _unit(moment: datetime) -> timedelta:
    """The coarsest unit of which `moment` is a multiple."""
    if moment.microsecond:
        return _INSTANT
    if moment.second:
        return _SECOND
    return _MINUTE if moment.hour or moment.minute else _DAY


def _literal(moment: datetime, unit: timedelta) -> str:
    if unit == _DAY:
        return moment.date().isoformat()
    spec = {_MINUTE: "minutes", _SECOND: "seconds", _INSTANT: "microseconds"}[unit]
    return moment.replace(tzinfo=None).isoformat(timespec=spec) + "Z"


def _rfc3339(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"
