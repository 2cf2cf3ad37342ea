"""Files made to cost those who parse them as much as they can; made anew by every test."""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Iterable

#: Side of an image of 2^20 tiles of 16 pixels.
SIDE = 16 * 1024


def tiff(
    offsets: Iterable[int],
    counts: Iterable[int],
    *,
    directories: int = 1,
    side: int = SIDE,
    padding: int = 0,
) -> bytes:
    """A TIFF whose directories all share one table of tiles of 16 pixels."""
    places, lengths = array("I", offsets), array("I", counts)
    assert len(places) == len(lengths) == (side // 16) ** 2
    tables_at = 8 + directories * _DIRECTORY_BYTES
    head = b"II*\0" + struct.pack("<I", 8)
    for number in range(directories):
        at = 8 + number * _DIRECTORY_BYTES
        following = at + _DIRECTORY_BYTES if number + 1 < directories else 0
        head += _directory(len(places), side, tables_at, following)
    return head + places.tobytes() + lengths.tobytes() + bytes(padding)


_DIRECTORY_BYTES = 2 + 6 * 12 + 4


def _directory(count: int, side: int, tables_at: int, following: int) -> bytes:
    entries = [
        (256, 4, 1, side),
        (257, 4, 1, side),
        (322, 4, 1, 16),
        (323, 4, 1, 16),
        (324, 4, count, tables_at),
        (325, 4, count, tables_at + 4 * count),
    ]
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


def shared_table(tiles: int = 1 << 20, directories: int = 64) -> bytes:
    """Directories that share a table of so many tiles, of which each is read as a level."""
    side = 16 * round(tiles**0.5)
    return tiff(range(8, 8 + tiles), [1] * tiles, directories=directories, side=side)


def overlapping(tiles: int = 1 << 16, directories: int = 1) -> bytes:
    """All tiles lie over each other: each read has bytes of all of them."""
    side = 16 * round(tiles**0.5)
    size = 8 + directories * _DIRECTORY_BYTES + 8 * tiles
    offsets = [8 + number % 64 for number in range(tiles)]
    counts = [size - 72] * tiles
    return tiff(offsets, counts, directories=directories, side=side)


def shuffled(tiles: int = 1 << 20) -> bytes:
    """Tiles in no order: their table has to be sorted."""
    offsets = [8 + number for number in range(tiles)]
    random.Random(7).shuffle(offsets)
    return tiff(offsets, [1] * tiles, side=16 * round(tiles**0.5))


def sparse(tiles: int = 1 << 20) -> bytes:
    """An image of nothing but holes, with a tile here and there."""
    every = 4099
    offsets = [8 + number if number % every == 0 else 0 for number in range(tiles)]
    counts = [int(offset != 0) for offset in offsets]
    return tiff(offsets, counts, side=16 * round(tiles**0.5))


def archive(members: int = (1 << 16) - 1, extra: bytes = b"") -> bytes:
    """A zip whose directory has so many members, with such extra fields each."""
    wide = 0xFFFFFFFF
    entry = b"PK\x01\x02" + struct.pack(
        "<4H4x3L5H2L", 20, 20, 0, 0, 0, wide, wide, 1, len(extra), 0, 0, 0, 0, wide
    )
    entry += b"n" + extra
    directory = entry * members
    local = b"PK\x03\x04" + bytes(26)
    end = b"PK\x05\x06" + struct.pack(
        "<4H2LH", 0, 0, members, members, len(directory), len(local), 0
    )
    return local + directory + end


def empty_extras(length: int = 0xFFFF) -> bytes:
    """Extra fields of no bytes each, as many as fit in `length`."""
    return struct.pack("<HH", 0xAAAA, 0) * (length // 4)
