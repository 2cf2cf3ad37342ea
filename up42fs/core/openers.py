"""How a program is likely to read a file: in pieces, or in one go; by the names of both.

Knows names only. It decides nothing but how far the kernel reads ahead: a wrong answer costs bytes
or speed, never correctness.
"""

from __future__ import annotations

from pathlib import PurePosixPath

#: Images that programs read by tiles, and archives that hold such: read-ahead past a tile is
#: fetched for nothing.
_PIECEWISE = frozenset({
    ".tif", ".tiff", ".gtiff", ".ovr", ".msk", ".img", ".ntf", ".vrt", ".zip",
})  # fmt: skip
#: Programs that read whole files, whatever is in them, or archives from end to end.
_COPIERS = frozenset({
    "7z", "7za", "7zr", "7zz", "ark", "b2sum", "b3sum", "bsdtar", "cat", "cksum", "cmp", "cp", "dd",
    "diff", "file-roller", "funzip", "gzip", "install", "md5sum", "mv", "pv", "rclone", "restic",
    "rsync", "scp", "sftp-server", "sha1sum", "sha256sum", "sha512sum", "smbd", "tar", "unzip",
    "xxhsum", "xz", "zip", "zstd",
})  # fmt: skip


def reads_pieces(file_name: str, program: str) -> bool:
    """Whether `program` is likely to read pieces of the file here and there."""
    return PurePosixPath(file_name).suffix.lower() in _PIECEWISE and program not in _COPIERS
