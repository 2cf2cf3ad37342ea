"""The constants of the read plan, in one place; `access` says where they come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

KIB, MIB = 1 << 10, 1 << 20
#: Programs read images through the C library, which reads whole buffers of this size or many of
#: them, and the kernel whole pages: what is wanted of a tile begins and ends at such a boundary.
BUFFER_BYTES = 8 * KIB
#: A program's own read is cut into such pieces, however short the kernel's read-ahead is.
KERNEL_READ_BYTES = 128 * KIB


class Reading(Enum):
    """How a handle will be read.

    `DIRECT`: past the kernel's page cache. `WHOLE`: from end to end. `EXACT`: so that nothing but
    what is read is to be fetched.
    """

    ANY = auto()
    EXACT = auto()
    DIRECT = auto()
    WHOLE = auto()


@dataclass(frozen=True, slots=True)
class Tuning:
    """The constants of the plan, in bytes; the module's theory says where they come from.

    `base_bytes` are guessed without evidence: two round trips of a middling line (25 MB/s, 50 ms).
    `kernel_ahead_bytes` is the kernel's own read-ahead: the longest of its reads but for what
    programs ask for at once, and half of how far it is ahead of a reader; 0 where reads come as
    programs make them. A run from the file's first byte counts as if `begun_bytes` came before it.
    """

    whole_bytes: int = MIB
    head_bytes: int = 128 * KIB
    tail_bytes: int = 128 * KIB
    jump_bytes: int = 128 * KIB
    run_bytes: int = MIB
    ahead_from_bytes: int = 512 * KIB
    fall_from_bytes: int = 256 * KIB
    sure_bytes: int = 2 * MIB
    window_bytes: int = 64 * MIB
    part_bytes: int = 2 * MIB
    scan_part_bytes: int = 4 * MIB
    forward_bytes: int = MIB
    back_bytes: int = 256 * KIB
    streams: int = 8
    patience_bytes: int = 2 * MIB
    away_bytes: int = MIB
    join_bytes: int = 512 * KIB
    least_part_bytes: int = MIB
    least_guess_bytes: int = 16 * KIB
    scan_bytes: int = 16 * MIB
    base_bytes: int = 3 * MIB
    kernel_ahead_bytes: int = 128 * KIB
    begun_bytes: int = 0
    search_bytes: int = 8 * KIB
    hops: int = 3
    hop_file_bytes: int = 300 * MIB

    @property
    def bulk_bytes(self) -> int:
        """Who begins a file with as much at once reads it from end to end.

        The kernel makes as much of half of it. (And of a map's first page: that costs bytes.)
        """
        return MIB if self.kernel_ahead_bytes else MIB // 2

    @property
    def slack_bytes(self) -> int:
        """How far before the end of a run the reader may still be, at most."""
        if not self.kernel_ahead_bytes:
            return BUFFER_BYTES
        return 2 * max(self.kernel_ahead_bytes, KERNEL_READ_BYTES)

    def suited(self, reading: Reading) -> Tuning:
        """The constants for handles that are read so."""
        if reading is Reading.DIRECT:
            return replace(self, kernel_ahead_bytes=0)
        return replace(self, begun_bytes=self.scan_bytes) if reading is Reading.WHOLE else self
