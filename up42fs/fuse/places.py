"""Limits how many requests wait in tasks, and holds those beyond the limit.

Knows requests as messages with a deadline; nothing of their content or their handlers.

Theory. A waiting request takes a task, some 20 KB. Each thread of any user can have one request, so
there may be tens of thousands. Reads and all other requests have separate limits, or readers of a
silent store would block everybody's `ls`. A request beyond the limit is kept as its message until a
place is free, or its deadline passes; no task waits with it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from up42fs.fuse.protocol import RequestHead

#: Requests of one kind that may wait in tasks.
MOST_WAITING = 512


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
        """Whether the next request must be held."""
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
