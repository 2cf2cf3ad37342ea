"""Decides which byte ranges of a file to prefetch: all, or those a map needs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from up42fs.ranges import align, coalesce, split
from up42fs.readahead.tiff import TiffLayout, TiffLevel
from up42fs.types import ByteRange

#: One reader's share of a whole file: too short to count as a scan, whose bytes are evicted soon.
PIECE_BYTES = 16 << 20
#: One reader's share of a map's ranges: one request, or two if it does not begin with one.
MAP_PIECE_BYTES = 1 << 20
#: The smallest unit that the store fetches and keeps, bytes; smaller gaps are read too.
UNIT_BYTES = 128 << 10
#: In files read in pieces, the kernel reads this far past the requested end, bytes.
PAST_BYTES = 192 << 10
#: Approximate size of one request in a long read, bytes.
REQUEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of the full resolution, in pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def map_ranges(
    layout: TiffLayout, size: int, *, overviews: bool, window: Window | None
) -> list[ByteRange]:
    """Return the byte ranges of a map's tiles: overviews only, within `window` only, or both.

    Ranges are in units of `UNIT_BYTES` of the file of `size` bytes, as they are fetched and kept,
    with `PAST_BYTES` added after each. Tables and headers are not included: parsing the layout has
    read them.
    """
    if not layout.levels:
        return []
    full = max(layout.levels, key=lambda level: level.width * level.height)
    spans: list[ByteRange] = []
    for level in layout.levels:
        if overviews and not level.is_reduced:
            continue
        spans += _tiles(level, full, window)
    read = (ByteRange(span.start, min(span.stop + PAST_BYTES, size)) for span in spans)
    return coalesce((align(span, UNIT_BYTES, size) for span in read), UNIT_BYTES)


def pieces(spans: Iterable[ByteRange], most: int) -> list[ByteRange]:
    """Split `spans` into pieces of at most `most` bytes, each for one reader."""
    return [piece for span in spans for piece in split(span, most)]


def requests(spans: Iterable[ByteRange], most: int) -> int:
    """Estimate the number of requests that fetch `spans` in pieces of `most` bytes."""
    return sum(-(-len(piece) // REQUEST_BYTES) for piece in pieces(spans, most))


def _tiles(level: TiffLevel, full: TiffLevel, window: Window | None) -> Iterable[ByteRange]:
    rows, columns = range(level.down), range(level.across)
    if window is not None:
        rows = _under(window.top, window.bottom, level.height, full.height, level.tile_height)
        columns = _under(window.left, window.right, level.width, full.width, level.tile_width)
    for plane in range(level.planes):
        for row in rows:
            for column in columns:
                span = level.span(plane, row, column)
                if span is not None:
                    yield span


def _under(start: int, stop: int, length: int, full_length: int, tile: int) -> range:
    """Numbers of a level's tiles under the pixels [start, stop) of the full resolution."""
    first = max(0, start) * length // full_length
    last = -(-min(stop, full_length) * length // full_length)
    return range(first // tile, max(first // tile, -(-last // tile)))
