"""Serves a file system whose handlers wait for company: shows how many the kernel sends at once.

    kernel_script.py MOUNTPOINT WANTED

Each handler waits until WANTED of its kind are under way, or for `PATIENCE_S`. Prints one line when
the mount answers and one, with the most that were under way, when it was unmounted.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from pathlib import Path

import pyfuse3
import trio

from up42fs.fuse.mount_table import Mount
from up42fs.fuse.session import MountOptions, Session
from up42fs.fuse.tuning import tune

PATIENCE_S = 1.0
SIZE_BYTES = 64 << 20
DIRECTORY, FILE = 2, 3


class Waiting(pyfuse3.Operations):
    """A root with a directory `dir` and a file `file`; any name in `dir` is an empty file."""

    supports_dot_lookup = False

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self._wanted = wanted
        self._now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._enough: dict[str, trio.Event] = {}

    async def _gather(self, kind: str) -> None:
        self._now[kind] += 1
        self.most[kind] = max(self.most[kind], self._now[kind])
        enough = self._enough.setdefault(kind, trio.Event())
        if self._now[kind] >= self._wanted:
            enough.set()
        with trio.move_on_after(PATIENCE_S):
            await enough.wait()
        self._now[kind] -= 1

    def _entry(self, inode: int) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode = 0o40555 if inode in (pyfuse3.ROOT_INODE, DIRECTORY) else 0o100444
        entry.st_size = SIZE_BYTES if inode == FILE else 0
        entry.entry_timeout = entry.attr_timeout = 60
        return entry

    async def getattr(self, inode: int, ctx: object) -> pyfuse3.EntryAttributes:
        return self._entry(inode)

    async def lookup(self, parent: int, name: bytes, ctx: object) -> pyfuse3.EntryAttributes:
        if parent == pyfuse3.ROOT_INODE:
            return self._entry({b"dir": DIRECTORY, b"file": FILE}[name])
        await self._gather("lookups")
        return self._entry(100 + int(name))

    async def opendir(self, inode: int, ctx: object) -> int:
        return inode

    async def readdir(self, fh: int, start_id: int, token: object) -> None:
        return None

    async def open(self, inode: int, flags: int, ctx: object) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=inode)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        await self._gather("reads")
        return bytes(min(size, SIZE_BYTES - off))

    async def statfs(self, ctx: object) -> pyfuse3.StatvfsData:
        return pyfuse3.StatvfsData()


async def serve(mountpoint: Path, operations: Waiting) -> None:
    session = Session(operations, mountpoint, MountOptions("test"))  # type: ignore[arg-type]
    async with session.mounted(), trio.open_nursery() as nursery:
        mount: Mount = await nursery.start(session.serve)
        tuned = tune(mount, negotiated=session.negotiated)
        print(json.dumps({"max_background": tuned.max_background}), flush=True)


def main() -> None:
    logging.basicConfig(level="INFO")
    operations = Waiting(int(sys.argv[2]))
    trio.run(serve, Path(sys.argv[1]).resolve(), operations)
    print(json.dumps(operations.most), flush=True)


if __name__ == "__main__":
    main()
