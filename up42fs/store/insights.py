"""What is known of the inner order of objects: bounded, also of those that somebody has open.

Knows how much each takes, not what it says. Tables of tiles of a large image take megabytes, and of
thousands of images looked at once they would fill the memory that readers need. Nothing is lost but
requests: an object that nobody has open is learned anew from its first bytes when it is opened
again, and one that is open is read as plain bytes from then on.
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
        """Know nothing any more; while the object is open, learn nothing either."""
        ...


class Insights:
    """All that know an object: `most_bytes` together, `most_idle_bytes` of them of closed ones."""

    def __init__(self, most_idle_bytes: int, most_bytes: int | None = None) -> None:
        self.held_bytes = 0
        self._idle_bytes = 0
        self._most_idle_bytes = most_idle_bytes
        self._most_bytes = 4 * most_idle_bytes if most_bytes is None else most_bytes
        self._idle: OrderedDict[Insightful, int] = OrderedDict()
        self._open: dict[Insightful, int] = {}

    def learned(self, one: Insightful) -> None:
        """`one`, which is open, knows more than before; it forgets all where that is too much."""
        self.held_bytes += one.insight_bytes - self._open.get(one, 0)
        self._open[one] = one.insight_bytes
        self._shrink()
        if self.held_bytes > self._most_bytes:
            one.forget_insight()
            self.held_bytes -= self._open.pop(one)

    def closed(self, one: Insightful) -> None:
        """The last handle of its object was closed; the oldest of all forget what is too much."""
        self.dropped(one)
        held_bytes = one.insight_bytes
        if held_bytes:
            self._idle[one] = held_bytes
            self._idle_bytes += held_bytes
            self.held_bytes += held_bytes
        self._shrink()

    def opened(self, one: Insightful) -> None:
        """Somebody uses it again."""
        if held_bytes := self._idle.pop(one, 0):
            self._idle_bytes -= held_bytes
            self._open[one] = held_bytes

    def dropped(self, one: Insightful) -> None:
        """It is no longer known at all."""
        idle_bytes = self._idle.pop(one, 0)
        self._idle_bytes -= idle_bytes
        self.held_bytes -= idle_bytes + self._open.pop(one, 0)

    def _shrink(self) -> None:
        """The oldest of the closed ones forget what is too much."""
        while self._idle and (
            self._idle_bytes > self._most_idle_bytes or self.held_bytes > self._most_bytes
        ):
            oldest, oldest_bytes = self._idle.popitem(last=False)
            self._idle_bytes -= oldest_bytes
            self.held_bytes -= oldest_bytes
            oldest.forget_insight()
