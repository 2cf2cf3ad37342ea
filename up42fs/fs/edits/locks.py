"""Serialises edits of an asset among all mounts of one user on one machine.

An edit reads the newest state and writes a whole list of tags: two simultaneous edits lose a tag,
and UP42 offers no conditional write. Within a mount a lock in memory is enough; between mounts it
is a lock on one byte of a file (`byte_locks`), whose offset is derived from the asset.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path

import trio

from up42fs import byte_locks

log = logging.getLogger(__name__)

#: Interval between attempts to take a lock that another mount holds, seconds.
RETRY_S = 0.01
_SHARED = (Path("/dev/shm"), Path("/tmp"))  # noqa: S108  (the owner is checked)


class Interlock:
    """Locks by asset, of one API (`scope`) and one user; only in memory if no file is available."""

    def __init__(self, path: Path | None, scope: str) -> None:
        self._scope = scope
        self._locks: dict[str, trio.Lock] = {}
        self._descriptor = None if path is None else _open(path)

    @asynccontextmanager
    async def held(self, asset_id: str) -> AsyncIterator[None]:
        """Hold the lock of one asset; waiting is bounded by the caller's deadline."""
        lock = self._locks.setdefault(asset_id, trio.Lock())
        try:
            async with lock, self._held_by_process(asset_id):
                yield
        finally:
            if not lock.locked():  # else the next holder removes it
                self._locks.pop(asset_id, None)

    @asynccontextmanager
    async def _held_by_process(self, asset_id: str) -> AsyncIterator[None]:
        if self._descriptor is None:
            yield
            return
        digest = blake2b(f"{self._scope}\0{asset_id}".encode(errors="replace"), digest_size=7)
        place = int.from_bytes(digest.digest(), "big")
        while self._descriptor is not None:
            if byte_locks.lock(self._descriptor, place, 1):
                break
            await trio.sleep(RETRY_S)
        try:
            yield
        finally:
            if self._descriptor is not None:
                byte_locks.unlock(self._descriptor, place, 1)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def default_path() -> Path:
    """A file that all mounts of this user on this machine find, in any environment.

    Services and shells differ in `XDG_RUNTIME_DIR` and `TMPDIR`, and in the `/tmp` that they see.
    """
    shared = next((place for place in _SHARED if place.is_dir()), _SHARED[-1])
    return shared / f"up42fs-{os.getuid()}" / "edits.lock"


def _open(path: Path) -> int | None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.parent.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(f"{path.parent} belongs to somebody else")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path, flags, 0o600)
    except OSError as error:
        log.warning(
            "edits are not held apart from those of other mounts on this machine: %s", error
        )
        return None
