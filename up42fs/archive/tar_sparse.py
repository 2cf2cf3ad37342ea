"""The maps of sparse files in tars: old GNU tar's, and pax in the versions 0.0, 0.1 and 1.0.

A map is pairs of an offset in the file and a length; the data of all pairs stand one after the
other in the archive. Hostile maps are refused: the member then cannot be read, the archive can.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from up42fs.archive.tar_headers import BLOCK, parse_decimal, parse_number

#: Segments that a file may have. A map of so many takes 10 MB of memory.
MOST_SEGMENTS = 65_536

#: Pairs of an offset in the file and a length.
Pairs: TypeAlias = list[tuple[int, int]]
#: Segments of `Member`: offset in the file, offset in the archive, length.
Segments: TypeAlias = tuple[tuple[int, int, int], ...]

_PAIR_BYTES = 24
#: Pairs in a header block, and in each block that continues it; each has a flag for more behind.
_HEADER_PAIRS_AT, _HEADER_PAIRS, _HEADER_MORE_AT = 386, 4, 482
_SIZE_AT = 483
_BLOCK_PAIRS, _BLOCK_MORE_AT = 21, 504


class BadMapError(ValueError):
    """The map is malformed or too long; the text says which."""


def header_map(block: bytes) -> tuple[Pairs, int, bool]:
    """Of old GNU tar's header: pairs, the file's size, and whether a block with more follows."""
    size = parse_number(block[_SIZE_AT : _SIZE_AT + 12])
    if size is None:
        raise BadMapError("has a size that is no number")
    pairs = _pairs_in(block, _HEADER_PAIRS_AT, _HEADER_PAIRS)
    return pairs, size, bool(block[_HEADER_MORE_AT])


def extension_map(block: bytes) -> tuple[Pairs, bool]:
    """Of a block that continues such a header: pairs, and whether another block follows."""
    return _pairs_in(block, 0, _BLOCK_PAIRS), bool(block[_BLOCK_MORE_AT])


def text_map(text: bytes) -> Pairs:
    """Of pax versions 0.0 and 0.1: offsets and lengths in turn, with commas between."""
    if text.count(b",") >= 2 * MOST_SEGMENTS:
        raise BadMapError("has more segments than up42fs reads")
    return _paired(text.split(b","))


class LinesMap:
    """Of pax version 1.0: lines at the beginning of the data, fed block by block."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._rest = b""
        self.taken_bytes = 0

    def feed(self, block: bytes) -> Pairs | None:
        """The pairs, once this block completes them."""
        self.taken_bytes += BLOCK
        *lines, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > BLOCK:
            raise BadMapError("has a map that is not made of numbers")
        self._lines += lines
        if not self._lines:
            return None
        count = parse_decimal(self._lines[0])
        if count is None:
            raise BadMapError("has a map that is not made of numbers")
        if count > MOST_SEGMENTS:
            raise BadMapError("has more segments than up42fs reads")
        if len(self._lines) < 1 + 2 * count:
            return None
        return _paired(self._lines[1 : 1 + 2 * count])


def placed(pairs: Pairs, data_at: int, packed_size: int, size: int) -> Segments:
    """The segments of a file whose data begins at `data_at`; raises BadMapError if they lie."""
    found: list[tuple[int, int, int]] = []
    at, end = data_at, 0
    for offset, length in pairs:
        if offset < end or offset + length > size:
            raise BadMapError("has a map whose segments overlap or lie outside the file")
        if length:
            found.append((offset, at, length))
        at, end = at + length, offset + length
    if at > data_at + packed_size:
        raise BadMapError("has a map of more data than the archive holds for it")
    return tuple(found)


def _pairs_in(block: bytes, at: int, most: int) -> Pairs:
    found: Pairs = []
    for start in range(at, at + most * _PAIR_BYTES, _PAIR_BYTES):
        if not block[start]:
            break  # unused places are zero
        offset = parse_number(block[start : start + 12])
        length = parse_number(block[start + 12 : start + _PAIR_BYTES])
        if offset is None or length is None:
            raise BadMapError("has a map that is not made of numbers")
        found.append((offset, length))
    return found


def _paired(texts: Sequence[bytes]) -> Pairs:
    numbers: Iterable[int | None] = map(parse_decimal, texts)
    known = [number for number in numbers if number is not None]
    if len(known) < len(texts) or len(known) % 2:
        raise BadMapError("has a map that is not made of numbers")
    return list(zip(known[::2], known[1::2], strict=True))
