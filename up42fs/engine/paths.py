"""Paths over the file system: what `os` does with a path, as coroutines.

A path is absolute from the root of the tree (`/orders/x/y.zip`). Empty parts and `.` are ignored,
and `..` is refused, since no directory leads to its parent. Names are text as the listings show
them; no character has a meaning but the slash.

Every lookup takes a reference to an inode, as the kernel would. Each call here gives back what it
took, also when it fails or is cancelled, so any number of tasks may use any number of paths. Each
call has a deadline of its own and raises an `Up42fsError` whose message begins with the path; a
shorter deadline is up to you (`trio.fail_after`).
"""

from __future__ import annotations

import itertools
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple, TypeVar

import trio

from up42fs.deadlines import LISTING_S, LONGEST_S, METADATA_S, patient_s, within
from up42fs.errors import InvalidArgument, NotFound, OtherVersion, Up42fsError
from up42fs.fs.filesystem import Filesystem
from up42fs.fs.sidecars.names import LONGEST_NAME_BYTES
from up42fs.fs.tree.inodes import ROOT_INODE
from up42fs.fs.tree.nodes import LINKED_KINDS, RENDERED_KINDS, ROOT, Absent, Attributes, Opened
from up42fs.model.no_query import why_no_query
from up42fs.model.query import parse_query
from up42fs.readahead.heads import Asker
from up42fs.readahead.tuning import Reading
from up42fs.store.members.extent import StoredObject
from up42fs.types import Bytes, SignedUrl, Version
from up42fs.visible import visible

T = TypeVar("T")

#: How long one call waits: for a path or a listing, for attributes, for bytes. Seconds.
LISTING_TIMEOUT_S = patient_s(LISTING_S)
METADATA_TIMEOUT_S = patient_s(METADATA_S)
READ_TIMEOUT_S = patient_s(LONGEST_S)
#: Likewise of a member that has to be inflated.
UNPACKING_TIMEOUT_S = patient_s(LISTING_S)
#: Entries that are listed before other tasks get a turn: about 2 ms.
BATCH_ENTRIES = 1000


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

    def __init__(self, filesystem: Filesystem, path: str, opened: Opened) -> None:
        self._filesystem = filesystem
        self._opened = opened
        self.path = path
        self.size = opened.size

    @property
    def version(self) -> Version | None:
        """What the object store calls this version; None before the first read, or if nothing."""
        return self._filesystem.open_files.version(self._opened.handle)

    def ahead(self, offset: int, most: int) -> Bytes:
        """Return the bytes from `offset` on that one piece of memory holds, perhaps none.

        It does not count as a read: a caller that keeps them must `read` them later.
        """
        return self._filesystem.open_files.ahead(self._opened.handle, offset, most)

    async def read(self, offset: int, size: int) -> Bytes:
        """Return the bytes [offset, offset + size), fewer only at the end of the file.

        Raises an `Up42fsError`: VersionChanged if UP42 has replaced the file meanwhile.
        """
        is_unpacked = self._filesystem.is_unpacked(self._opened.handle)
        longest_s = UNPACKING_TIMEOUT_S if is_unpacked else READ_TIMEOUT_S
        with _named(self.path), within(longest_s, f"no bytes in {longest_s:.0f} s"):
            return await self._filesystem.read(self._opened.handle, offset, size)


class Place:
    """A path that was resolved once, for several calls; valid until its context ends.

    `attributes` are those of the lookup: a size that UP42 does not report is 0, and `stat` learns
    it. Its methods raise like those of `Paths`.
    """

    def __init__(self, filesystem: Filesystem, path: str, attributes: Attributes) -> None:
        self._filesystem = filesystem
        self.path = path
        self.attributes = attributes

    @property
    def has_link(self) -> bool:
        """Whether UP42 signs links to this file; members of archives and documents have none."""
        return self._filesystem.node(self.attributes.inode).kind in LINKED_KINDS

    @property
    def is_rendered(self) -> bool:
        """Whether this file is made when it is opened."""
        return self._filesystem.node(self.attributes.inode).kind in RENDERED_KINDS

    def stored(self) -> StoredObject | None:
        """What `Engine.open_object` needs of a file that UP42 signs links to; else None."""
        return self._filesystem.stored(self.attributes.inode)

    async def stat(self) -> Attributes:
        """Return the attributes, with the size."""
        return await self._call(lambda inode: self._filesystem.getattr(inode, asker_here))

    async def link(self, lasts_s: float) -> SignedUrl:
        """Return a presigned link that works for `lasts_s` more seconds, if links last so long.

        Every caller gets the same link until it has to be renewed.
        """
        return await self._call(lambda inode: self._filesystem.link(inode, lasts_s))

    async def xattrs(self, *, is_trusted: bool = True) -> dict[str, bytes]:
        """Return the extended attributes that `getfattr -d` shows to a user."""
        filesystem = self._filesystem

        async def work(inode: int) -> dict[str, bytes]:
            names = await filesystem.listxattr(inode, is_trusted=is_trusted)
            return {
                name: await filesystem.getxattr(inode, name, is_trusted=is_trusted)
                for name in names
            }

        return await self._call(work)

    async def entries(self) -> list[Entry]:
        """Return the names in a directory and what they are."""
        found: list[Any] = []
        await self._list(self._filesystem.directories.read_names, found)
        return list(map(Entry._make, found))

    async def listing(self) -> dict[str, Attributes]:
        """Return the names in a directory with their attributes, without requests for sizes."""
        return {name: attributes for name, attributes, _ in await self.stored_listing()}

    async def stored_listing(self) -> list[tuple[str, Attributes, StoredObject | None]]:
        """Like `listing`, with what `stored` tells of each entry."""
        found: list[Any] = []
        stored = self._filesystem.stored
        try:
            await self._list(self._filesystem.directories.read, found)
            return [
                (name, entry, None if entry.is_dir else stored(entry.inode))
                for name, entry in found
            ]
        finally:
            for _, attributes in found:
                self._filesystem.forget(attributes.inode, 1)

    @asynccontextmanager
    async def opened(
        self, *, program: str = "?", is_trusted: bool = True, reading: Reading | None = None
    ) -> AsyncIterator[OpenedFile]:
        """Open the file for reading, and close it on exit; `reading` as of `Paths.opened`.

        For programs of untrusted users documents leave out what is private.
        """
        filesystem = self._filesystem
        opened = await self._call(
            lambda inode: filesystem.open(inode, 0, program, is_trusted=is_trusted, reading=reading)
        )
        try:
            yield OpenedFile(filesystem, self.path, opened)
        finally:
            filesystem.release(opened.handle)

    async def _list(self, read: Callable[..., None], found: list[Any]) -> None:
        """Append the entries of a directory to `found`, without their offsets."""
        reached = 0

        def take(*entry: Any) -> bool:
            nonlocal reached
            if len(found) >= most:
                return False
            *told, reached = entry
            found.append(told)
            return True

        handle = await self._call(self._filesystem.opendir, LISTING_TIMEOUT_S)
        try:
            for most in itertools.count(BATCH_ENTRIES, BATCH_ENTRIES):
                read(handle, reached, take)
                if len(found) < most:
                    return
                await trio.lowlevel.checkpoint()
        finally:
            self._filesystem.directories.close(handle)

    async def _call(
        self, work: Callable[[int], Awaitable[T]], timeout_s: float = METADATA_TIMEOUT_S
    ) -> T:
        with _named(self.path), within(timeout_s, f"no answer in {timeout_s:.0f} s; try again"):
            return await work(self.attributes.inode)


class Paths:
    """A file system by path."""

    def __init__(self, filesystem: Filesystem) -> None:
        self.filesystem = filesystem

    async def stat(self, path: str, *, will_read: bool | None = None) -> Attributes:
        """Return what `stat` shows; a size that UP42 does not report is learned now.

        `will_read` says whether the file is going to be read, so that its head comes with its size.
        Raises NotFound, NotADirectory, or another `Up42fsError` where UP42 cannot be asked.
        """

        def work(inode: int) -> Awaitable[Attributes]:
            return self.filesystem.getattr(inode, lambda: asker_here(will_read))

        async with self._at(path, work) as attributes:
            return attributes

    async def entries(self, path: str) -> list[Entry]:
        """Return the names in a directory and what they are; raises like `stat`."""
        async with self.at(path) as place:
            return await place.entries()

    def known_at_top(self) -> list[Entry]:
        """Return the directories at the top that are known without a request."""
        top = self.filesystem.tree.layout.children(ROOT)
        directories = [name for name, node in top.items() if node.kind not in RENDERED_KINDS]
        return [Entry(name, 0, stat.S_IFDIR) for name in directories]

    async def listing(self, path: str) -> dict[str, Attributes]:
        """Return the names in a directory with their attributes, as `ls -l` wants them.

        Sends no request for sizes: a file whose `attr_ttl_s` is 0 has an unknown one, which `stat`
        learns. Raises like `stat`.
        """
        async with self.at(path) as place:
            return await place.listing()

    @asynccontextmanager
    async def opened(
        self, path: str, *, program: str = "?", reading: Reading | None = None
    ) -> AsyncIterator[OpenedFile]:
        """Open a file for reading, and close it on exit; raises like `stat`, or IsADirectory.

        `program` is the name under which the reads are accounted for. `reading` says how it will be
        read: EXACT fetches what is read and nothing else, WHOLE reads ahead from the first byte on.
        """

        def work(inode: int) -> Awaitable[Opened]:
            return self.filesystem.open(inode, 0, program, reading=reading)

        async with self._at(path, work) as opened:
            try:
                yield OpenedFile(self.filesystem, path, opened)
            finally:
                self.filesystem.release(opened.handle)

    async def attribute(self, path: str, name: str) -> bytes:
        """Return the value of one extended attribute, listed or not; raises NoAttribute."""
        async with self._at(path, lambda inode: self.filesystem.getxattr(inode, name)) as value:
            return value

    async def attributes(self, path: str) -> dict[str, bytes]:
        """Return the extended attributes that `getfattr -d` shows, by name."""
        async with self.at(path) as place:
            return await place.xattrs()

    @asynccontextmanager
    async def at(self, path: str) -> AsyncIterator[Place]:
        """Resolve a path once, for several calls; raises NotFound, or like `stat`."""
        held: list[int] = []
        try:
            with _named(path):
                found = await self._walk(path, held)
            yield Place(self.filesystem, path, found)
        finally:
            for inode in held:
                self.filesystem.forget(inode, 1)

    @asynccontextmanager
    async def _at(
        self,
        path: str,
        work: Callable[[int], Awaitable[T]],
        timeout_s: float = METADATA_TIMEOUT_S,
    ) -> AsyncIterator[T]:
        """The result of `work` on the inode of a path, which is held until exit."""
        held: list[int] = []
        try:
            with _named(path):
                try:
                    result = await self._work(path, work, timeout_s, held)
                except OtherVersion:
                    # The path leads to a newer version by now: look it up again, as the kernel
                    # does after ESTALE.
                    result = await self._work(path, work, timeout_s, held)
            yield result
        finally:
            for inode in held:
                self.filesystem.forget(inode, 1)

    async def _work(
        self, path: str, work: Callable[[int], Awaitable[T]], timeout_s: float, held: list[int]
    ) -> T:
        inode = (await self._walk(path, held)).inode
        with within(timeout_s, f"no answer in {timeout_s:.0f} s; try again"):
            return await work(inode)

    async def _walk(self, path: str, held: list[int]) -> Attributes:
        """Look up each name of a path; append the inodes that are to be given back to `held`."""
        reached: Attributes | None = None
        with within(LISTING_TIMEOUT_S, f"not found in {LISTING_TIMEOUT_S:.0f} s; try again"):
            for name in parts_of(path):
                parent = reached.inode if reached else ROOT_INODE
                found = await self.filesystem.lookup(parent, name)
                if isinstance(found, Absent):
                    raise NotFound(_absent(path, name))
                held.append(found.inode)
                reached = found
            return reached or await self.filesystem.getattr(ROOT_INODE)


def _absent(path: str, name: str) -> str:
    """The missing part; of what is no query, why."""
    is_no_query = parts_of(path)[:2] == ["search", name] and parse_query(name) is None
    return why_no_query(name) if is_no_query else f"there is no {visible(name)}"


def asker_here(will_read: bool | None = None) -> Asker:
    """The current task, which needs a size; tasks are what threads are to a kernel."""
    return Asker(thread=id(trio.lowlevel.current_task()), will_read=will_read)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Put the path before the message of an error."""
    try:
        yield
    except Up42fsError as error:
        raise type(error)(f"{visible(path)}: {error}") from error


def parts_of(path: str) -> list[str]:
    """Return the names in an absolute path; raises InvalidArgument for what cannot be one."""
    if not path.startswith("/"):
        raise InvalidArgument("not an absolute path: begin it with /")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidArgument("'..' is not understood: no directory leads to its parent")
    if any(len(part.encode(errors="surrogatepass")) > LONGEST_NAME_BYTES for part in parts):
        raise InvalidArgument(f"a name has more than {LONGEST_NAME_BYTES} bytes")
    return parts
