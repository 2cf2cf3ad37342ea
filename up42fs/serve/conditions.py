"""Conditions and ranges of a request (RFC 9110, 13 and 14): which status, which bytes.

Pure: takes header values, a size and a version; knows nothing of files or of sending.

One range is answered with 206. A request for several ranges is answered as a whole, with 200, which
the RFC allows: GDAL and curl send several only if they are told to, and both take a 200.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})", re.ASCII | re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?"[^"]*"')


@dataclass(frozen=True, slots=True)
class Representation:
    """Content to send: its size in bytes, its version, and when it was made (Unix seconds)."""

    size: int
    etag: str | None
    modified_s: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status, and the bytes [start, stop) that belong to it."""

    status: int
    start: int = 0
    stop: int = 0


def is_conditional(headers: Mapping[str, str]) -> bool:
    """Whether the answer depends on the version."""
    return any(name in headers for name in ("if-match", "if-none-match", "if-range"))


def judge(headers: Mapping[str, str], content: Representation, *, is_get: bool = True) -> Verdict:
    """Judge a GET or HEAD by its headers, in lower case."""
    if _fails(headers, content):
        return Verdict(412)
    if _is_known(headers, content):
        return Verdict(304)
    whole = Verdict(200, 0, content.size)
    value = headers.get("range")
    if value is None or not is_get or not _is_wanted(headers.get("if-range"), content):
        return whole
    match = _RANGE.fullmatch(value.strip())
    if match is None or not (match[1] or match[2]):
        return whole
    return _cut(match[1], match[2], content.size) or whole


def _cut(first: str, last: str, size: int) -> Verdict | None:
    """The verdict on one range; None if it is none."""
    if not first:
        length = min(int(last), size)
        return Verdict(206, size - length, size) if length else Verdict(416)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        return Verdict(416)
    return Verdict(206, start, min(int(last) + 1, size) if last else size)


def _fails(headers: Mapping[str, str], content: Representation) -> bool:
    match = headers.get("if-match")
    if match is not None:
        return not _names(match, content.etag, is_strong=True)
    since = moment_of(headers.get("if-unmodified-since"))
    return since is not None and content.modified_s > since


def _is_known(headers: Mapping[str, str], content: Representation) -> bool:
    match = headers.get("if-none-match")
    if match is not None:
        return _names(match, content.etag, is_strong=False)
    since = moment_of(headers.get("if-modified-since"))
    return since is not None and content.modified_s <= since


def _is_wanted(if_range: str | None, content: Representation) -> bool:
    """Whether a range may be cut from this version."""
    if if_range is None:
        return True
    if _TAG.fullmatch(if_range.strip()):
        return _names(if_range, content.etag, is_strong=True)
    return moment_of(if_range) == content.modified_s


def _names(value: str, etag: str | None, *, is_strong: bool) -> bool:
    """Whether a list of entity tags names `etag`."""
    if value.strip() == "*":
        return True
    if etag is None or (is_strong and etag.startswith("W/")):
        return False
    told = {tag for tag in _TAG.findall(value) if not (is_strong and tag.startswith("W/"))}
    return etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in told}


def moment_of(value: str | None) -> int | None:
    """Unix seconds of an HTTP date; None for anything else."""
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


def http_date(moment_s: int) -> str:
    """An HTTP date."""
    moment = datetime.fromtimestamp(max(0, moment_s), UTC)
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment:%d} {month} {moment:%Y %H:%M:%S} GMT"


# Not strftime's, which are those of the locale.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
