"""Whether a reader hops through a JPEG 2000 file, all of which it will need.

Knows jumps by offset; nothing of the codestream but its name. Without a TLM marker, as Sentinel-2
and Pleiades come, a decoder finds a tile part only by the header of the one before it: a hundred
dependent round trips, whatever part of the image is wanted. Loading the file whole takes fewer.
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
        """Whether the file had better be loaded whole now."""
        if structure.format is not Format.JPEG2000 or structure.size > tuning.hop_file_bytes:
            return False
        if is_jump and read.start > self._last + tuning.jump_bytes // 2:
            self._count += 1
        elif is_jump and read.start < self._last:
            self._count = 0
        if is_jump:
            self._last = read.start
        return self._count >= tuning.hops
