"""How a program is likely to read a file: in pieces, or in one go; by the names of both.

Knows names only. It decides nothing but how far is read ahead, by the kernel and by us: a wrong
answer costs bytes or speed, never correctness.
"""

from __future__ import annotations

from pathlib import PurePosixPath

#: Images that programs read by tiles, and archives that hold such: read-ahead past a tile is
#: fetched for nothing.
_PIECEWISE = frozenset({
    ".tif", ".tiff", ".gtiff", ".ovr", ".msk", ".img", ".ntf", ".vrt", ".zip",
})  # fmt: skip
#: Programs that read a file from its first byte to its last, nothing else, and seldom less.
_COPIERS = frozenset({
    "b2sum", "b3sum", "cat", "cksum", "cp", "install", "md5sum", "mv", "pv", "rsync", "scp",
    "sha1sum", "sha256sum", "sha512sum", "xxhsum",
})  # fmt: skip
#: Programs that read what they are given in large stretches, whatever is in it.
_GREEDY = _COPIERS | {
    "7z", "7za", "7zr", "7zz", "ark", "bsdtar", "cmp", "dd", "diff", "file-roller", "funzip",
    "gzip", "rclone", "restic", "sftp-server", "smbd", "tar", "unzip", "xz", "zip", "zstd",
}  # fmt: skip


def copies(program: str) -> bool:
    """Whether `program` is sure to want all of a file, in order."""
    return program in _COPIERS


def reads_pieces(file_name: str, program: str) -> bool:
    """Whether `program` is likely to read pieces of the file here and there."""
    return PurePosixPath(file_name).suffix.lower() in _PIECEWISE and program not in _GREEDY
