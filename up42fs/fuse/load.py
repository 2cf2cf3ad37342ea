"""Limits under load: how many requests wait in tasks, and how much time each client takes.

Pure: the caller passes the time.

Theory of `Places`. A waiting request takes a task, some 20 KB. Each thread of any user can have one
request, so there may be tens of thousands. Reads and all other requests have separate limits, or
readers of a silent store would block everybody's `ls`. A request beyond the limit is kept as its
message until a place is free, or its deadline passes; no task waits with it.

Theory of `Shares`. One thread answers all requests, in the order of arrival. A `find` over a large
tree always has the next request ready, and takes much of the thread from a reader that could use
all of it. So while reads take a considerable share of the time, a client that used more than
`BURST_S` of it lately is a *storm*: all storms together get `STORMS_SHARE` of the time, by pauses
before their requests. A pause lasts until `QUANTUM_S` of time has accrued, since many short pauses
would cost more than the requests. `ls` of a small directory and `df` never use up a burst. While
nobody reads, or reads wait for a slow line, nobody pauses.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from up42fs.fuse.protocol import RequestHead

#: Requests of one kind that may wait in tasks.
MOST_WAITING = 512
#: What storms get of the time while readers need the thread.
STORMS_SHARE = 0.04
#: Reads that take less of the time are not hindered by others.
_LEAST_READS_SHARE = 0.05
#: What a client may use before it is a storm, seconds of the thread: the first `ls` of a directory
#: of some hundred files.
BURST_S = 0.025
#: What a client still counts as used after a window: the burst comes back in a second or two.
KEPT_SHARE = 0.9
#: What a storm may use after a pause, seconds.
QUANTUM_S = 0.001
#: No pause is longer, so that a look at one directory stays within 0.1 s.
MOST_PAUSE_S = 0.08
#: How often reads are judged, and what clients used is forgotten in part, seconds.
WINDOW_S = 0.1
#: Clients that used less are forgotten at the end of a window, seconds.
_FORGOTTEN_S = 0.001


@dataclass(frozen=True, slots=True)
class HeldRequest:
    """A request without a place; `until_s` is its deadline."""

    head: RequestHead
    message: bytes
    until_s: float


class Places:
    """The places of one kind of requests."""

    def __init__(self) -> None:
        self._taken = 0
        self._held: OrderedDict[int, HeldRequest] = OrderedDict()

    @property
    def are_full(self) -> bool:
        return self._taken >= MOST_WAITING

    def take(self) -> None:
        """Count a request that waits in a task."""
        self._taken += 1

    def leave(self) -> None:
        """Count a request that no longer waits."""
        self._taken -= 1

    def hold(self, request: HeldRequest) -> None:
        """Hold a request until there is a place; they arrive in the order of their deadlines."""
        self._held[request.head.unique] = request

    def withdraw(self, unique: int) -> bool:
        """Drop a held request; return whether it was held."""
        return self._held.pop(unique, None) is not None

    def next(self) -> HeldRequest | None:
        """Return the request that waited longest, if there is a place for it now."""
        if self.are_full or not self._held:
            return None
        return self._held.popitem(last=False)[1]

    def late(self, now_s: float) -> HeldRequest | None:
        """Return and drop a request whose deadline has passed."""
        held = next(iter(self._held.values()), None)
        if held is None or held.until_s > now_s:
            return None
        del self._held[held.head.unique]
        return held

    def __len__(self) -> int:
        return len(self._held)


class Shares:
    """The time of one mount's leader. Times in seconds of one clock."""

    def __init__(self) -> None:
        self._began_s = 0.0
        self._reads_s = 0.0
        self._were_busy = False
        #: Whether reads take a considerable share of the time.
        self.are_reads_busy = False
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
        if not self.are_reads_busy or self._used_s.get(client, 0.0) <= BURST_S:
            return 0.0
        gained_s = max(0.0, now_s - self._refilled_s) * STORMS_SHARE
        self._left_s = min(QUANTUM_S, self._left_s + gained_s)
        self._refilled_s = now_s
        if self._left_s > 0:
            return 0.0
        return min((QUANTUM_S - self._left_s) / STORMS_SHARE, MOST_PAUSE_S)

    def _judge(self, now_s: float) -> None:
        were_busy = self._were_busy
        self._were_busy = self._reads_s >= _LEAST_READS_SHARE * (now_s - self._began_s)
        # The bursts of several clients together may fill a window in which no read had a turn.
        self.are_reads_busy = self._were_busy or were_busy
        self._began_s, self._reads_s = now_s, 0.0
        kept = ((client, used_s * KEPT_SHARE) for client, used_s in self._used_s.items())
        self._used_s = {client: kept_s for client, kept_s in kept if kept_s > _FORGOTTEN_S}
