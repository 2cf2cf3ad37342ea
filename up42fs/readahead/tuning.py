"""The constants of the read plan, in one place, and how a program is likely to read a file.

`plan` explains where the constants come from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

KIB, MIB = 1 << 10, 1 << 20
#: Programs read images through the C library, which reads one or many whole buffers of this size,
#: and the kernel reads whole pages: the requested range of a tile begins and ends at such a
#: boundary.
BUFFER_BYTES = 8 * KIB
#: The kernel cuts a program's own read into pieces of this size, however short its read-ahead is.
KERNEL_READ_BYTES = 128 * KIB


class Reading(Enum):
    """How a handle will be read.

    `DIRECT`: bypassing the kernel's page cache. `WHOLE`: from end to end. `EXACT`: only the bytes
    read may be fetched.
    """

    ANY = auto()
    EXACT = auto()
    DIRECT = auto()
    WHOLE = auto()


@dataclass(frozen=True, slots=True)
class Tuning:
    """The constants of the plan, in bytes; the theory of `plan` explains their origin.

    `base_bytes` are guessed at a window's first tile if windows like it were read: two round trips
    of a middling line (25 MB/s, 50 ms); `unproven_bytes` if none was. With 0 nothing is guessed
    before a second tile was read: for a process that reads a few windows of one tile, as a
    cluster's workers do, a wrong guess costs as much as the windows.
    `kernel_ahead_bytes` is the kernel's own read-ahead: the longest of its reads, except large
    reads of the program itself, and half the distance it keeps ahead of a reader; 0 if reads arrive
    as programs make them. A run from the file's first byte counts as if `begun_bytes` came before
    it.
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
    unproven_bytes: int = 3 * MIB
    kernel_ahead_bytes: int = 128 * KIB
    begun_bytes: int = 0
    search_bytes: int = 8 * KIB
    hops: int = 3
    hop_file_bytes: int = 300 * MIB

    @property
    def bulk_bytes(self) -> int:
        """A handle whose first read is this long is assumed to read the file from end to end.

        The kernel extends a read of half of it to as much. (It does the same with the first page of
        a memory map, which costs bytes.)
        """
        return MIB if self.kernel_ahead_bytes else MIB // 2

    @property
    def slack_bytes(self) -> int:
        """The farthest that the program may still be before the end of a run, in bytes."""
        if not self.kernel_ahead_bytes:
            return BUFFER_BYTES
        return 2 * max(self.kernel_ahead_bytes, KERNEL_READ_BYTES)

    def suited(self, reading: Reading) -> Tuning:
        """The constants for a handle that is read that way."""
        if reading is Reading.DIRECT:
            return replace(self, kernel_ahead_bytes=0)
        return replace(self, begun_bytes=self.scan_bytes) if reading is Reading.WHOLE else self


#: Images that programs read by tiles, and archives of such images: read-ahead past a tile is
#: wasted.
_PIECEWISE = frozenset({
    ".tif", ".tiff", ".gtiff", ".ovr", ".msk", ".img", ".ntf", ".vrt", ".zip",
})  # fmt: skip
#: Programs that read a file from its first byte to its last, in order, and seldom stop before.
_COPIERS = frozenset({
    "b2sum", "b3sum", "cat", "cksum", "cp", "install", "md5sum", "mv", "pv", "rsync", "scp",
    "sha1sum", "sha256sum", "sha512sum", "xxhsum",
})  # fmt: skip
#: Programs that read any file in large stretches, whatever it contains; and shells, which open a
#: file for a program that reads it as its input.
_GREEDY = frozenset({
    "7z", "7za", "7zr", "7zz", "ark", "bash", "bsdtar", "cmp", "dash", "dd", "diff", "file-roller",
    "fish", "funzip", "gzip", "ksh", "rclone", "restic", "sftp-server", "sh", "smbd", "tar",
    "unzip", "xz", "zip", "zsh", "zstd",
})  # fmt: skip
#: Programs that read the first megabyte of any file at once, and a little more here and there.
_SAMPLERS = frozenset({"file"})


def reading_of(file_name: str, program: str) -> Reading:
    """How `program` is likely to read the file, judged by the names of both.

    `DIRECT` means in pieces here and there. It affects only how far the kernel and up42fs read
    ahead: a wrong guess costs bytes or speed, never correctness.
    """
    if program in _COPIERS:
        return Reading.WHOLE
    if program in _SAMPLERS:
        return Reading.EXACT
    # Each open comes here, and `PurePath.suffix` takes ten times as long.
    stem, dot, extension = file_name.rpartition(".")
    is_image = bool(stem) and dot + extension.lower() in _PIECEWISE
    return Reading.DIRECT if is_image and program not in _GREEDY else Reading.ANY
