"""Reads that jump on: by equal distances, or from one tile part of a JPEG 2000 file to the next.

Programs that read an image at reduced resolution read every n-th row, and n is seldom an integer:
positions are `floor(a + i * n)`. Each observed step narrows n to an interval, and for the middle of
that interval the observed positions narrow a; so after a few steps a future position is known to
within one or two rows, without any fitting.
"""

from __future__ import annotations

import math
from collections import deque

from up42fs.readahead.contents import Structure
from up42fs.readahead.tuning import Tuning
from up42fs.types import ByteRange

#: Steps that must agree before positions are predicted.
STEPS = 3
_REMEMBERED = 64
_NOTHING = 1e-6


class Stride:
    """The upward jumps of one reader."""

    def __init__(self) -> None:
        self._positions: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)  # (index, position)
        self._grain = 1
        self._low = self._high = 0.0

    @property
    def steps(self) -> int:
        """Number of equal steps up to the last position."""
        return self._positions[-1][0] if self._positions else 0

    def observe(self, position: int, grain: int) -> None:
        """Note a jump to `position`; equal steps differ from each other by at most `grain`."""
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
        if low > high:  # no single step explains these: begin again with the last one
            self._begin(last, grain)
            low, high = position - last - grain, position - last + grain
            index = 0
        self._low, self._high = float(low), float(high)
        self._positions.append((index + 1, position))

    def coming(self, ahead: int) -> tuple[int, int] | None:
        """Lowest and highest position of the `ahead`-th jump from now; None if unknown."""
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


class Hops:
    """The jumps of one open handle through a JPEG 2000 file, all of which it will need.

    The file may be a stored member of the archive that is read.

    Without a TLM marker (as in Sentinel-2 and Pleiades files), a decoder finds a tile part only
    through the header of the one before it: a hundred dependent round trips, whatever part of the
    image is wanted. Fetching the file whole takes fewer.
    """

    def __init__(self) -> None:
        self._file: ByteRange | None = None
        self._last = 0
        self._count = 0

    def on_read(
        self, read: ByteRange, structure: Structure, tuning: Tuning, *, is_jump: bool
    ) -> ByteRange | None:
        """The file, if it should be fetched whole now."""
        file = structure.jpeg2000_at(read)
        if file is None or len(file) > tuning.hop_file_bytes:
            return None
        if file != self._file:
            self._file, self._last, self._count = file, file.start, 0
        if is_jump and read.start > self._last + tuning.jump_bytes // 2:
            self._count += 1
        elif is_jump and read.start < self._last:
            self._count = 0
        if is_jump:
            self._last = read.start
        return file if self._count >= tuning.hops else None
