"""Access to the file system by path, like functions of `os`, but as coroutines.

Knows inodes and their reference counts; nothing of accounts, networks or the kernel. A path is
absolute from the root of the tree (`/orders/x/y.zip`); `.` and empty parts are ignored, and `..` is
rejected, since no directory of a listing leads to its parent.

Every lookup takes a reference to an inode, as the kernel would, and every call here drops the
references that it took. So an engine may serve any number of paths without growing.
"""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from up42fs.deadlines import patient_s, within
from up42fs.errors import InvalidArgument, NotFound
from up42fs.fs.filesystem import LISTING_LIMIT_S, Filesystem
from up42fs.fs.tree.inodes import ROOT_INODE
from up42fs.fs.tree.nodes import Absent, Attributes, Opened
from up42fs.types import Bytes

#: The longest that one call waits for a listing, for attributes, for bytes, seconds.
LISTING_TIMEOUT_S = LISTING_LIMIT_S + patient_s(3.0)
METADATA_TIMEOUT_S = patient_s(28.0)
READ_TIMEOUT_S = patient_s(35.0)


class Entry(NamedTuple):
    """One name in a directory, with the type bits of its mode."""

    name: str
    inode: int
    mode: int

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)


class OpenedFile:
    """One open file of one version: its size in bytes, and reads by range."""

    def __init__(self, filesystem: Filesystem, path: str, opened: Opened, size: int) -> None:
        self._filesystem = filesystem
        self._opened = opened
        self.path = path
        self.size = size

    async def read(self, offset: int, size: int) -> Bytes:
        """Return the bytes [offset, offset + size), fewer only at the end of the file.

        Raises an `Up42fsError`: VersionChanged if UP42 has replaced the file since it was opened.
        """
        with within(READ_TIMEOUT_S, f"{self.path}: no bytes within {READ_TIMEOUT_S:.0f} s"):
            return await self._filesystem.read(self._opened.handle, offset, size)
        raise AssertionError("the deadline raises")


class Paths:
    """A file system that is accessed by path."""

    def __init__(self, filesystem: Filesystem) -> None:
        self.filesystem = filesystem

    async def stat(self, path: str) -> Attributes:
        """Return the attributes that `stat` shows; requests a size that UP42 does not list.

        Raises NotFound, NotADirectory, or another `Up42fsError` if UP42 cannot be reached.
        """
        async with self._held(path) as inode:
            with within(METADATA_TIMEOUT_S, f"{path}: no attributes in time"):
                return await self.filesystem.getattr(inode)
            raise AssertionError("the deadline raises")

    async def entries(self, path: str) -> list[Entry]:
        """Return the current entries of a directory; raises like `stat`."""
        entries: list[Entry] = []

        def take(name: str, inode: int, mode: int, _after: int) -> bool:
            entries.append(Entry(name, inode, mode))
            return True

        async with self._held(path) as inode:
            with within(LISTING_TIMEOUT_S, f"{path}: not listed in time"):
                handle = await self.filesystem.opendir(inode)
            try:
                self.filesystem.list_names(handle, 0, take)
            finally:
                self.filesystem.releasedir(handle)
        return entries

    @asynccontextmanager
    async def opened(self, path: str, *, program: str = "?") -> AsyncIterator[OpenedFile]:
        """Open a file for reading, and close it on exit; raises like `stat`, or IsADirectory.

        Reads are accounted under the name `program`.
        """
        async with self._held(path) as inode:
            with within(METADATA_TIMEOUT_S, f"{path}: not opened in time"):
                opened = await self.filesystem.open(inode, 0, program)
            try:
                size = (await self.filesystem.getattr(inode)).size
                yield OpenedFile(self.filesystem, path, opened, size)
            finally:
                self.filesystem.release(opened.handle)

    async def attribute(self, path: str, name: str) -> bytes:
        """Return the value of one extended attribute, listed or not; raises NoAttribute."""
        async with self._held(path) as inode:
            with within(METADATA_TIMEOUT_S, f"{path}: {name} did not come in time"):
                return await self.filesystem.getxattr(inode, name)
            raise AssertionError("the deadline raises")

    async def attributes(self, path: str) -> dict[str, bytes]:
        """Return the extended attributes that `getfattr -d` shows, by name."""
        async with self._held(path) as inode:
            with within(METADATA_TIMEOUT_S, f"{path}: no attributes in time"):
                names = await self.filesystem.listxattr(inode)
                return {name: await self.filesystem.getxattr(inode, name) for name in names}
            raise AssertionError("the deadline raises")

    @asynccontextmanager
    async def _held(self, path: str) -> AsyncIterator[int]:
        """Look up the inode of a path; holds a reference to it and to each directory above."""
        held: list[int] = []
        try:
            inode = ROOT_INODE
            for name in parts_of(path):
                with within(LISTING_TIMEOUT_S, f"{path}: {name} was not found in time"):
                    found = await self.filesystem.lookup(inode, name)
                if isinstance(found, Absent):
                    raise NotFound(f"{path}: there is no {name}")
                inode = found.inode
                held.append(inode)
            yield inode
        finally:
            for inode in held:
                self.filesystem.forget(inode, 1)


def parts_of(path: str) -> list[str]:
    """Split an absolute path into names; raises InvalidArgument if it is relative or has `..`."""
    if not path.startswith("/"):
        raise InvalidArgument(f"{path!r} is no absolute path")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidArgument(f"{path!r} has a '..'")
    return parts
