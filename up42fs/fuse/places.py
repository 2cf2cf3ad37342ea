"""How many requests may wait at once, each in a task, and those that wait for a place.

Knows requests as messages with a deadline; nothing of what they ask or who answers.

Theory. A request that waits takes a task, some 20 KB. The kernel has a thread for each, of any
user, so there may be tens of thousands. Reads and all others have places of their own, or readers
of a silent store would keep everybody from `ls`. A request without a place is kept as its message
until one is free, or its time is up; no task waits with it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from up42fs.fuse.protocol import Head

#: Requests of a kind that may wait in tasks.
MOST_WAITING = 512


@dataclass(frozen=True, slots=True)
class Held:
    """A request without a place; `until_s` is when its time is up."""

    head: Head
    message: bytes
    until_s: float


class Places:
    """The places of one kind of requests."""

    def __init__(self) -> None:
        self._taken = 0
        self._held: OrderedDict[int, Held] = OrderedDict()

    @property
    def are_full(self) -> bool:
        """Whether one more must be held."""
        return self._taken >= MOST_WAITING

    def take(self) -> None:
        """A request waits in a task."""
        self._taken += 1

    def leave(self) -> None:
        """It does no longer."""
        self._taken -= 1

    def hold(self, request: Held) -> None:
        """Keep a request until there is a place; they come in the order of their deadlines."""
        self._held[request.head.unique] = request

    def withdraw(self, unique: int) -> bool:
        """Keep it no longer; whether it was kept."""
        return self._held.pop(unique, None) is not None

    def next(self) -> Held | None:
        """The one that waited longest, if there is a place for it now."""
        if self.are_full or not self._held:
            return None
        return self._held.popitem(last=False)[1]

    def late(self, now_s: float) -> Held | None:
        """One whose time is up, kept no longer."""
        held = next(iter(self._held.values()), None)
        if held is None or held.until_s > now_s:
            return None
        del self._held[held.head.unique]
        return held

    def __len__(self) -> int:
        return len(self._held)
