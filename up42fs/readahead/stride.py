"""Reads that jump on by like distances: where the next ones will land.

Knows positions (rows of strips, or bytes) and no more. Programs that thin an image out read every
n-th row, and n is seldom whole: positions are `floor(a + i * n)`. Each step seen narrows n to an
interval, and for its middle the positions seen narrow a; so a position to come is known to one or
two rows after a few steps, and that without fitting anything.
"""

from __future__ import annotations

import math
from collections import deque

#: Steps that must agree before anything is foretold.
STEPS = 3
_REMEMBERED = 64
_NOTHING = 1e-6


class Stride:
    """Jumps of one reader upward."""

    def __init__(self) -> None:
        self._positions: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)  # (index, position)
        self._grain = 1
        self._low = self._high = 0.0

    @property
    def steps(self) -> int:
        """How many like steps were taken up to the last position."""
        return self._positions[-1][0] if self._positions else 0

    def observe(self, position: int, grain: int) -> None:
        """The reader jumped to `position`; like steps differ from each other by up to `grain`."""
        if not self._positions or grain != self._grain:
            self._begin(position, grain)
            return
        index, last = self._positions[-1]
        first_index, first = self._positions[0]
        if position - last <= grain:
            self._begin(position, grain)
            return
        count = index + 1 - first_index
        low, high = (position - first - grain) / count, (position - first + grain) / count
        if index:
            low, high = max(low, self._low), min(high, self._high)
        if low > high:  # no one step explains these: begin again with this one
            self._begin(last, grain)
            low, high = position - last - grain, position - last + grain
            index = 0
        self._low, self._high = float(low), float(high)
        self._positions.append((index + 1, position))

    def coming(self, ahead: int) -> tuple[int, int] | None:
        """The lowest and the highest position of the `ahead`-th jump from now; None if unknown."""
        if self.steps < STEPS:
            return None
        index = self.steps + ahead
        ends = [end + index * step for step in self._steps() for end in self._origins(step)]
        low = math.floor(min(ends) + _NOTHING)
        return low, max(low, math.ceil(max(ends) - _NOTHING) - 1)

    def _steps(self) -> tuple[float, ...]:
        slack = (self._high - self._low) / 2
        return (self._low + slack,) if slack * self.steps < 1e-9 else (self._low, self._high)

    def _origins(self, step: float) -> tuple[float, float]:
        origins = [position - index * step for index, position in self._positions]
        return max(origins), min(origins) + self._grain

    def _begin(self, position: int, grain: int) -> None:
        self._positions.clear()
        self._positions.append((0, position))
        self._grain = grain
