"""How the leader's time is shared between readers and clients that ask for names without end.

Pure: told the time. Knows clients by the number of their thread; nothing of requests but how long
they took, and whether they were reads.

Theory. One thread answers all requests, in the order in which they come. A `find` over a large
tree always has the next request ready, and takes much of the thread from a reader that would use
all of it. So while reads take a part of the time worth speaking of, a client that has used up
`BURST_S` of the thread's time lately is a *storm*: all storms together get `STORMS_SHARE` of the
time, by pauses before their requests. A pause lasts until `QUANTUM_S` of time is there, since many
short pauses would cost more than the requests. `ls` of a small directory and `df` never come to a
burst. Where nobody reads, or reads wait for a slow line, nobody pauses.
"""

from __future__ import annotations

#: What storms get of the time while readers need the thread.
STORMS_SHARE = 0.1
#: Reads that take less of the time are not hindered by others.
_LEAST_READS_SHARE = 0.05
#: What a client may use before it is a storm, seconds of the thread: a hundred lookups.
BURST_S = 0.005
#: What a storm may use after a pause, seconds.
QUANTUM_S = 0.001
#: No pause is longer, so that a look at one directory stays within 0.1 s.
MOST_PAUSE_S = 0.08
#: How often reads are judged, and what clients used is halved, seconds.
WINDOW_S = 0.1
#: Clients that used less are forgotten at the end of a window, seconds.
_FORGOTTEN_S = 0.001


class Shares:
    """The time of one mount's leader. Times in seconds of one clock."""

    def __init__(self) -> None:
        self._began_s = 0.0
        self._reads_s = 0.0
        self._are_reads_busy = False
        self._used_s: dict[int, float] = {}
        self._left_s = QUANTUM_S
        self._refilled_s = 0.0

    def took(self, client: int, seconds: float, now_s: float, *, is_read: bool) -> None:
        """A request of `client` took so much of the thread, and ended now."""
        if is_read:
            self._reads_s += seconds
        else:
            used_s = self._used_s[client] = self._used_s.get(client, 0.0) + seconds
            if used_s > BURST_S:
                self._left_s -= seconds
        if now_s - self._began_s >= WINDOW_S:
            self._judge(now_s)

    def pause_s(self, client: int, now_s: float) -> float:
        """How long the next request of `client` is to wait; 0 for most."""
        if not self._are_reads_busy or self._used_s.get(client, 0.0) <= BURST_S:
            return 0.0
        gained_s = max(0.0, now_s - self._refilled_s) * STORMS_SHARE
        self._left_s = min(QUANTUM_S, self._left_s + gained_s)
        self._refilled_s = now_s
        if self._left_s > 0:
            return 0.0
        return min((QUANTUM_S - self._left_s) / STORMS_SHARE, MOST_PAUSE_S)

    def _judge(self, now_s: float) -> None:
        self._are_reads_busy = self._reads_s >= _LEAST_READS_SHARE * (now_s - self._began_s)
        self._began_s, self._reads_s = now_s, 0.0
        halves = ((client, used_s / 2) for client, used_s in self._used_s.items())
        self._used_s = {client: half_s for client, half_s in halves if half_s > _FORGOTTEN_S}
