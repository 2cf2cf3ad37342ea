"""The lifetime of a presigned link, from the link itself and the server's own clock.

This machine's clock plays no part: a lifetime is a duration from the moment of receipt, so a local
clock that is minutes off does no harm.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs, urlsplit

#: UP42 documents five minutes (contract §3.4); used if the link has no expiry.
DEFAULT_LIFETIME_S = 300.0
#: A lifetime outside these bounds comes from a wrong clock and is clamped.
SHORTEST_S, LONGEST_S = 0.0, 7 * 86400.0
#: Renew a link this long before it expires, or at this share of a short lifetime.
RENEW_AHEAD_S = 60.0
RENEW_AHEAD_SHARE = 0.2


def server_time(date_header: str | None) -> float | None:
    """Unix seconds of a date in an HTTP header; None if it is missing or malformed."""
    if not date_header:
        return None
    try:
        return parsedate_to_datetime(date_header).timestamp()
    except (ValueError, OverflowError):
        return None


def lifetime_s(url: str, server_now_s: float | None) -> float:
    """Seconds until `url` expires, by `Expires` or `X-Goog-Date` + `X-Goog-Expires`.

    An absolute expiry is only compared with the server's clock (`server_now_s`, the signer's `Date`
    in Unix seconds), never with this machine's. Without that clock, or if the link has no expiry,
    the lifetime is at most five minutes.
    """
    query = {key.lower(): values[-1] for key, values in parse_qs(urlsplit(url).query).items()}
    expires_at = _v2_expiry(query) or _v4_expiry(query)
    if expires_at is None or server_now_s is None:
        return min(DEFAULT_LIFETIME_S, _v4_span(query) or DEFAULT_LIFETIME_S)
    return min(LONGEST_S, max(SHORTEST_S, expires_at - server_now_s))


def renew_ahead_s(life_s: float) -> float:
    """Seconds before expiry at which a link that lives `life_s` seconds should be renewed."""
    return min(RENEW_AHEAD_S, life_s * RENEW_AHEAD_SHARE)


def _v2_expiry(query: dict[str, str]) -> float | None:
    text = query.get("expires", "")
    return float(text) if text.isdecimal() and len(text) < 16 else None


def _v4_span(query: dict[str, str]) -> float | None:
    text = query.get("x-goog-expires", "")
    return float(text) if text.isdecimal() and len(text) < 16 else None


def _v4_expiry(query: dict[str, str]) -> float | None:
    span_s = _v4_span(query)
    try:
        signed = datetime.strptime(query.get("x-goog-date", ""), "%Y%m%dT%H%M%SZ")
    except ValueError:
        return None
    return None if span_s is None else signed.replace(tzinfo=UTC).timestamp() + span_s
