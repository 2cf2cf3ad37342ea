"""Places in a file of this machine that an answer's body is written to.

Network threads write there, while the caller that opened the file may have been interrupted and be
gone. So nobody closes the descriptor of a `Lane`: it closes with the last reference to it, and its
number is never that of another file under a thread that still writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from up42fs.types import Bytes


class Lane:
    """A descriptor of a file with a position of its own: one answer at a time writes to it."""

    def __init__(self, path: Path) -> None:
        self._fd = -1
        self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)

    def duplicate(self, offset: int) -> int:
        """A descriptor for the caller to close, at `offset`; the position is shared. OSError."""
        fd = os.dup(self._fd)
        os.lseek(fd, offset, os.SEEK_SET)
        return fd

    def write(self, data: Bytes, offset: int) -> None:
        """Write all of `data` at `offset`; raises OSError."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._fd, rest, offset)
            rest, offset = rest[written:], offset + written


class FilePlace:
    """The place of the next bytes of a body: a lane, from `offset` on."""

    def __init__(self, lane: Lane, offset: int, on_fault: Callable[[OSError], None]) -> None:
        self.lane = lane
        self.offset = offset
        self._on_fault = on_fault

    def find_fault(self, placed: int) -> None:
        """Learn why the C library could not write on behind `placed` bytes: by trying it.

        The byte that is written is one of those that are still to come.
        """
        try:
            self.lane.write(b"\0", self.offset + placed)
        except OSError as error:
            self._on_fault(error)
