"""Decides when the next request to one host may be sent: a rate limit, and pauses by the host.

The caller passes the time and gets the time to send.

Theory. The generic cell rate algorithm: one number, the theoretical arrival time of the next
request, replaces a token bucket. Each admission moves it on by one interval; a caller waits until
it is at most the burst allowance ahead of now. Admissions are reservations, so callers are spread
out in order and none wakes in vain.

Rejected: counting requests per fixed second (twice the rate passes at the seam of two seconds).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from up42fs.net.expiry import server_time

#: Longest pause of callers that did not get the refusal themselves, seconds: one absurd header must
#: not stop a mount for a day.
LONGEST_PAUSE_S = 60.0


#: Requests of all processes that may wait for their turns.
MOST_QUEUED = 2000


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `per_s` requests a second in the long run, `burst` (>= 1) of them at once."""

    per_s: float
    burst: int

    @property
    def interval_s(self) -> float:
        """Seconds between two requests at the full rate."""
        return 1.0 / self.per_s


@dataclass(frozen=True, slots=True)
class Pace:
    """State of one host: times in seconds of the caller's clock."""

    arrival_s: float = float("-inf")
    paused_until_s: float = float("-inf")


def plan_admission(pace: Pace, rate: Rate, now_s: float) -> tuple[Pace, float]:
    """Reserve one request; return the new state and the time to send it (>= `now_s`)."""
    allowance_s = rate.interval_s * (rate.burst - 1)
    arrival_s = max(pace.arrival_s, now_s)
    send_at_s = max(now_s, pace.paused_until_s, arrival_s - allowance_s)
    return replace(pace, arrival_s=max(arrival_s, send_at_s) + rate.interval_s), send_at_s


def plan_pause(pace: Pace, rate: Rate, now_s: float, pause_s: float) -> Pace:
    """Hold all callers for `pause_s` seconds (capped); pauses never shorten one another."""
    until_s = now_s + min(max(pause_s, 0.0), LONGEST_PAUSE_S)
    if until_s <= pace.paused_until_s or until_s <= now_s:
        return pace
    # A pause uses up the burst: when it ends, callers leave one interval apart, not all at once.
    spent_s = until_s + rate.interval_s * (rate.burst - 1)
    return Pace(arrival_s=max(pace.arrival_s, spent_s), paused_until_s=until_s)


def plausible(pace: Pace, rate: Rate, now_s: float) -> Pace:
    """The state that another process left, without what cannot be: it must stop nobody for long."""
    longest_s = now_s + LONGEST_PAUSE_S + rate.interval_s * (2 * rate.burst + MOST_QUEUED)
    is_sane = pace.arrival_s <= longest_s and pace.paused_until_s <= now_s + LONGEST_PAUSE_S
    return pace if is_sane else Pace()


def retry_after_s(header: str | None, server_now_s: float | None) -> float | None:
    """Seconds to wait by a `Retry-After` header; None if it is missing or unusable.

    A date in it is compared with the server's own clock (`server_now_s`, Unix seconds, from
    `Date`): this machine's clock may be hours off. Without that clock a date is unusable.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:12])
    at_s = server_time(text)
    return None if at_s is None or server_now_s is None else max(0.0, at_s - server_now_s)
