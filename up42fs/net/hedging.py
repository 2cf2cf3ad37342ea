"""When a request lags so far behind what its host showed lately that a second one should race it.

Knows durations; not the clock, requests or bytes.

Theory. A store answers nearly all requests alike and a few very late: a lost packet, a sick server
behind a balancer. Whoever waits for one of those is served sooner by asking again. But a slow line
makes all answers late, and then asking twice makes it slower. So late is measured by what this
host showed: the wait for the first byte, and the longest silence amid a body, of its last
`MEMORY` answers. A wait beyond `FACTOR` times what nine in ten stayed below, and of `FLOOR_S` at
least, is a lag. Of all requests at most `SHARE` may be second ones, with `BURST` in hand: a host
that became slow as a whole is not asked twice for everything.
"""

from __future__ import annotations

from collections import deque

#: Answers remembered, and how many make a judgement.
MEMORY, FEWEST = 64, 8
QUANTILE = 0.9
FACTOR = 4.0
#: No shorter wait is a lag, seconds: a busy machine or a handshake explains it.
FLOOR_S = 1.0
SHARE = 0.05
BURST = 2.0


class Pace:
    """What one host showed lately, and the second requests it may still be asked."""

    def __init__(self) -> None:
        self._firsts: deque[float] = deque(maxlen=MEMORY)
        self._gaps: deque[float] = deque(maxlen=MEMORY)
        self._credit = BURST

    def note(self, first_s: float, gap_s: float) -> None:
        """An answer began after `first_s` seconds and was then silent for `gap_s` at most."""
        self._firsts.append(first_s)
        self._gaps.append(gap_s)
        self._credit = min(BURST, self._credit + SHARE)

    def limit_s(self, *, has_begun: bool) -> float | None:
        """The silence that is a lag, before or amid the body; None while too little is known."""
        seen = sorted(self._gaps if has_begun else self._firsts)
        if len(seen) < FEWEST:
            return None
        return max(FLOOR_S, FACTOR * seen[int(QUANTILE * (len(seen) - 1))])

    def take(self) -> bool:
        """Whether a second request may be sent; counts it."""
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True
