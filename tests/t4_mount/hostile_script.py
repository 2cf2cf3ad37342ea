"""Mounts a file system that calls itself up42fs, whose status is whatever a file says.

`hostile_script.py MOUNTPOINT STATUS [TARGET]`: with TARGET the status is a link there instead.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pyfuse3
import trio

ROOT, CONTROL, STATUS = pyfuse3.ROOT_INODE, 2, 3
NAMES = {(ROOT, b".up42fs"): CONTROL, (CONTROL, b"status.json"): STATUS}
#: The status says of itself that it is a delivered file.
XATTRS = {b"user.up42.kind": b"asset", b"user.up42.id": b"8cbdc4c2-6681-5e0c-9d5d-3c53adb989d1"}


class Hostile(pyfuse3.Operations):
    def __init__(self, status: Path, target: str | None) -> None:
        super().__init__()
        self.status, self.target = status, target

    async def getattr(self, inode, ctx=None):
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        kind = stat.S_IFLNK if self.target else stat.S_IFREG
        entry.st_mode = kind | 0o644 if inode == STATUS else stat.S_IFDIR | 0o755
        entry.st_size = self.status.stat().st_size if inode == STATUS else 0
        return entry

    async def lookup(self, parent_inode, name, ctx=None):
        if (parent_inode, name) not in NAMES:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(NAMES[parent_inode, name])

    async def readlink(self, inode, ctx):
        return os.fsencode(self.target or "")

    async def getxattr(self, inode, name, ctx):
        if inode == STATUS and name in XATTRS:
            return XATTRS[name]
        raise pyfuse3.FUSEError(errno.ENODATA)

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=inode, direct_io=True)

    async def read(self, fh, off, size):
        if self.status.stat().st_size == 0:
            return b" " * size  # without end
        with self.status.open("rb") as file:
            return os.pread(file.fileno(), size, off)


def main() -> None:
    mountpoint, status, *target = sys.argv[1:]
    options = {"fsname=up42:eu", "subtype=up42fs", "ro"}
    pyfuse3.init(Hostile(Path(status), target[0] if target else None), mountpoint, options)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


main()
