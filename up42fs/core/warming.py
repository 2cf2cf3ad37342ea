"""How to read files ahead of work: in which pieces, at what cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from up42fs.core.ranges import split
from up42fs.types import ByteRange

#: One reader's share of a whole file: too short for a scan, whose bytes are not kept for long.
PIECE_BYTES = 16 << 20
#: About how much one request brings in a long read, bytes.
REQUEST_BYTES = 1 << 20


def pieces(spans: Iterable[ByteRange], most: int) -> list[ByteRange]:
    """`spans` cut into what one reader reads at a time, `most` bytes."""
    return [piece for span in spans for piece in split(span, most)]


def requests(spans: Iterable[ByteRange], most: int) -> int:
    """About how many requests it takes to fetch `spans`, read in pieces of `most` bytes."""
    return sum(-(-len(piece) // REQUEST_BYTES) for piece in pieces(spans, most))
