"""The window of tiles that a reader walks through: which tiles it read, which it will read next.

Theory. Programs read images by windows: row after row of tiles, each from left to right. Through a
file system that is one tile after another, with a round trip between them, whereas a program that
speaks HTTP requests all at once. So the window is guessed. At its first tile the guess is a window
like the last ones of this object (`Shapes`); before there are any, one of 1024 pixels, a screen. It
grows when tiles beyond it are read: by half its width within the first row, by half its height at
the first tile of a row; the rows below the first are as wide as the first.

A right guess saves a round trip and a wrong one costs bandwidth. Guessed tiles are requested in the
order in which they would be read, up to `Tuning.unproven_bytes` and twice the bytes read of it:
a point query of one tile wastes a tenth of a second of a slow line, and a window is requested as a
whole after its second tile. Handles that read the object at the same time share those bytes, as
they share the line, but each may request a window like the last ones.

The kernel's read-ahead looks like sequential reading. The kernel requests the next piece when the
program reaches the last one requested, so a tile that sequential reads reach counts once they are
two reads further; a tile that a read jumps to counts at once. Strips are a run of bytes that ends:
their window grows by at least the bytes that may be guessed without evidence, and some strips may
be passed unseen. With direct I/O the reads are the program's own, sized by the C library's buffer,
so none of this applies.

A window ends when a tile is read that does not continue it: one above the current row, or one apart
from it. Windows that follow each other in a `grid` predict the next ones. Rejected: guessing the
whole row (28 MB in a large scene); counting each handle's windows separately (thread pools open the
file once per thread, and all learn from one).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from up42fs.ranges import ceil_to, floor_to
from up42fs.readahead.contents import FoundTiff
from up42fs.readahead.grid import Grid, Pane
from up42fs.readahead.tiff import TiffLevel, Tile
from up42fs.readahead.tuning import BUFFER_BYTES, KERNEL_READ_BYTES, Tuning
from up42fs.types import ByteRange

#: The side of the first guess, pixels.
GUESS_PIXELS = 1024
_REMEMBERED = 4
#: Grids of closed handles that are remembered.
_MOST_GRIDS = 8
#: Recent tile reads of one object from which its readers are counted.
_LATELY = 64
#: Rows and columns beyond which a guess is not extended.
_MOST_GUESSED = 4096
#: Limits of one guess, in tiles and ranges: tables may be full of tiles that do not exist, or that
#: have a byte each.
_MOST_LOOKED_AT = 8192
_MOST_SPANS = 1024
#: The next guess is made after this share of the last guessed tiles was read.
_PAUSE_SHARE = 16

#: An image's offset in the object, a level's number, a plane's number.
Plane = tuple[int, int, int]


class Shapes:
    """Sizes of the last windows read of one object, by level; its recent readers; idle grids.

    Grids of closed handles are kept because programs open the file anew for every window.
    """

    def __init__(self) -> None:
        self._recent: dict[tuple[int, int], deque[tuple[int, int]]] = {}
        self._readers: deque[int] = deque(maxlen=_LATELY)
        self._grids: deque[tuple[Plane, Grid]] = deque(maxlen=_MOST_GRIDS)

    def note(self, reader: int) -> None:
        """Note that `reader` reads a tile."""
        self._readers.append(reader)

    def readers(self, reader: int) -> int:
        """Like `note`; return how many handles read tiles recently."""
        self.note(reader)
        return len(set(self._readers))

    def leave(self, reader: int) -> None:
        """Forget `reader`, whose handle is closed."""
        while reader in self._readers:
            self._readers.remove(reader)

    def keep_grid(self, plane: Plane, grid: Grid) -> None:
        """Keep the grid of a closed handle; another handle may continue it."""
        self._grids.append((plane, grid))

    def take_grid(self, plane: Plane, tile: Tile) -> Grid | None:
        """Return a closed handle's grid that a window beginning with `tile` continues."""
        for at, (its_plane, grid) in enumerate(self._grids):
            if its_plane == plane and grid.goes_on(tile.row, tile.col):
                del self._grids[at]
                return grid
        return None

    def record(self, key: tuple[int, int], rows: int, columns: int) -> None:
        """Record that a window of the level `key` ended; sizes in tiles."""
        self._recent.setdefault(key, deque(maxlen=_REMEMBERED)).append((rows, columns))

    def are_known(self, key: tuple[int, int]) -> bool:
        """Whether enough windows of the level are recorded to predict the next one's size."""
        return len(self._recent.get(key, ())) == _REMEMBERED

    def guess(self, key: tuple[int, int], level: TiffLevel) -> tuple[int, int]:
        """Guess the rows and columns of the level's next window."""
        recent = self._recent.get(key)
        if not recent:
            return _tiles(level.tile_height), _tiles(level.tile_width)
        rows, columns = zip(*recent, strict=True)
        count = len(recent)
        return round(sum(rows) / count + 0.25), round(sum(columns) / count + 0.25)


def _tiles(side: int) -> int:
    # One tile more, since a window seldom begins at a tile boundary.
    return -(-GUESS_PIXELS // side) + 1 if side < GUESS_PIXELS else 2


@dataclass(slots=True)
class _Window:
    """The tiles `[top, bottom] x [left, right]` were read, most recently in `row`."""

    top: int
    left: int
    bottom: int
    right: int
    row: int
    begun: int  # the column of its first tile
    read_bytes: int = 0

    @property
    def pane(self) -> Pane:
        return Pane(self.top, self.begun, self.bottom, self.right)

    @property
    def rows(self) -> int:
        return self.bottom - self.top + 1

    @property
    def columns(self) -> int:
        return self.right - self.left + 1

    @property
    def is_one_tile(self) -> bool:
        return self.rows == self.columns == 1

    def continues(self, tile: Tile, unseen_rows: int) -> bool:
        """Whether `tile` is in the window or next in order, with up to `unseen_rows` skipped."""
        inside = self.left - 1 <= tile.col <= self.right + 1
        return inside and self.row <= tile.row <= self.row + 1 + unseen_rows

    def is_left_of(self, tile: Tile) -> bool:
        """Whether a window that begins with `tile` continues this one to the right, row by row."""
        return (tile.row, tile.col) == (self.top, self.right + 1)

    def take(self, tile: Tile) -> None:
        self.left, self.right = min(self.left, tile.col), max(self.right, tile.col)
        self.bottom = self.row = tile.row


class Walk:
    """One reader in one plane of one level of an image."""

    def __init__(
        self, image: FoundTiff, level: int, plane: int, shapes: Shapes, tuning: Tuning
    ) -> None:
        assert image.layout is not None, "or there are no tiles to walk through"
        self.touched_at = 0
        self._image = image
        self._number = level
        self._level = image.layout.levels[level]
        self._plane = plane
        self._shapes = shapes
        self._tuning = tuning
        self._window: _Window | None = None
        self._guess = (1, 1)
        self._pause = 0
        self._grid: Grid | None = None
        self.last: Tile | None = None
        self._last_span: tuple[int, ByteRange | None] | None = None
        self.guessed: dict[tuple[int, int], ByteRange] = {}

    def touch(self, tile: Tile) -> bool:
        """Note that `tile` is read; return whether a new window begins with it."""
        window = self._window
        if tile == self.last:
            return False
        # The reader may have passed this many strips before that is certain.
        unseen_rows = self._strips_in(self._tuning.slack_bytes)
        begins = window is None or not window.continues(tile, unseen_rows)
        self.last, self._last_span = tile, None
        if window is None or begins:
            self.end()
            self._guess = self._shapes.guess(self._key, self._level)
            self._go_on_in_grid(tile)
            # Windows seldom end at tile boundaries, and programs keep the tiles that two windows
            # share instead of reading them again: such a window starts one column further left.
            left = tile.col - 1 if window and window.is_left_of(tile) else tile.col
            window = self._window = _Window(tile.row, left, tile.row, tile.col, tile.row, tile.col)
            self._pause = 0
        else:
            window.take(tile)
        span = self.span(tile.row, tile.col)
        self.guessed.pop((tile.row, tile.col), None)
        window.read_bytes += len(span) if span else 0
        return begins

    def end(self) -> None:
        """End the window and record its shape."""
        if self._window is not None:
            self._shapes.record(self._key, self._window.rows, self._window.columns)
            if self._grid is not None:
                self._grid.end(self._window.pane, self._window.read_bytes)
        self._window = None

    def close(self) -> tuple[list[ByteRange], list[ByteRange]]:
        """End the walk; return unread guesses, and those of a grid that will still be read."""
        self.end()
        guessed = self.give_up()
        if self._grid is None:
            return guessed, []
        self._shapes.keep_grid(self._place, self._grid)
        return ([], guessed) if self._grid.allowed_bytes else (guessed, [])

    def guess(self, most_bytes: int, tail_bytes: int = 0, readers: int = 1) -> list[ByteRange]:
        """Tiles that will be read next, in order, as many as evidence and `most_bytes` allow.

        `tail_bytes` is how far the kernel reads past the last tile of a row, in the same request.
        The bytes that need no evidence are divided by `readers`.
        """
        self._pause -= 1
        if self._window is None or self._pause > 0:
            return []
        unproven_bytes = max(self._tuning.unproven_bytes // readers, self._learned_bytes)
        known_bytes = min(most_bytes, self._grid.allowed_bytes // readers if self._grid else 0)
        proven_bytes = 2 * self._window.read_bytes
        if not self._tuning.unproven_bytes and self._window.is_one_tile:
            proven_bytes = 0
        allowed = min(most_bytes, max(unproven_bytes, proven_bytes, known_bytes))
        tail_bytes = 0 if self._is_strips else tail_bytes
        spans = self._take(self._coming(self._window), allowed, tail_bytes)
        self._pause = len(spans) // _PAUSE_SHARE
        return spans + self._take(self._beyond(self._window), known_bytes, 0)

    @property
    def _learned_bytes(self) -> int:
        """Bytes of a window like the last ones, if known, at most `Tuning.base_bytes`."""
        if not self._shapes.are_known(self._key):
            return 0
        rows, columns = self._guess
        return min(rows * columns * self._level.mean_bytes, self._tuning.base_bytes)

    def _take(
        self, tiles: Iterable[tuple[int, int]], most_bytes: int, tail_bytes: int
    ) -> list[ByteRange]:
        """The first tiles that fit into `most_bytes`, as ranges."""
        spans = list[ByteRange]()
        for row, col in islice(tiles, _MOST_LOOKED_AT):
            if len(spans) == _MOST_SPANS:
                break
            span = self.span(row, col, tail_bytes)
            if span is None:
                continue
            most_bytes -= len(span)
            if most_bytes < 0:
                break
            spans.append(span)
            self.guessed[row, col] = span
        return spans

    def give_up(self) -> list[ByteRange]:
        """Forget the guesses that were not read and return them."""
        spans = list(self.guessed.values())
        self.guessed.clear()
        return spans

    def span(self, row: int, col: int, tail_bytes: int = 0) -> ByteRange | None:
        """The bytes of a tile, extended to whole buffers, as they will be requested.

        The last tile of a guessed row is extended by `tail_bytes`, or by the size of the reads of a
        tile.
        """
        span = self._image.span(self._number, self._plane, row, col)
        if span is None:
            return None
        end = self._image.base + self._image.size
        stop = span.stop
        if tail_bytes and col >= self._right - 1:
            # The kernel continues with pieces as large as the first ones, also in a small last
            # tile.
            piece = max(len(span), self._level.mean_bytes)
            stop += max(tail_bytes, min(piece, KERNEL_READ_BYTES))
        start = max(floor_to(span.start, BUFFER_BYTES), self._image.base)
        return ByteRange(start, max(span.stop, min(ceil_to(stop, BUFFER_BYTES), end)))

    def span_of_last(self, tail_bytes: int) -> ByteRange | None:
        """The bytes of the last tile; kept until another one is read."""
        assert self.last is not None, "a tile was touched"
        if self._last_span is None or self._last_span[0] != tail_bytes:
            self._last_span = tail_bytes, self.span(self.last.row, self.last.col, tail_bytes)
        return self._last_span[1]

    def _go_on_in_grid(self, tile: Tile) -> None:
        if self._grid is None:
            grid = self._shapes.take_grid(self._place, tile)
            self._grid = grid or Grid(self._level.across, self._level.down)
        self._grid.begin(tile.row, tile.col)

    @property
    def _right(self) -> int:
        """The column after the last guessed one."""
        window = self._window
        if window is None:
            return self._level.across
        width = window.columns
        if window.row == window.top:
            width = _grown(window.columns, self._guess[1])
        return min(window.left + width, self._level.across, window.left + _MOST_GUESSED)

    @property
    def _is_strips(self) -> bool:
        return self._level.across == 1

    def _strips_in(self, length: int) -> int:
        """Number of strips like the last one in `length` bytes; 0 for tiles."""
        span = self.span(self.last.row, 0) if self.last and self._is_strips else None
        return length // len(span) if span else 0

    @property
    def _key(self) -> tuple[int, int]:
        return self._image.base, self._number

    @property
    def _place(self) -> Plane:
        return (*self._key, self._plane)

    def _bottom(self, window: _Window) -> int:
        """The row below the last guessed one."""
        # Rows of strips are a run of bytes.
        strips = self._strips_in(self._tuning.base_bytes)
        height = _grown(window.rows, self._guess[0], max(1, strips))
        return min(window.top + height, self._level.down, window.row + _MOST_GUESSED)

    def _coming(self, window: _Window) -> Iterator[tuple[int, int]]:
        assert self.last is not None, "a window has a tile"
        right, bottom = self._right, self._bottom(window)
        for col in range(self.last.col + 1, right):
            yield window.row, col
        for row in range(window.row + 1, bottom):
            for col in range(window.left, right):
                yield row, col

    def _beyond(self, window: _Window) -> Iterator[tuple[int, int]]:
        """The tiles of the windows that follow this one in the grid."""
        rest = Pane(window.top, window.begun, self._bottom(window) - 1, self._right - 1)
        for pane in self._grid.coming(rest) if self._grid else ():
            for row in range(pane.top, pane.bottom + 1):
                for col in range(pane.left, pane.right + 1):
                    yield row, col


def _grown(read: int, guessed: int, least: int = 1) -> int:
    return guessed if read <= guessed else read + max(least, read // 2)
