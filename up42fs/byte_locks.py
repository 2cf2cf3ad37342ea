"""Locks on bytes of a file that belong to the open file, not to the process (`F_OFD_SETLK`).

So two engines in one process exclude each other too, and the kernel releases a lock when whoever
opened the file is gone, however that ended. Linux only.
"""

from __future__ import annotations

import fcntl
import os
import struct


def lock(descriptor: int, start: int, length: int) -> bool:
    """Lock bytes of a file that is open for writing; False if another open file has locked some.

    Returns at once. Raises OSError where files cannot be locked.
    """
    try:
        _set(descriptor, fcntl.F_WRLCK, start, length)
    except (BlockingIOError, PermissionError):  # fcntl(2) allows either
        return False
    return True


def unlock(descriptor: int, start: int, length: int) -> None:
    """Give back bytes that were locked. Raises OSError."""
    _set(descriptor, fcntl.F_UNLCK, start, length)


def _set(descriptor: int, kind: int, start: int, length: int) -> None:
    flock = struct.pack("hhqqi0q", kind, os.SEEK_SET, start, length, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, flock)
