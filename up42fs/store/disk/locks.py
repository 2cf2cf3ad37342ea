"""Locks between the mounts of one account: one inflates a member, the others wait and read it.

Knows files; nothing of what is locked. Blocking, for worker threads.

A lock is an `flock` of a file beside the cached ones, whose name no cached file has. The file is
deleted when it is unlocked; a process that opened it before then sees that the name leads
elsewhere, and tries once more.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from up42fs.store.disk.files import CacheDirectory, file_name

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 3


def take(root: CacheDirectory, object_id: str) -> int | None:
    """Lock an object; return the lock, None if another holds it. Raises OSError."""
    name = _name(object_id)
    with root.opened() as directory:
        for _ in range(_TRIES):
            fd = os.open(name, _FLAGS, 0o600, dir_fd=directory)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_named(fd, name, directory):
                    return fd
            except BlockingIOError:
                os.close(fd)
                return None
            except OSError:
                os.close(fd)
                raise
            os.close(fd)
    return None


class Held:
    """A lock that was taken."""

    def __init__(self, root: CacheDirectory, object_id: str, fd: int) -> None:
        self._root = root
        self._object_id = object_id
        self._fd: int | None = fd

    def leave(self) -> None:
        """Give it back."""
        with suppress(OSError), self._root.opened() as directory:
            os.unlink(_name(self._object_id), dir_fd=directory)
        self.close()

    def close(self) -> None:
        """Close its file, which is enough for others to take it."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _name(object_id: str) -> str:
    return file_name(object_id) + ".lock"


def _is_named(fd: int, name: str, directory: int) -> bool:
    try:
        named = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))
