"""Maps one open handle's reads of tiled images to tiles: those wanted now and those next.

Turns reads into tiles for `window` and `jumps`; knows nothing of what is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from up42fs.ranges import ceil_to, floor_to
from up42fs.readahead.contents import FoundTiff, Structure
from up42fs.readahead.jumps import Stride
from up42fs.readahead.runs import Stream
from up42fs.readahead.tiff import Tile
from up42fs.readahead.tuning import BUFFER_BYTES, MIB, Tuning
from up42fs.readahead.window import Shapes, Walk
from up42fs.types import ByteRange

#: Walks of one handle at once: image and mask, or planes.
_MOST_WALKS = 8
#: Total bytes of the stops predicted at once: predictions further ahead are less certain.
_MOST_STRIDED_BYTES = 4 * MIB


@dataclass(frozen=True, slots=True)
class Tiles:
    """One read in tiles; ranges are whole buffers.

    `now` are the tiles that it wants, `coming` those that will be read next, in order, `left` the
    guessed ones that will not. `scans`: a run continued from one level into another, which happens
    only when the file is read as bytes, not as an image.
    """

    now: tuple[ByteRange, ...] = ()
    coming: tuple[ByteRange, ...] = ()
    left: tuple[ByteRange, ...] = ()
    scans: bool = False


@dataclass(slots=True)
class _Stop:
    """The last stop of a reader that skips strips: `[start, stop)` was read there."""

    start: int
    stop: int


@dataclass(slots=True)
class TileReader:
    """One handle's path through the images of an object."""

    structure: Structure
    shapes: Shapes
    tuning: Tuning
    _walks: dict[tuple[int, int, int], Walk] = field(default_factory=dict)
    _stride: Stride = field(default_factory=Stride)
    _stop: _Stop | None = None
    _reach_bytes: int = 0
    _longest_bytes: int = 0

    def on_read(
        self,
        read: ByteRange,
        passed: ByteRange | None,
        stream: Stream,
        *,
        goes_on: bool,
        most_bytes: int,
    ) -> Tiles | None:
        """Return the tiles of a read, of which `passed` is certainly wanted; None if unknown.

        `goes_on`: it begins at the end of `stream`, its run. At most `most_bytes` may be guessed.
        """
        self._longest_bytes = max(self._longest_bytes, len(read))
        image = self.structure.image_at(read.start)
        if image is None or image.layout is None:
            if self.structure.is_forgotten:
                self._walks.clear()  # they would keep the tables in memory
            return None
        if goes_on and self._stop is not None:
            self._stop.stop = max(self._stop.stop, read.stop)
        scans = self._scans(image, read, stream)
        touched = self._touched(image, passed, goes_on=goes_on) if passed else []
        in_head = not goes_on or read.stop <= image.base + self.tuning.head_bytes
        if in_head and stream.whole_from < image.tiles_at:
            touched = []  # the tables are wanted; the bytes behind them are the kernel's read-ahead
        in_tail = image.base and read.start >= self.structure.size - self.tuning.tail_bytes
        if in_tail and not goes_on:
            touched = []  # the reader searches the archive's directory; the tail is fetched whole
        if not touched:
            left = self._left_walks(stream.touched_at)
            return Tiles(left=tuple(left), scans=scans) if image.under(read) else None
        left = []
        now: list[ByteRange] = []
        walk, is_news = None, False
        for tile in touched:
            walk = self._walk(image, tile)
            walk.touched_at = stream.touched_at
            is_news |= tile != walk.last
            if walk.touch(tile):
                left += walk.give_up()
            span = walk.span_of_last(self._tail_bytes)
            now += [span] if span else []
        assert walk is not None, "a tile was touched"
        left += self._left_walks(stream.touched_at)
        coming = self._strided(image, touched[-1], read, goes_on=goes_on)
        if coming is None:
            coming = self._guess(walk, most_bytes, is_news=is_news)
        wanted = {*now, *coming} if left else ()
        gone = tuple(span for span in left if span not in wanted)
        return Tiles(tuple(now), tuple(coming), gone, scans)

    def _guess(self, walk: Walk, most_bytes: int, *, is_news: bool) -> list[ByteRange]:
        """What `walk` will read next, where a tile is read that was not the last one."""
        if not is_news:
            self.shapes.note(id(self))
            return []
        return walk.guess(most_bytes, self._tail_bytes, self.shapes.readers(id(self)))

    def close(self) -> tuple[list[ByteRange], list[ByteRange]]:
        """End all walks; return unread guesses, and those that other handles will read."""
        left, coming = list[ByteRange](), list[ByteRange]()
        for walk in self._walks.values():
            given_up, foretold = walk.close()
            left += given_up
            coming += foretold
        self._walks.clear()
        self.shapes.leave(id(self))
        return left, coming

    def _touched(self, image: FoundTiff, passed: ByteRange, *, goes_on: bool) -> list[Tile]:
        """The tiles that are certainly wanted, in the order of the file."""
        if goes_on:
            return image.under(passed)
        # The first read of a tile is of the pages it begins in, which also contain another tile's
        # end.
        pages = ByteRange(passed.start, min(passed.start + BUFFER_BYTES, passed.stop))
        near = image.under(pages)
        begun = [tile for tile in near if image.starts_in(tile, pages)]
        first = (begun or near)[:1]
        if passed.stop > pages.stop:
            first += image.under(ByteRange(pages.stop, passed.stop))
        return list(dict.fromkeys(first))

    def _scans(self, image: FoundTiff, read: ByteRange, stream: Stream) -> bool:
        """Whether the run has certainly continued from one level into another."""
        stop = read.stop - self.tuning.slack_bytes
        sure = image.under(ByteRange(stop - 1, stop)) if stop > stream.whole_from else []
        before, stream.level = stream.level, sure[-1].level if sure else stream.level
        return before is not None and before != stream.level

    @property
    def _tail_bytes(self) -> int:
        """How far a read may extend past the last tile of a row, whatever that tile's size."""
        if not self.tuning.kernel_ahead_bytes:
            return 0
        return max(self._longest_bytes, self.tuning.kernel_ahead_bytes)

    def _walk(self, image: FoundTiff, tile: Tile) -> Walk:
        key = (image.base, tile.level, tile.plane)
        walk = self._walks.pop(key, None)
        if walk is None:
            walk = Walk(image, tile.level, tile.plane, self.shapes, self.tuning)
        self._walks[key] = walk
        return walk

    def _left_walks(self, read_bytes: int) -> list[ByteRange]:
        """Guesses of walks that were left, because enough was read elsewhere since."""
        left: list[ByteRange] = []
        for key, walk in list(self._walks.items())[:-1]:
            is_crowded = len(self._walks) > _MOST_WALKS
            if is_crowded or read_bytes - walk.touched_at > self.tuning.patience_bytes:
                left += walk.give_up()
                walk.end()
                del self._walks[key]
        return left

    def _strided(
        self, image: FoundTiff, tile: Tile, read: ByteRange, *, goes_on: bool
    ) -> list[ByteRange] | None:
        """The next stops of a reader of every n-th strip, as far as it will read there."""
        assert image.layout is not None, "or there would be no tile"
        if image.layout.levels[tile.level].across > 1:
            return None
        if goes_on:
            return [] if self._stride.coming(1) is not None else None
        if self._stop is not None:
            last_bytes = self._stop.stop - self._stop.start
            self._reach_bytes = max(self._reach_bytes * 7 // 8, last_bytes)
        self._stride.observe(tile.row, 1)
        self._stop = _Stop(read.start, read.stop)
        return self._stops_ahead(image, tile)

    def _stops_ahead(self, image: FoundTiff, tile: Tile) -> list[ByteRange] | None:
        allowed = min(self.tuning.base_bytes * (1 + self._stride.steps // 16), _MOST_STRIDED_BYTES)
        spans: list[ByteRange] = []
        ahead = 1
        while (rows := self._stride.coming(ahead)) is not None:
            first = image.span(tile.level, tile.plane, rows[0], 0)
            last = image.span(tile.level, tile.plane, rows[1], 0)
            if first is None or last is None or allowed < 0:
                break
            start = floor_to(first.start, BUFFER_BYTES)
            stop = ceil_to(max(last.stop, start + self._reach_bytes), BUFFER_BYTES)
            stop = min(stop, image.base + image.size)
            spans.append(ByteRange(start, stop))
            allowed -= stop - start
            ahead += 1
        return spans if self._stride.coming(1) is not None else None
