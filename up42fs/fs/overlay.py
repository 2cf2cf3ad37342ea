"""The overlay: sidecars of images, kept on this machine, by image and tag. None reaches UP42.

Knows what is kept and who has it open; not where an image stands, nor what the kernel is told.

Theory. What is kept is known in memory, so that the many names that tools ask for in vain cost no
disk access. Other mounts of the account write into the same directory: its time of change is looked
at when something is looked up, at most once a second, and if it moved the directory is read.
A sidecar that is written is a draft (`overlay_disk`) until it is closed or synced: its content is
seen in this mount at once, under its name on disk when it is whole. Each has a lock, held for every
access to its descriptor, which changes when a draft begins. Where two mounts write the same
sidecar, the one that closes last wins, as with any file that is replaced.
A file that was replaced or made again is another one (`node_id`): whoever has the old one open
goes on reading the old one.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import NoReturn, TypeVar

import trio

from up42fs.core.sidecars import Tag, kept_name, parse_kept_name
from up42fs.errors import BadHandle, NoSpace, NotFound, Unavailable, VersionChanged
from up42fs.fs.overlay_disk import FileState, OverlayDirectory, Scan, state_of, write_all

log = logging.getLogger(__name__)

#: How often other mounts' changes are looked for, seconds.
LOOK_S = 1.0
#: How long a lookup waits for the disk to tell of them, seconds.
LOOK_TIMEOUT_S = 5.0
#: How long `df` waits for the disk, seconds.
STATFS_TIMEOUT_S = 1.0

T = TypeVar("T")
Key = tuple[str, Tag]


class Sidecar:
    """One sidecar: the image it belongs to, and its bytes."""

    def __init__(self, overlay: Overlay, key: Key, node_id: str, state: FileState | None) -> None:
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


class Overlay:
    """All sidecars of one account."""

    def __init__(
        self,
        disk: OverlayDirectory,
        limit_bytes: int,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.disk = disk
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._kept: dict[Key, Sidecar] = {}
        self._by_owner: dict[str, set[Key]] = {}
        self._nodes: dict[str, Sidecar] = {}
        self._numbers = itertools.count(1)
        self._looked_s = -LOOK_S
        self._stamp_ns = 0
        self._changing = trio.Lock()

    async def look(self, *, at_once: bool = False) -> None:
        """Learn what other mounts did; seldom asks the disk, and never raises because of it."""
        if not at_once and self._clock() - self._looked_s < LOOK_S:
            return
        self._looked_s = self._clock()
        with trio.move_on_after(LOOK_TIMEOUT_S), suppress(OSError):
            async with self._changing:
                known_ns = 0 if at_once else self._stamp_ns
                scan = await trio.to_thread.run_sync(self._scan, known_ns, abandon_on_cancel=True)
                if scan is not None:
                    self._take_over(scan)

    def get(self, owner: str, tag: Tag) -> Sidecar | None:
        """The sidecar of an image; None where there is none."""
        return self._kept.get((owner, tag))

    def of(self, owner: str) -> Iterable[Sidecar]:
        """All sidecars of an image."""
        return [self._kept[key] for key in sorted(self._by_owner.get(owner, ()))]

    def of_node(self, node_id: str) -> Sidecar | None:
        """The sidecar that a node stands for; None if it is gone and nobody has it open."""
        return self._nodes.get(node_id)

    @property
    def is_empty(self) -> bool:
        """Whether there is no sidecar at all."""
        return not self._kept

    async def create(self, owner: str, tag: Tag) -> OpenSidecar:
        """A new, empty sidecar, opened; raises NoSpace."""
        key = (owner, tag)
        async with self._changing:
            sidecar = Sidecar(self, key, f"{owner}{tag}#{next(self._numbers)}", None)
            opened = await sidecar.open(writable=True, truncated=True)
            await self._replace(key, sidecar)
        return opened

    async def remove(self, sidecar: Sidecar) -> None:
        """Remove a sidecar."""
        async with self._changing:
            await sidecar.discard()
            self.forget(sidecar)

    async def rename(self, sidecar: Sidecar, owner: str, tag: Tag) -> None:
        """Give a sidecar the place of another one, or a free one."""
        if sidecar.key != (owner, tag):
            async with self._changing:
                await self._replace((owner, tag), sidecar)

    async def _replace(self, key: Key, sidecar: Sidecar) -> None:
        target = self._kept.get(key)
        if target is not None:
            await target.discard(is_replaced=True)
            self.forget(target)
        self.forget(sidecar)
        await sidecar.call(key, target)
        self._know(sidecar)

    def make_room(self, growth_bytes: int) -> None:
        """Raise NoSpace where so much more is too much."""
        if growth_bytes and self.used_bytes + growth_bytes > self._limit_bytes:
            raise NoSpace(
                f"the sidecars in {self.disk.path} would take more than sidecars_size, "
                f"{self._limit_bytes:,} bytes: remove some, or allow more"
            )

    @property
    def used_bytes(self) -> int:
        """What all sidecars take."""
        return sum(sidecar.state.size for sidecar in self._kept.values())

    async def free_bytes(self) -> int:
        """What more fits; 0 where the disk does not tell in time."""
        with trio.move_on_after(STATFS_TIMEOUT_S), suppress(OSError):
            free = await trio.to_thread.run_sync(self.disk.free_bytes, abandon_on_cancel=True)
            return max(0, min(free, self._limit_bytes - self.used_bytes))
        return 0

    def status(self) -> dict[str, object]:
        """What `status.json` says of it."""
        return {
            "directory": str(self.disk.path),
            "files": len(self._kept),
            "bytes": self.used_bytes,
            "limit_bytes": self._limit_bytes,
        }

    def close(self) -> None:
        """The mount ends: what was not closed was not whole."""
        for sidecar in list(self._nodes.values()):
            sidecar.let_go()
        self.disk.close()

    async def run(self, call: Callable[..., T], *arguments: object) -> T:
        """A blocking call in a thread; its OSError as one of ours."""
        try:
            return await trio.to_thread.run_sync(call, *arguments)
        except OSError as error:
            self._raise(error)

    def _raise(self, error: OSError) -> NoReturn:
        if error.errno == errno.ENOENT:
            raise NotFound("the sidecar is gone") from None
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoSpace(f"no room for sidecars in {self.disk.path}: {error.strerror}") from None
        raise Unavailable(f"the sidecars in {self.disk.path} failed: {error.strerror}") from None

    def _scan(self, known_ns: int) -> Scan | None:
        if known_ns and self.disk.stamp_ns() == known_ns:
            return None
        return self.disk.scan()

    def _take_over(self, scan: Scan) -> None:
        self._stamp_ns = scan.stamp_ns
        found: dict[Key, FileState] = {}
        for name, state in scan.files.items():
            key = parse_kept_name(name)
            if key is not None:
                found[key] = state
        for key, sidecar in list(self._kept.items()):
            now = found.get(key)
            if not sidecar.is_draft and (now is None or now.inode != sidecar.state.inode):
                self.forget(sidecar)
                sidecar.is_gone = True
                continue
            found.pop(key, None)
            if now is not None and not sidecar.is_draft:  # a draft is newer, once it is kept
                sidecar.state = now
        for key, state in found.items():
            owner, tag = key
            node_id = f"{owner}{tag}"
            if node_id in self._nodes:
                node_id += f"#{next(self._numbers)}"
            self._know(Sidecar(self, key, node_id, state))

    def _know(self, sidecar: Sidecar) -> None:
        self._kept[sidecar.key] = self._nodes[sidecar.node_id] = sidecar
        self._by_owner.setdefault(sidecar.key[0], set()).add(sidecar.key)

    def forget(self, sidecar: Sidecar) -> None:
        """It is not found by its name any more."""
        if not sidecar.is_open:
            self._nodes.pop(sidecar.node_id, None)
        if self._kept.get(sidecar.key) is not sidecar:
            return
        del self._kept[sidecar.key]
        owner = self._by_owner[sidecar.key[0]]
        owner.discard(sidecar.key)
        if not owner:
            del self._by_owner[sidecar.key[0]]


def _read(descriptor: int, size: int, offset: int) -> bytes:
    return os.pread(descriptor, size, offset)


def _truncate(descriptor: int, size: int) -> FileState:
    os.ftruncate(descriptor, size)
    return state_of(descriptor)


def _set_times(descriptor: int, times_ns: tuple[int, int]) -> FileState:
    os.utime(descriptor, ns=times_ns)
    return state_of(descriptor)
