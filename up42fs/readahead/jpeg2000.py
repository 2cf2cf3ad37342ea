"""Detects readers that hop through a JPEG 2000 file, all of which they will need.

Knows jumps by offset; nothing of the codestream beyond the format's name. Without a TLM marker (as
in Sentinel-2 and Pleiades files), a decoder finds a tile part only through the header of the one
before it: a hundred dependent round trips, whatever part of the image is wanted. Fetching the file
whole takes fewer.
"""

from __future__ import annotations

from up42fs.readahead.contents import Format, Structure
from up42fs.readahead.tuning import Tuning
from up42fs.types import ByteRange


class Hops:
    """The jumps of one open handle."""

    def __init__(self) -> None:
        self._last = 0
        self._count = 0

    def on_read(
        self, read: ByteRange, structure: Structure, tuning: Tuning, *, is_jump: bool
    ) -> bool:
        """Whether the file should be fetched whole now."""
        if structure.format is not Format.JPEG2000 or structure.size > tuning.hop_file_bytes:
            return False
        if is_jump and read.start > self._last + tuning.jump_bytes // 2:
            self._count += 1
        elif is_jump and read.start < self._last:
            self._count = 0
        if is_jump:
            self._last = read.start
        return self._count >= tuning.hops
