"""One sidecar: its bytes, whether they are kept yet, and the handles on them.

Knows the file it is kept in; not which others there are, nor where an image stands.

Theory. A sidecar that is written is a draft (`overlay_disk`) until it is closed or synced: its
content is seen in this mount at once, under its name on disk when it is whole. Each has a lock,
held for every access to its descriptor, which changes when a draft begins. A file that was replaced
or made again is another one (`node_id`): whoever has the old one open goes on reading the old one.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

import trio

from up42fs.errors import BadHandle, NotFound, VersionChanged
from up42fs.fs.sidecars.disk import FileState, OverlayDirectory, state_of, write_all
from up42fs.fs.sidecars.names import Tag, kept_name

T = TypeVar("T")
#: The ID of the image that a sidecar belongs to, and how its name is made of the image's.
Key = tuple[str, Tag]


class Keeper(Protocol):
    """What a sidecar needs of the overlay that holds it."""

    disk: OverlayDirectory

    async def run(self, call: Callable[..., T], *arguments: object) -> T:
        """A blocking call in a thread; its OSError as one of ours."""
        ...

    async def look(self, *, at_once: bool = False) -> None:
        """Learn what other mounts did."""
        ...

    def make_room(self, growth_bytes: int) -> None:
        """Raise NoSpace where so much more is too much."""
        ...

    def forget(self, sidecar: Sidecar) -> None:
        """It is not found by its name any more."""
        ...


class Sidecar:
    """One sidecar: the image it belongs to, and its bytes."""

    def __init__(self, overlay: Keeper, key: Key, node_id: str, state: FileState | None) -> None:
        """`state` is that of the kept file, None for one that is not kept yet."""
        self._overlay = overlay
        self.key = key
        self.node_id = node_id
        self.state = state or FileState(0, 0, 0)
        self.is_gone = False
        self._is_kept = state is not None
        self._descriptor: int | None = None
        self._draft: str | None = None
        self._handles = 0
        self._lock = trio.Lock()

    @property
    def is_draft(self) -> bool:
        """Whether what it holds is not kept yet."""
        return self._draft is not None

    @property
    def is_open(self) -> bool:
        """Whether anybody has it open."""
        return self._handles > 0

    async def open(self, *, writable: bool = False, truncated: bool = False) -> OpenSidecar:
        """A handle; raises an `Up42fsError`."""
        async with self._seen_by_others(), self._lock:
            if self._descriptor is None and not truncated:
                await self._open_kept()
            if truncated:
                await self._begin(is_empty=True)
            self._handles += 1
            return OpenSidecar(self, writable)

    async def refresh(self) -> None:
        """Learn the size and time that another mount gave it meanwhile."""
        async with self._seen_by_others(), self._lock:
            if self._draft is None and not self.is_gone:
                state = await self._overlay.run(self._overlay.disk.state, self.name)
                self._require(state)
                self.state = state or self.state

    @property
    def name(self) -> str:
        """The file it is kept in."""
        return kept_name(*self.key) or ""

    async def read(self, offset: int, size: int) -> bytes:
        """Bytes from `offset`, fewer at the end of the file."""
        async with self._lock:
            return await self._overlay.run(_read, self._held(), size, offset)

    async def write(self, offset: int, data: bytes) -> None:
        """Write all of `data`; raises NoSpace where it does not fit."""
        async with self._lock:
            self._overlay.make_room(max(0, offset + len(data) - self.state.size))
            await self._begin()
            self.state = await self._overlay.run(write_all, self._held(), data, offset)

    async def truncate(self, size: int) -> None:
        """Cut or lengthen it to `size` bytes."""
        async with self._lock:
            self._overlay.make_room(max(0, size - self.state.size))
            await self._begin(is_empty=size == 0)
            self.state = await self._overlay.run(_truncate, self._held(), size)

    async def set_times(self, atime_ns: int, mtime_ns: int) -> None:
        """Show these times from now on, nanoseconds since 1970."""
        async with self._lock:
            self.state = await self._overlay.run(_set_times, self._held(), (atime_ns, mtime_ns))

    async def flush(self) -> None:
        """Keep what was written: it survives whatever happens to this mount."""
        async with self._lock:
            if self._draft is None or self.is_gone:
                return
            disk, name = self._overlay.disk, self.name
            await self._overlay.run(disk.publish, self._draft, self._held(), name)
            self._draft, self._is_kept = None, True

    async def call(self, key: Key, target: Sidecar | None) -> None:
        """Belong to another image, or be called otherwise; `target` had that name."""
        async with self._lock:
            if self._is_kept:
                new = kept_name(*key)
                await self._overlay.run(self._overlay.disk.rename, self.name, new)
            self.key = key
            if target is not None and not self._is_kept:
                self._is_kept = target._is_kept  # it is replaced when this one is kept

    async def discard(self, *, is_replaced: bool = False) -> None:
        """It is removed; who has it open may go on reading it."""
        async with self._lock:
            self.is_gone = True
            if not is_replaced and self._is_kept:
                await self._overlay.run(self._overlay.disk.remove, self.name)
                self._is_kept = False

    def closed(self) -> None:
        """A handle is closed."""
        self._handles -= 1
        if not self._handles:
            self.let_go()

    def let_go(self) -> None:
        """Nobody reads it any more; a draft that was not kept is no whole file, and goes."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._draft is not None:
            disk = self._overlay.disk
            disk.remove(self._draft)
            self._draft = None
            kept = disk.state(self.name) if self._is_kept and not self.is_gone else None
            self.state = kept or self.state
            if kept is None:
                self.is_gone = True
        if self.is_gone:
            self._overlay.forget(self)

    async def _open_kept(self) -> None:
        try:
            descriptor, state = await self._overlay.run(self._overlay.disk.open, self.name)
        except NotFound:
            descriptor, state = -1, None
        try:
            self._require(state)
        except VersionChanged:
            if state is not None:
                os.close(descriptor)
            raise
        self._descriptor, self.state = descriptor, state or self.state

    def _require(self, state: FileState | None) -> None:
        if state is None or state.inode != self.state.inode:
            raise VersionChanged(f"{self.name} was replaced or removed by another mount")

    @asynccontextmanager
    async def _seen_by_others(self) -> AsyncIterator[None]:
        """Where it turns out that another mount changed it, look at once, with no lock held."""
        try:
            yield
        except VersionChanged:
            await self._overlay.look(at_once=True)
            raise

    async def _begin(self, *, is_empty: bool = False) -> None:
        """Be a draft from now on, with the present content unless `is_empty`."""
        if self._draft is None:
            source = None if is_empty else self._descriptor
            name, descriptor = await self._overlay.run(self._overlay.disk.draft, source)
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._draft, self._descriptor = name, descriptor
            self.state = state_of(descriptor)
        elif is_empty:
            self.state = await self._overlay.run(_truncate, self._held(), 0)

    def _held(self) -> int:
        if self._descriptor is None:
            raise BadHandle(f"{self.name} is not open")
        return self._descriptor


class OpenSidecar:
    """A handle of one sidecar."""

    def __init__(self, sidecar: Sidecar, writable: bool) -> None:
        self.sidecar = sidecar
        self._writable = writable

    async def read(self, offset: int, size: int) -> bytes:
        """The bytes asked for, fewer at the end of the file."""
        return await self.sidecar.read(offset, size)

    async def write(self, offset: int, data: bytes) -> None:
        """Write all of `data`; raises BadHandle where it was opened for reading."""
        if not self._writable:
            raise BadHandle(f"{self.sidecar.name} is open for reading")
        await self.sidecar.write(offset, data)

    async def closed_by_writer(self) -> None:
        """A descriptor is closed: what was written through it is whole, and kept."""
        if self._writable:
            await self.sidecar.flush()

    async def flush(self) -> None:
        """Keep what was written, by whomever."""
        await self.sidecar.flush()

    def close(self) -> None:
        """No more reads or writes will come."""
        self.sidecar.closed()


def _read(descriptor: int, size: int, offset: int) -> bytes:
    return os.pread(descriptor, size, offset)


def _truncate(descriptor: int, size: int) -> FileState:
    os.ftruncate(descriptor, size)
    return state_of(descriptor)


def _set_times(descriptor: int, times_ns: tuple[int, int]) -> FileState:
    os.utime(descriptor, ns=times_ns)
    return state_of(descriptor)
