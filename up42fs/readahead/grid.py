"""Windows read one after another in a grid: predicts the next ones.

Theory. Programs that work through an image (training, inference, anything in chips) read windows of
one size from left to right, then the row of windows below, or above. Two adjacent windows may be
chance, or a person looking around; after `STEPS` such steps it is a grid. If tile and window
boundaries do not coincide, a window's first column or row of tiles is the last one of the window
before, which programs seldom read again: so predictions are counted from the end of the last
window. The grid's right end is the image's, unless a row of windows has ended before it. Programs
also open the file for each window: a handle that begins at the next window of a closed handle's
grid takes that grid over.

Beyond the current window at most five quarters of the last window's bytes are requested, or a
quarter of the bytes read of the grid if that is more: a reader that stops wastes no more than that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Windows that must have followed another before more are predicted.
STEPS = 2
#: The most bytes that are predicted: a fast line's worth (1 Gbit/s, 100 ms).
MOST_BYTES = 16 << 20
_SHARE = 4
_MOST_PANES = 64
_REMEMBERED = 4


@dataclass(frozen=True, slots=True)
class Pane:
    """The tiles `[top, bottom] x [left, right]` of one window."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(slots=True)
class Grid:
    """The windows of one reader in a level of `across` columns and `down` rows of tiles."""

    across: int
    down: int
    steps: int = 0
    read_bytes: int = 0
    _last_bytes: int = 0
    _last: Pane | None = None
    _home: Pane | None = None  # the first window of this row of windows
    _heading: int = 1  # -1: rows of windows go up
    _end: int | None = None  # the grid's last column, once a row of windows has ended
    _strides: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def goes_on(self, row: int, col: int) -> bool:
        """Whether a window that begins with this tile is the next one."""
        return self._is_beside(row, col) or bool(self._turn(row, col))

    def begin(self, row: int, col: int) -> None:
        """Begin a window with this tile; forget the grid if it does not continue it."""
        if self._is_beside(row, col):
            self.steps += 1
        elif self._last is not None and (heading := self._turn(row, col)):
            self.steps += 1
            self._heading = heading
            self._end = self._last.right
            self._home = None
        else:
            self._forget()

    def end(self, pane: Pane, read_bytes: int) -> None:
        """End the window: it was `pane`, of which `read_bytes` were read."""
        if self._home is None:
            self._home = pane
        elif self._last is not None and pane.right > self._last.right:
            self._strides.append(pane.right - self._last.right)
        self._last = pane
        self._last_bytes = read_bytes
        self.read_bytes += read_bytes

    @property
    def allowed_bytes(self) -> int:
        """Bytes that may be requested ahead on the evidence of the completed windows."""
        if self.steps < STEPS:
            return 0
        return min(max(self._last_bytes * 5, self.read_bytes) // _SHARE, MOST_BYTES)

    def coming(self, pane: Pane) -> Iterator[Pane]:
        """Yield the new tiles of the windows after `pane`, the current one, in order."""
        if self.steps < STEPS or not self._strides:
            return
        home = self._home or pane
        end = self.across - 1 if self._end is None else self._end
        top, bottom, right = pane.top, pane.bottom, pane.right
        height = (bottom - top + 1) * self._heading
        for _ in range(_MOST_PANES):
            if right < end:
                left, right = right + 1, min(right + max(self._strides), end)
            else:
                left, right = home.left, min(home.right, end)
                top, bottom = top + height, bottom + height
                if bottom < 0 or top >= self.down:
                    return
            yield Pane(max(top, 0), left, min(bottom, self.down - 1), right)

    def _is_beside(self, row: int, col: int) -> bool:
        last = self._last
        return last is not None and row == last.top and col - last.right in (0, 1)

    def _turn(self, row: int, col: int) -> int:
        """1 if a row of windows below the last one begins here, -1 for a row above, else 0."""
        last, home = self._last, self._home
        if last is None or home is None or last == home or col != home.left:
            return 0
        if row - last.bottom in (0, 1):
            return 1
        return -1 if row - (2 * last.top - last.bottom) in (-1, 0) else 0

    def _forget(self) -> None:
        self.steps = self.read_bytes = self._last_bytes = 0
        self._last = self._home = self._end = None
        self._heading = 1
        self._strides.clear()
