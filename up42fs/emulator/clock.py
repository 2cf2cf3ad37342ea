"""Timestamps in the service's formats, from integer microseconds of Unix time.

Knows no clock: callers pass the time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US = 1_000_000


def to_us(moment: datetime) -> int:
    """Return Unix microseconds of an aware `moment`, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(us: int) -> datetime:
    """Return the aware UTC moment of Unix microseconds, exactly."""
    return _EPOCH + timedelta(microseconds=us)


def parse_us(text: str) -> int:
    """Parse an RFC 3339 or ISO 8601 timestamp (UTC if it has no zone); raises ValueError."""
    moment = datetime.fromisoformat(text.strip())
    return to_us(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def format_z(us: int, digits: int = 6) -> str:
    """Format with `digits` fraction digits (0, 3 or 6) and `Z` (contract §2.2)."""
    moment = from_us(us)
    whole = moment.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{moment.microsecond:06d}"[:digits]
    return f"{whole}.{fraction}Z" if digits else f"{whole}Z"


def format_offset(us: int) -> str:
    """Format with `+00:00`, as item properties have it (contract §5.4)."""
    return from_us(us).isoformat()


def format_http(us: int) -> str:
    """Format as an HTTP date."""
    return format_datetime(from_us(us), usegmt=True)
