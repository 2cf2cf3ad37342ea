"""One mount inflates a member, others wait for its bytes on disk: as long as these grow.

Knows the lock of a member and what the disk holds of it; nothing of runs.
"""

from __future__ import annotations

import trio

from up42fs.store.disk.cache import DiskCache, Lock
from up42fs.store.disk.layered import ObjectSource
from up42fs.types import ByteRange

#: How long another mount is waited for while its bytes do not grow, seconds.
OTHERS_S = 10.0
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

    async def begin(self, keeper: ObjectSource, at: int) -> bool:
        """Wait for the turn; False if the disk has byte `at` by now.

        It also begins if the mount that has the turn makes no progress.
        """
        async with self._waiting:
            if self._lock is not None or self._is_alone:
                return not _holds(keeper, at)
            since_s, known = trio.current_time(), 0
            while True:
                lock = await self._disk.lock(self._object_id)
                if lock is not None:
                    self._lock = lock
                    return not _holds(keeper, at)
                held = await keeper.look_again()
                if _holds(keeper, at):
                    return False
                if held > known:
                    since_s, known = trio.current_time(), held
                if trio.current_time() - since_s > OTHERS_S:
                    self._is_alone = True
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
