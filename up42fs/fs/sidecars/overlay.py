"""The overlay: sidecars of images, stored on this machine, by image and tag. None reaches UP42.

Theory. The stored sidecars are known in memory, so that the many names that tools look up in vain
cost no disk access. Other mounts of the account write into the same directory: its modification
time is checked at lookups, at most once a second, and if it changed the directory is read. If two
mounts write the same sidecar, the one that closes last wins, as with any file that is replaced.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import trio

from up42fs.errors import NoSpace
from up42fs.fs.sidecars.disk import FileState, OverlayDirectory, Scan
from up42fs.fs.sidecars.file import Key, OpenSidecar, Sidecar, SidecarHost
from up42fs.fs.sidecars.names import Tag, parse_kept_name

#: Minimum interval between checks for other mounts' changes, seconds.
LOOK_S = 1.0
#: The longest that a lookup waits for that check, seconds.
LOOK_TIMEOUT_S = 5.0
#: The longest that `df` waits for the disk, seconds.
STATFS_TIMEOUT_S = 1.0


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
        self._host = SidecarHost(
            disk, self.make_room, partial(self.look, at_once=True), self.forget
        )

    async def look(self, *, at_once: bool = False) -> None:
        """Learn other mounts' changes; seldom accesses the disk, and never raises because of it."""
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
        return self._kept.get((owner, tag))

    def of(self, owner: str) -> Iterable[Sidecar]:
        return [self._kept[key] for key in sorted(self._by_owner.get(owner, ()))]

    def of_node(self, node_id: str) -> Sidecar | None:
        """The sidecar of a node; None if it was removed and has no open handle."""
        return self._nodes.get(node_id)

    @property
    def is_empty(self) -> bool:
        return not self._kept

    async def create(self, owner: str, tag: Tag) -> OpenSidecar:
        """Create an empty sidecar and open it; raises NoSpace."""
        key = (owner, tag)
        async with self._changing:
            sidecar = Sidecar(self._host, key, f"{owner}{tag}#{next(self._numbers)}", None)
            opened = await sidecar.open(writable=True, truncated=True)
            await self._replace(key, sidecar)
        return opened

    async def remove(self, sidecar: Sidecar) -> None:
        async with self._changing:
            await sidecar.discard()
            self.forget(sidecar)

    async def rename(self, sidecar: Sidecar, owner: str, tag: Tag) -> None:
        """Move a sidecar to another image and tag, replacing the sidecar there."""
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
        """Raise NoSpace if `growth_bytes` more exceed the limit."""
        if growth_bytes and self.used_bytes + growth_bytes > self._limit_bytes:
            raise NoSpace(
                f"the sidecars in {self.disk.path} would take more than sidecars_size, "
                f"{self._limit_bytes:,} bytes: remove some, or allow more"
            )

    @property
    def used_bytes(self) -> int:
        return sum(sidecar.state.size for sidecar in self._kept.values())

    async def free_bytes(self) -> int:
        """Free space for sidecars, in bytes; 0 if the disk does not answer in time."""
        with trio.move_on_after(STATFS_TIMEOUT_S), suppress(OSError):
            free = await trio.to_thread.run_sync(self.disk.free_bytes, abandon_on_cancel=True)
            return max(0, min(free, self._limit_bytes - self.used_bytes))
        return 0

    def status(self) -> dict[str, object]:
        return {
            "directory": str(self.disk.path),
            "files": len(self._kept),
            "bytes": self.used_bytes,
            "limit_bytes": self._limit_bytes,
        }

    def close(self) -> None:
        """Close it at the end of the mount; drafts that were not closed are dropped."""
        for sidecar in list(self._nodes.values()):
            sidecar.let_go()
        self.disk.close()

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
            if now is not None and not sidecar.is_draft:  # a draft will be newer once stored
                sidecar.state = now
        for key, state in found.items():
            owner, tag = key
            node_id = f"{owner}{tag}"
            if node_id in self._nodes:
                node_id += f"#{next(self._numbers)}"
            self._know(Sidecar(self._host, key, node_id, state))

    def _know(self, sidecar: Sidecar) -> None:
        self._kept[sidecar.key] = self._nodes[sidecar.node_id] = sidecar
        self._by_owner.setdefault(sidecar.key[0], set()).add(sidecar.key)

    def forget(self, sidecar: Sidecar) -> None:
        """Forget a sidecar that can no longer be found by its name."""
        if not sidecar.is_open:
            self._nodes.pop(sidecar.node_id, None)
        if self._kept.get(sidecar.key) is not sidecar:
            return
        del self._kept[sidecar.key]
        owner = self._by_owner[sidecar.key[0]]
        owner.discard(sidecar.key)
        if not owner:
            del self._by_owner[sidecar.key[0]]
