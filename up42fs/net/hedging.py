"""Decides when a request lags so far behind its host's recent times that a second should race it.

Theory. A store answers nearly all requests in similar times and a few very late: a lost packet, a
sick server behind a balancer. For one of those, a second request gets the data sooner. But a slow
line makes all responses late, and second requests make it slower. So lateness is relative to the
host's recent times: the wait for the first byte, and the longest silence amid a body, of its last
`MEMORY` responses. A wait beyond `FACTOR` times the 90th percentile, and of at least `FLOOR_S`, is
a lag. At most the share `SHARE` of all requests may be second ones, with a burst of `BURST`: a host
that became slow as a whole does not get every request twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

#: Responses remembered, and the fewest needed for a decision.
MEMORY, FEWEST = 64, 8
QUANTILE = 0.9
FACTOR = 4.0
#: No shorter wait is a lag, seconds: a busy machine or a handshake explains it.
FLOOR_S = 1.0
SHARE = 0.05
BURST = 2.0


class HostTimes:
    """One host's recent times, and the second requests it may still get."""

    def __init__(self) -> None:
        self._firsts: deque[float] = deque(maxlen=MEMORY)
        self._gaps: deque[float] = deque(maxlen=MEMORY)
        self._credit = BURST
        #: The limits before and amid a body: every request asks for them, a response changes them.
        self._limits_s: dict[bool, float | None] = {}

    def note(self, first_s: float, gap_s: float) -> None:
        """Note a response: first byte after `first_s` seconds, then silences of at most `gap_s`."""
        self._firsts.append(first_s)
        self._gaps.append(gap_s)
        self._credit = min(BURST, self._credit + SHARE)
        self._limits_s.clear()

    def limit_s(self, *, has_begun: bool) -> float | None:
        """The silence in seconds that is a lag, before or amid the body; None if unknown."""
        if has_begun not in self._limits_s:
            self._limits_s[has_begun] = _limit_s(self._gaps if has_begun else self._firsts)
        return self._limits_s[has_begun]

    def take(self) -> bool:
        """Reserve a second request; return whether it may be sent."""
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True


def _limit_s(times_s: Collection[float]) -> float | None:
    if len(times_s) < FEWEST:
        return None
    return max(FLOOR_S, FACTOR * sorted(times_s)[int(QUANTILE * (len(times_s) - 1))])
