"""One sidecar: its bytes, whether they are stored, and its handles.

Theory. A sidecar that is being written is a draft (`disk`) until it is closed or synced: this mount
sees its content at once, and it appears under its name on disk when it is complete. Each sidecar
has a lock, held for every access to its descriptor, which changes when a draft begins. A file that
was replaced or created again is a different sidecar (`node_id`): handles of the old one go on
reading the old one.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from up42fs.errors import BadHandle, NotFound, VersionChanged
from up42fs.fs.sidecars.disk import FileState, OverlayDirectory, state_of, write_all
from up42fs.fs.sidecars.names import Tag, kept_name

#: The ID of a sidecar's image, and the tag by which its name derives from the image's.
Key = tuple[str, Tag]


@dataclass(frozen=True, slots=True)
class SidecarHost:
    """What a sidecar needs of all sidecars of its account."""

    disk: OverlayDirectory
    #: Raises NoSpace if so many bytes more exceed the limit.
    make_room: Callable[[int], None]
    #: Looks for other mounts' changes now.
    look: Callable[[], Awaitable[None]]
    #: Called with a sidecar that can no longer be found by its name.
    forget: Callable[[Sidecar], None]


class Sidecar:
    """One sidecar: its image, and its bytes."""

    def __init__(self, host: SidecarHost, key: Key, node_id: str, state: FileState | None) -> None:
        """`state` is that of the stored file, None if it is not stored yet."""
        self._host = host
        self._run = host.disk.run
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
        """Whether it has content that is not stored yet."""
        return self._draft is not None

    @property
    def is_open(self) -> bool:
        return self._handles > 0

    async def open(self, *, writable: bool = False, truncated: bool = False) -> OpenSidecar:
        async with self._seen_by_others(), self._lock:
            if self._descriptor is None and not truncated:
                await self._open_kept()
            if truncated:
                await self._begin(is_empty=True)
            self._handles += 1
            return OpenSidecar(self, writable)

    async def refresh(self) -> None:
        """Update size and time, which another mount may have changed."""
        async with self._seen_by_others(), self._lock:
            if self._draft is None and not self.is_gone:
                state = await self._run(self._host.disk.state, self.name)
                self._require(state)
                self.state = state or self.state

    @property
    def name(self) -> str:
        return kept_name(*self.key) or ""

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes from `offset`, fewer at the end of the file."""
        async with self._lock:
            return await self._run(_read, self._held(), size, offset)

    async def write(self, offset: int, data: bytes) -> None:
        """Write all of `data`; raises NoSpace if it does not fit."""
        async with self._lock:
            self._host.make_room(max(0, offset + len(data) - self.state.size))
            await self._begin()
            self.state = await self._run(write_all, self._held(), data, offset)

    async def truncate(self, size: int) -> None:
        async with self._lock:
            self._host.make_room(max(0, size - self.state.size))
            await self._begin(is_empty=size == 0)
            self.state = await self._run(_truncate, self._held(), size)

    async def set_times(self, atime_ns: int, mtime_ns: int) -> None:
        """Set its times, nanoseconds since 1970."""
        async with self._lock:
            self.state = await self._run(_set_times, self._held(), (atime_ns, mtime_ns))

    async def flush(self) -> None:
        """Store what was written, so that it survives the end of this mount."""
        async with self._lock:
            if self._draft is None or self.is_gone:
                return
            disk, name = self._host.disk, self.name
            await self._run(disk.publish, self._draft, self._held(), name)
            self._draft, self._is_kept = None, True

    async def call(self, key: Key, target: Sidecar | None) -> None:
        """Move it to another image or name; `target` is the sidecar that had that name."""
        async with self._lock:
            if self._is_kept:
                new = kept_name(*key)
                await self._run(self._host.disk.rename, self.name, new)
            self.key = key
            if target is not None and not self._is_kept:
                self._is_kept = target._is_kept  # that file is replaced when this one is stored

    async def discard(self, *, is_replaced: bool = False) -> None:
        """Remove it; open handles may go on reading it."""
        async with self._lock:
            self.is_gone = True
            if not is_replaced and self._is_kept:
                await self._run(self._host.disk.remove, self.name)
                self._is_kept = False

    def closed(self) -> None:
        self._handles -= 1
        if not self._handles:
            self.let_go()

    def let_go(self) -> None:
        """Release the descriptor; a draft that was not stored is incomplete and is deleted."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._draft is not None:
            disk = self._host.disk
            disk.remove(self._draft)
            self._draft = None
            kept = disk.state(self.name) if self._is_kept and not self.is_gone else None
            self.state = kept or self.state
            if kept is None:
                self.is_gone = True
        if self.is_gone:
            self._host.forget(self)

    async def _open_kept(self) -> None:
        try:
            descriptor, state = await self._run(self._host.disk.open, self.name)
        except NotFound:
            descriptor, state = -1, None
        try:
            self._require(state)
        except BaseException:
            if state is not None:
                os.close(descriptor)
            raise
        self._descriptor, self.state = descriptor, state or self.state

    def _require(self, state: FileState | None) -> None:
        if state is None or state.inode != self.state.inode:
            raise VersionChanged(f"{self.name} was replaced or removed by another mount")

    @asynccontextmanager
    async def _seen_by_others(self) -> AsyncIterator[None]:
        """If another mount turns out to have changed it, look at once, with no lock held."""
        try:
            yield
        except VersionChanged:
            await self._host.look()
            raise

    async def _begin(self, *, is_empty: bool = False) -> None:
        """Become a draft, with the present content unless `is_empty`."""
        if self._draft is None:
            source = None if is_empty else self._descriptor
            name, descriptor = await self._run(self._host.disk.draft, source)
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._draft, self._descriptor = name, descriptor
            self.state = state_of(descriptor)
        elif is_empty:
            self.state = await self._run(_truncate, self._held(), 0)

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
        return await self.sidecar.read(offset, size)

    async def write(self, offset: int, data: bytes) -> None:
        """Write all of `data`; raises BadHandle if it was opened for reading."""
        if not self._writable:
            raise BadHandle(f"{self.sidecar.name} is open for reading")
        await self.sidecar.write(offset, data)

    async def closed_by_writer(self) -> None:
        """Store what was written through a descriptor that is closed."""
        if self._writable:
            await self.sidecar.flush()

    async def flush(self) -> None:
        """Store what was written through any handle."""
        await self.sidecar.flush()

    def close(self) -> None:
        self.sidecar.closed()


def _read(descriptor: int, size: int, offset: int) -> bytes:
    return os.pread(descriptor, size, offset)


def _truncate(descriptor: int, size: int) -> FileState:
    os.ftruncate(descriptor, size)
    return state_of(descriptor)


def _set_times(descriptor: int, times_ns: tuple[int, int]) -> FileState:
    os.utime(descriptor, ns=times_ns)
    return state_of(descriptor)
