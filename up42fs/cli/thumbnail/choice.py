"""Chooses the overview of a TIFF that makes a picture of some size for few bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from up42fs.ranges import coalesce
from up42fs.readahead.tiff import TiffLayout, TiffLevel
from up42fs.types import ByteRange

#: Pixels of an overview beyond which decoding takes too much memory, whatever its bytes.
MOST_PIXELS = 4 << 20
#: Bytes between tiles that are fetched along, since a request takes longer than they do.
GAP_BYTES = 8 << 10


@dataclass(frozen=True, slots=True)
class Choice:
    """An overview: its number among the overviews, the largest first; the bytes of its tiles."""

    number: int
    width: int
    height: int
    spans: tuple[ByteRange, ...]


def choose(layout: TiffLayout, size: int, most_bytes: int) -> Choice | None:
    """The smallest overview as wide or high as `size`, or else the largest that can be had.

    Its tiles, and those of its mask, take at most `most_bytes`. None if there is none.
    """
    overviews = [each for each in layout.levels if each.is_reduced and not each.is_mask]
    overviews.sort(key=lambda each: -each.width * each.height)
    best: Choice | None = None
    for number in reversed(range(len(overviews))):
        level = overviews[number]
        spans = _spans(layout, level)
        if level.width * level.height > MOST_PIXELS or sum(map(len, spans)) > most_bytes:
            break
        if spans:
            best = Choice(number, level.width, level.height, tuple(spans))
        if best is not None and max(level.width, level.height) >= size:
            break
    return best


def _spans(layout: TiffLayout, level: TiffLevel) -> list[ByteRange]:
    shape = level.width, level.height
    masks = [one for one in layout.levels if one.is_mask and (one.width, one.height) == shape]
    tiles = [
        span
        for one in (level, *masks)
        for plane in range(one.planes)
        for row in range(one.down)
        for column in range(one.across)
        if (span := one.span(plane, row, column)) is not None
    ]
    return coalesce(tiles, GAP_BYTES)
