"""Sizes, spans of time and counts as people write them: `4G`, `90s`, `1h30m`, `1 row`. Pure.

The caller passes the unit of a number without one: the unit that its setting had before units were
allowed. Units of sizes are powers of 1024, with or without `i` and `B`, in upper or lower case.
"""

from __future__ import annotations

import math
import re

KIB, MIB = 1 << 10, 1 << 20
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0

_SIZES = {"": 1, "K": KIB, "M": MIB, "G": 1 << 30, "T": 1 << 40}
_SPANS_S = {"ms": 0.001, "s": 1.0, "m": MINUTE_S, "h": HOUR_S, "d": DAY_S, "w": 7 * DAY_S}
_NUMBER = r"\d{1,30}(?:\.\d{0,30})?(?:e[+-]?\d{1,4})?|\.\d{1,30}"
_SIZE = re.compile(rf"({_NUMBER})\s*(?:([kmgt])(?:i?b)?|(b))?", re.ASCII | re.IGNORECASE)
_PART = re.compile(
    rf"({_NUMBER})\s*(ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?|d|weeks?|w)\s*",
    re.ASCII | re.IGNORECASE,
)


def parse_size(text: str, unit: int = 1) -> int:
    """Parse a size in bytes; a bare number is in units of `unit` bytes. Raises ValueError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError("no size")
    number, letter, byte = found.groups()
    factor = unit if not letter and not byte else _SIZES[(letter or "").upper()]
    size = float(number) * factor
    if not size < 1 << 60:
        raise ValueError("too large")
    return int(size)


def parse_span_s(text: str, unit_s: float = 1.0) -> float:
    """Parse a span in seconds; a bare number is in units of `unit_s` seconds. Raises ValueError."""
    text = text.strip()
    if re.fullmatch(_NUMBER, text, re.ASCII | re.IGNORECASE):
        span_s = float(text) * unit_s
    else:
        span_s, at = 0.0, 0
        while at < len(text) or not text:
            part = _PART.match(text, at)
            if part is None:
                raise ValueError("no span of time")
            word = part[2].lower()
            span_s += float(part[1]) * _SPANS_S[word if word == "ms" else word[0]]
            at = part.end()
    if not math.isfinite(span_s):
        raise ValueError("too long")
    return span_s


def show_size(size: int) -> str:
    """A size in bytes as `parse_size` reads it, in the largest unit of which it is a multiple."""
    for letter in ("T", "G", "M", "K"):
        if size and size % _SIZES[letter] == 0:
            return f"{size // _SIZES[letter]}{letter}"
    return str(size)


def show_span(span_s: float) -> str:
    """A span as `parse_span_s` reads it, in seconds."""
    return f"{span_s:g}s"


def show_count(count: int, noun: str) -> str:
    """A count with its noun: `1 row`, `2 rows`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
