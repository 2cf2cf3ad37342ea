"""What is known of the inner order of objects that nobody has open: bounded, the oldest goes first.

Knows how much each takes, not what it says. Tables of tiles of a large image take megabytes, and of
thousands of images looked at once they would fill the memory that readers need. Nothing is lost but
requests: who opens such an object again learns anew from its first bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class Insightful(Protocol):
    """Somebody who knows an object."""

    @property
    def insight_bytes(self) -> int:
        """Memory that it takes."""
        ...

    def forget_insight(self) -> None:
        """Know nothing any more; nobody has the object open."""
        ...


class Insights:
    """Those who know an object that nobody has open, `most_bytes` together at most."""

    def __init__(self, most_bytes: int) -> None:
        self.held_bytes = 0
        self._most_bytes = most_bytes
        self._idle: OrderedDict[Insightful, int] = OrderedDict()

    def closed(self, one: Insightful) -> None:
        """The last handle of its object was closed; the oldest of all forget what is too much."""
        self.opened(one)
        held_bytes = one.insight_bytes
        if held_bytes:
            self._idle[one] = held_bytes
            self.held_bytes += held_bytes
        while self.held_bytes > self._most_bytes:
            oldest, oldest_bytes = self._idle.popitem(last=False)
            self.held_bytes -= oldest_bytes
            oldest.forget_insight()

    def opened(self, one: Insightful) -> None:
        """Somebody uses it again, or it is no longer known at all."""
        self.held_bytes -= self._idle.pop(one, 0)
