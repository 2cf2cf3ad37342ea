"""Serves a file system whose handlers wait for company: shows how many the kernel sends at once.

    kernel_script.py MOUNTPOINT WANTED

Each handler waits until WANTED of its kind are under way, or for `PATIENCE_S`. Prints one line when
the mount answers and one, with the most that were under way, when it was unmounted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pyfuse3
import trio

from up42fs.fs.filesystem import Filesystem
from up42fs.fs.tree.nodes import Attributes, Opened, Usage
from up42fs.fuse.handlers import Handlers
from up42fs.fuse.mount_table import Mount
from up42fs.fuse.session import MountOptions, Session
from up42fs.fuse.tuning import tune
from up42fs.metrics import Metrics

PATIENCE_S = 1.0
SIZE_BYTES = 64 << 20
DIRECTORY, FILE = 2, 3


class Empty:
    """Directories without an entry."""

    def read(self, *_: Any) -> None: ...

    def read_names(self, *_: Any) -> None: ...

    def close(self, handle: int) -> None: ...


class Waiting:
    """A root with a directory `dir` and a file `file`; any name in `dir` is an empty file."""

    sidecars = None
    directories = Empty()

    def __init__(self, wanted: int) -> None:
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

    async def getattr(self, inode: int, asker: object = None) -> Attributes:
        mode = 0o40555 if inode in (pyfuse3.ROOT_INODE, DIRECTORY) else 0o100444
        return Attributes(inode, mode, 1, SIZE_BYTES if inode == FILE else 0, 0, 0, 60.0)

    async def lookup(self, parent: int, name: str) -> Attributes:
        if parent == pyfuse3.ROOT_INODE:
            return await self.getattr({"dir": DIRECTORY, "file": FILE}[name])
        await self._gather("lookups")
        return await self.getattr(100 + int(name))

    def forget(self, inode: int, count: int) -> None: ...

    async def opendir(self, inode: int, program: object = None) -> int:
        return inode

    async def open(self, inode: int, flags: int, program: str, *, is_trusted: bool) -> Opened:
        return Opened(inode, keep_cache=False, direct_io=False)

    def read_again(self, handle: int, offset: int, size: int) -> None: ...

    def is_unpacked(self, handle: int) -> bool:
        return False

    async def read(self, handle: int, offset: int, size: int, *, is_mapped: bool) -> bytes:
        await self._gather("reads")
        return bytes(min(size, SIZE_BYTES - offset))

    def release(self, handle: int) -> None: ...

    def statfs(self) -> Usage:
        return Usage(0, 0)


def session_of(filesystem: Waiting, mountpoint: Path, options: MountOptions) -> Session:
    handlers = Handlers(cast(Filesystem, filesystem), Metrics(), uid=os.getuid(), gid=os.getgid())
    return Session(handlers, mountpoint, options)


async def serve(mountpoint: Path, filesystem: Waiting) -> None:
    session = session_of(filesystem, mountpoint, MountOptions("test"))
    async with session.mounted(), trio.open_nursery() as nursery:
        mount: Mount = await nursery.start(session.serve)
        tuned = tune(mount, negotiated=session.negotiated)
        print(json.dumps({"max_background": tuned.max_background}), flush=True)


def main() -> None:
    logging.basicConfig(level="INFO")
    filesystem = Waiting(int(sys.argv[2]))
    trio.run(serve, Path(sys.argv[1]).resolve(), filesystem)
    print(json.dumps(filesystem.most), flush=True)


if __name__ == "__main__":
    main()
