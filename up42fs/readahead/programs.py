"""How a program is likely to read a file, judged by the names of both: in pieces or completely.

Knows names only. It affects only how far the kernel and up42fs read ahead: a wrong guess costs
bytes or speed, never correctness.
"""

from __future__ import annotations

from up42fs.readahead.tuning import Reading

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
    """How `program` is likely to read the file; `DIRECT` means in pieces here and there."""
    if program in _COPIERS:
        return Reading.WHOLE
    if program in _SAMPLERS:
        return Reading.EXACT
    # Each open comes here, and `PurePath.suffix` takes ten times as long.
    stem, dot, extension = file_name.rpartition(".")
    is_image = bool(stem) and dot + extension.lower() in _PIECEWISE
    return Reading.DIRECT if is_image and program not in _GREEDY else Reading.ANY
