"""How long a presigned link lives, read off the link itself and the server's own clock.

Knows nothing of this machine's clock: a lifetime is a duration from the moment of receipt, so a
local clock that is minutes off does no harm.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs, urlsplit

#: UP42 documents five minutes (contract §3.4); used where the link does not say.
DEFAULT_LIFETIME_S = 300.0
#: A lifetime outside these bounds is a clock gone wrong, not a promise.
SHORTEST_S, LONGEST_S = 0.0, 7 * 86400.0
#: Renew a link this long before its end, or at this share of a short life's end.
RENEW_AHEAD_S = 60.0
RENEW_AHEAD_SHARE = 0.2


def server_time(date_header: str | None) -> float | None:
    """Unix seconds of an HTTP `Date` header; None where it is missing or malformed."""
    if not date_header:
        return None
    try:
        return parsedate_to_datetime(date_header).timestamp()
    except (ValueError, OverflowError):
        return None


def lifetime_s(url: str, server_now_s: float | None) -> float:
    """Seconds that `url` lives from now, by `Expires` or `X-Goog-Date` + `X-Goog-Expires`.

    Without `server_now_s` (the signer's `Date` in Unix seconds) an absolute expiry cannot be
    trusted to this machine's clock; then, and where the link says nothing, five minutes hold.
    """
    query = {key.lower(): values[-1] for key, values in parse_qs(urlsplit(url).query).items()}
    expires_at = _v2_expiry(query) or _v4_expiry(query)
    if expires_at is None or server_now_s is None:
        return min(DEFAULT_LIFETIME_S, _v4_span(query) or DEFAULT_LIFETIME_S)
    return min(LONGEST_S, max(SHORTEST_S, expires_at - server_now_s))


def renew_ahead_s(life_s: float) -> float:
    """How long before its end a link that lives `life_s` seconds should be renewed."""
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
