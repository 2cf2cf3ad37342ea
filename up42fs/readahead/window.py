"""The window of tiles that a reader walks through: what it read of it, what it will read next.

Knows tiles by row and column and how many bytes they have; nothing of time or requests.

Theory. Programs read images by windows: row after row of tiles, each from left to right. Through
a file system that is one tile after another, with a round trip between them, where a program that
speaks HTTP asks for all at once. So the window is guessed. At its first tile the guess is a window
like the last ones of this object (`Shapes`), before there are any, one of 1024 pixels, a screen.
It grows when tiles beyond it are read: by half its width within the first row, by half its height
at the first tile of a row; the rows below the first are as wide as that one was.

A guess is worth a round trip if it is right and costs line time if it is wrong. Guessed tiles come
in the order in which they would be read, and no more of them are asked for than
`Tuning.base_bytes` and twice what was read of the window: a point query of one tile wastes a
tenth of a second of a slow line, and a window is on its way as a whole after its second tile.
Handles that read the object at the same time share those bytes, as they share the line, but each
may ask for a window like the last ones.

What the kernel reads ahead looks like reading on. It asks for the next piece when the program
comes to the one asked for last, so a tile that reads continue into counts once they are two reads
further; one that a read jumps to counts at once. Strips are a run of bytes that ends: their window
grows by what may be guessed without evidence at least, and some may be passed unseen. Reads that
pass the page cache by are the program's own, to the buffer of the C library: nothing of this then.

A window ends when a tile is read that does not continue it: one above the current row, or apart
from the window. One that begins to the right of the last one shares a column of tiles with it,
since windows seldom end where tiles do; programs hold those and do not read them again. Windows
that follow each other in a `grid` make the next ones known. Rejected: a guess of the whole row (28
MB in a large scene); counting each window apart by handle (thread pools open the file once a
thread, and all learn from one).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

from up42fs.ranges import ceil_to, floor_to
from up42fs.readahead.contents import Image
from up42fs.readahead.grid import Grid, Pane
from up42fs.readahead.tiff import Level, Tile
from up42fs.readahead.tuning import BUFFER_BYTES, KERNEL_READ_BYTES, Tuning
from up42fs.types import ByteRange

#: The side of the first guess, pixels.
GUESS_PIXELS = 1024
_REMEMBERED = 4
#: So many grids of closed handles are remembered.
_MOST_GRIDS = 8
#: So many reads of tiles of one object are lately.
_LATELY = 64
#: Rows and columns beyond which a guess is not counted out.
_MOST_GUESSED = 4096
#: Tiles looked at for one guess, and ranges that it has at most: tables may be full of tiles that
#: are not there, or have a byte each.
_MOST_LOOKED_AT = 8192
_MOST_SPANS = 1024
#: After so small a share of the tiles last guessed it is time for the next guess.
_PAUSE_SHARE = 16

#: An image's offset in the object, a level's number, a plane's.
Plane = tuple[int, int, int]


class Shapes:
    """How large the last windows read of one object were, by level, and by how many handles.

    And the grids of handles that were closed: programs open the file anew for every window.
    """

    def __init__(self) -> None:
        self._recent: dict[tuple[int, int], deque[tuple[int, int]]] = {}
        self._readers: deque[int] = deque(maxlen=_LATELY)
        self._grids: deque[tuple[Plane, Grid]] = deque(maxlen=_MOST_GRIDS)

    def readers(self, reader: int) -> int:
        """How many handles read tiles lately; `reader` does now."""
        self._readers.append(reader)
        return len(set(self._readers))

    def leave(self, reader: int) -> None:
        """The handle is closed."""
        while reader in self._readers:
            self._readers.remove(reader)

    def keep_grid(self, plane: Plane, grid: Grid) -> None:
        """Who read it is closed; another handle may go on with it."""
        self._grids.append((plane, grid))

    def take_grid(self, plane: Plane, tile: Tile) -> Grid | None:
        """The grid of a closed handle that a window beginning with `tile` goes on with."""
        for at, (its_plane, grid) in enumerate(self._grids):
            if its_plane == plane and grid.goes_on(tile.row, tile.col):
                del self._grids[at]
                return grid
        return None

    def record(self, key: tuple[int, int], rows: int, columns: int) -> None:
        """A window of the level `key` ended; sizes in tiles."""
        self._recent.setdefault(key, deque(maxlen=_REMEMBERED)).append((rows, columns))

    def are_known(self, key: tuple[int, int]) -> bool:
        """Whether the last windows of the level teach the next one's size."""
        return len(self._recent.get(key, ())) == _REMEMBERED

    def guess(self, key: tuple[int, int], level: Level) -> tuple[int, int]:
        """Rows and columns of the next window of the level."""
        recent = self._recent.get(key)
        if not recent:
            return _tiles(level.tile_height), _tiles(level.tile_width)
        rows, columns = zip(*recent, strict=True)
        return round(fmean(rows) + 0.25), round(fmean(columns) + 0.25)


def _tiles(side: int) -> int:
    # A window seldom begins where a tile does.
    return -(-GUESS_PIXELS // side) + 1 if side < GUESS_PIXELS else 2


@dataclass(slots=True)
class _Window:
    """The tiles `[top, bottom] x [left, right]` were read, of `row` the last one."""

    top: int
    left: int
    bottom: int
    right: int
    row: int
    begun: int  # the column that it began in
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

    def continues(self, tile: Tile, unseen_rows: int) -> bool:
        """Whether `tile` belongs to it, or next to it in reading order, `unseen_rows` left out."""
        inside = self.left - 1 <= tile.col <= self.right + 1
        return inside and self.row <= tile.row <= self.row + 1 + unseen_rows

    def is_left_of(self, tile: Tile) -> bool:
        """Whether a window that begins with `tile` goes on to the right of it, row by row."""
        return (tile.row, tile.col) == (self.top, self.right + 1)

    def take(self, tile: Tile) -> None:
        self.left, self.right = min(self.left, tile.col), max(self.right, tile.col)
        self.bottom = self.row = tile.row


class Walk:
    """One reader in one plane of one image's level."""

    def __init__(
        self, image: Image, level: int, plane: int, shapes: Shapes, tuning: Tuning
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
        self.guessed: dict[tuple[int, int], ByteRange] = {}

    def touch(self, tile: Tile) -> bool:
        """`tile` is read; whether a window begins with it."""
        window = self._window
        if tile == self.last:
            return False
        # A reader may be past so much before it is known for certain.
        unseen_rows = self._strips_in(self._tuning.slack_bytes)
        begins = window is None or not window.continues(tile, unseen_rows)
        self.last = tile
        if window is None or begins:
            self.end()
            self._guess = self._shapes.guess(self._key, self._level)
            self._go_on_in_grid(tile)
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
        """The window is over: remember its shape."""
        if self._window is not None:
            self._shapes.record(self._key, self._window.rows, self._window.columns)
            if self._grid is not None:
                self._grid.end(self._window.pane, self._window.read_bytes)
        self._window = None

    def close(self) -> tuple[list[ByteRange], list[ByteRange]]:
        """The handle is closed: what was guessed and not read, and, of a grid, what will be."""
        self.end()
        guessed = self.give_up()
        if self._grid is None:
            return guessed, []
        self._shapes.keep_grid(self._place, self._grid)
        return ([], guessed) if self._grid.allowed_bytes else (guessed, [])

    def guess(self, most_bytes: int, tail_bytes: int = 0, readers: int = 1) -> list[ByteRange]:
        """Tiles that will be read next, in order, as many as evidence and `most_bytes` allow.

        `tail_bytes`: how much further than the last one of a row the kernel reads, in one request
        with it. What needs no evidence is shared by `readers`.
        """
        self._pause -= 1
        if self._window is None or self._pause > 0:
            return []
        unproven_bytes = max(self._tuning.base_bytes // readers, self._learned_bytes)
        known_bytes = min(most_bytes, self._grid.allowed_bytes // readers if self._grid else 0)
        allowed = min(most_bytes, max(unproven_bytes, 2 * self._window.read_bytes, known_bytes))
        tail_bytes = 0 if self._is_strips else tail_bytes
        spans = self._take(self._coming(self._window), allowed, tail_bytes)
        self._pause = len(spans) // _PAUSE_SHARE
        return spans + self._take(self._beyond(self._window), known_bytes, 0)

    @property
    def _learned_bytes(self) -> int:
        """What a window like the last ones has, if there were any, up to `Tuning.base_bytes`."""
        if not self._shapes.are_known(self._key):
            return 0
        rows, columns = self._guess
        return min(rows * columns * self._level.mean_bytes, self._tuning.base_bytes)

    def _take(
        self, tiles: Iterable[tuple[int, int]], most_bytes: int, tail_bytes: int
    ) -> list[ByteRange]:
        """As many of the tiles as have `most_bytes`."""
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
        """What was guessed and not read; forgets it."""
        spans = list(self.guessed.values())
        self.guessed.clear()
        return spans

    def span(self, row: int, col: int, tail_bytes: int = 0) -> ByteRange | None:
        """The bytes of a tile grown to whole buffers, as they will be asked for.

        The last one of a row as guessed is longer by `tail_bytes`, or by what the tile is read in.
        """
        span = self._image.span(self._number, self._plane, row, col)
        if span is None:
            return None
        end = self._image.base + self._image.size
        stop = span.stop
        if tail_bytes and col >= self._right - 1:
            # The kernel goes on in pieces as large as it began with, also in a small last tile.
            piece = max(len(span), self._level.mean_bytes)
            stop += max(tail_bytes, min(piece, KERNEL_READ_BYTES))
        start = max(floor_to(span.start, BUFFER_BYTES), self._image.base)
        return ByteRange(start, max(span.stop, min(ceil_to(stop, BUFFER_BYTES), end)))

    def _go_on_in_grid(self, tile: Tile) -> None:
        if self._grid is None:
            grid = self._shapes.take_grid(self._place, tile)
            self._grid = grid or Grid(self._level.across, self._level.down)
        self._grid.begin(tile.row, tile.col)

    @property
    def _right(self) -> int:
        """The column after the last one as guessed."""
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
        """How many strips like the last one have `length` bytes; 0 where there are tiles."""
        span = self.span(self.last.row, 0) if self.last and self._is_strips else None
        return length // len(span) if span else 0

    @property
    def _key(self) -> tuple[int, int]:
        return self._image.base, self._number

    @property
    def _place(self) -> Plane:
        return (*self._key, self._plane)

    def _bottom(self, window: _Window) -> int:
        """The row below the last one as guessed."""
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
        """The tiles of the windows that come after this one."""
        rest = Pane(window.top, window.begun, self._bottom(window) - 1, self._right - 1)
        for pane in self._grid.coming(rest) if self._grid else ():
            for row in range(pane.top, pane.bottom + 1):
                for col in range(pane.left, pane.right + 1):
                    yield row, col


def _grown(read: int, guessed: int, least: int = 1) -> int:
    return guessed if read <= guessed else read + max(least, read // 2)
