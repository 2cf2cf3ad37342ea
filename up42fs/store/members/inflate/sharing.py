"""One mount inflates a member, others wait for its bytes on disk: as long as these grow.

Knows the lock of a member and what the disk holds of it; nothing of runs.
"""

from __future__ import annotations

import trio

from up42fs.store.disk.cache import DiskCache, Lock
from up42fs.store.disk.layered import ObjectSource
from up42fs.types import ByteRange

#: How long another mount is waited for while its bytes do not grow, seconds.
OTHERS_S = 5.0
#: Likewise for bytes that it has passed: they are on disk in a moment, or were evicted, seconds.
PASSED_S = 1.0
#: Interval of looks at the disk, seconds.
_LOOK_S = 0.25


class Turn:
    """This mount's turn to inflate a member."""

    def __init__(self, object_id: str, disk: DiskCache) -> None:
        self._object_id = object_id
        self._disk = disk
        self._lock: Lock | None = None
        self._is_alone = False  # the other mount made no progress
        self._waiting = trio.Lock()

    async def begin(self, keeper: ObjectSource, at: int, patience_s: float) -> bool:
        """Wait for the turn; False if the disk has byte `at` by now.

        It also begins if the mount that has the turn makes no progress within `patience_s`.
        """
        async with self._waiting:
            if self._lock is not None or self._is_alone:
                return not _holds(keeper, at)
            since_s, known = trio.current_time(), 0
            while True:
                lock = await self._disk.lock(self._object_id)
                held = await keeper.look_again()
                if _holds(keeper, at):
                    if lock is not None:
                        lock.release()
                    return False
                if lock is not None:
                    self._lock = lock
                    return True
                if held > known and patience_s >= OTHERS_S:
                    since_s, known = trio.current_time(), held
                if trio.current_time() - since_s > patience_s:
                    self._is_alone = patience_s >= OTHERS_S
                    return True
                await trio.sleep(_LOOK_S)

    def end(self) -> None:
        """Let others have the turn."""
        self._is_alone = False
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _holds(keeper: ObjectSource, at: int) -> bool:
    return not keeper.lacks(ByteRange(at, at + 1))
