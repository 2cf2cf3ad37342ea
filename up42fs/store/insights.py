"""Bounds the memory of parsed object structures, also of objects that are open.

Tile tables of a large image take megabytes, and those of thousands of images opened once would fill
the memory that readers need. Forgetting costs only requests: a closed object is parsed again from
its first bytes when it is opened again, and an open one is read as plain bytes from then on.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class Knower(Protocol):
    """One file whose structure is parsed: an object, or a stored member of one."""

    @property
    def insight_bytes(self) -> int:
        """Memory that the parsed structure takes, in bytes."""

    def forget_insight(self) -> None:
        """Drop the parsed structure."""


class Insights:
    """All parsed structures: `most_bytes` in total, `most_idle_bytes` of closed objects."""

    def __init__(self, most_idle_bytes: int, most_bytes: int | None = None) -> None:
        self.held_bytes = 0
        self._idle_bytes = 0
        self._most_idle_bytes = most_idle_bytes
        self._most_bytes = 4 * most_idle_bytes if most_bytes is None else most_bytes
        self._idle: OrderedDict[Knower, int] = OrderedDict()
        self._open: dict[Knower, int] = {}

    def learned(self, one: Knower) -> None:
        """Recount `one`, which is open and parsed more; drop it if the total is too large."""
        self.held_bytes += one.insight_bytes - self._open.get(one, 0)
        self._open[one] = one.insight_bytes
        self._shrink()
        if self.held_bytes > self._most_bytes:
            one.forget_insight()
            self.held_bytes -= self._open.pop(one)

    def closed(self, one: Knower) -> None:
        """Count `one`, whose last handle was closed, as idle; evict the oldest over the limit."""
        self.dropped(one)
        held_bytes = one.insight_bytes
        if held_bytes:
            self._idle[one] = held_bytes
            self._idle_bytes += held_bytes
            self.held_bytes += held_bytes
        self._shrink()

    def opened(self, one: Knower) -> None:
        """Count `one` as open again."""
        if held_bytes := self._idle.pop(one, 0):
            self._idle_bytes -= held_bytes
            self._open[one] = held_bytes

    def dropped(self, one: Knower) -> None:
        """Stop counting `one`."""
        idle_bytes = self._idle.pop(one, 0)
        self._idle_bytes -= idle_bytes
        self.held_bytes -= idle_bytes + self._open.pop(one, 0)

    def _shrink(self) -> None:
        """Evict the oldest idle structures beyond the limits."""
        while self._idle and (
            self._idle_bytes > self._most_idle_bytes or self.held_bytes > self._most_bytes
        ):
            oldest, oldest_bytes = self._idle.popitem(last=False)
            self._idle_bytes -= oldest_bytes
            self.held_bytes -= oldest_bytes
            oldest.forget_insight()
