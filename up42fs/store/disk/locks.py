"""Locks between the processes of one account: one fetches or inflates, the others wait and load.

Knows files; nothing of what is locked. Blocking, for worker threads.

The lock of a member that is inflated is an `flock` of a file beside the cached ones, whose name no
cached file has. The file is deleted when it is unlocked; a process that opened it before then sees
that the name leads elsewhere, and tries once more.

A *claim* of a range that is fetched is a lock on bytes of one file for all objects of the account
(`byte_locks`). A process keeps the file open while it claims, so that a claim costs one system
call. Such a lock needs a file that is open for writing, which keeps the disk from becoming
read-only: so a process that is at rest closes it (`rest`). Its bytes are never written.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from contextlib import suppress
from weakref import WeakSet

from up42fs import byte_locks
from up42fs.store.disk.files import CacheDirectory, Descriptor, file_name
from up42fs.types import ByteRange

log = logging.getLogger(__name__)

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
            except BaseException:
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
        try:
            with suppress(OSError), self._root.opened() as directory:
                os.unlink(_name(self._object_id), dir_fd=directory)
        finally:
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


class ClaimFile:
    """The file whose bytes are locked for ranges that are being fetched. For any thread."""

    NAME = "claims"

    def __init__(self, root: CacheDirectory) -> None:
        self._root = root
        self._kept: Descriptor | None = None

    def lock(self, region: ByteRange) -> Descriptor | None:
        """Lock bytes; None if another process has locked some of them. Raises OSError.

        They are locked for as long as something refers to the descriptor that is returned.
        """
        opened = self._descriptor()
        return opened if byte_locks.lock(opened.fd, region.start, len(region)) else None

    def rest(self) -> None:
        """Close the file once none of its claims is held; the next claim opens it again."""
        self._kept = None

    def close(self) -> None:
        """Give back all claims."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def _descriptor(self) -> Descriptor:
        kept = self._kept
        # A file that was deleted is locked by nobody who opens the cache from now on.
        if kept is None or not os.fstat(kept.fd).st_nlink:
            with self._root.opened() as directory:
                kept = self._kept = Descriptor(os.open(self.NAME, _FLAGS, 0o600, dir_fd=directory))
            _open_files.add(kept)
        return kept


class Claim:
    """A range that this process wants to fetch, until it is released. For any thread."""

    def __init__(self, file: ClaimFile, region: ByteRange) -> None:
        self._file = file
        self._region = region
        self._mutex = threading.Lock()
        self._locked: Descriptor | None = None
        self._is_over = False

    def take(self) -> bool:
        """Take it; False if another process has it. True as well where files cannot be locked."""
        with self._mutex:
            try:
                self._locked = self._file.lock(self._region)
                is_ours = self._locked is not None
            except OSError as error:
                log.debug("ranges are fetched without a look at other processes: %s", error)
                is_ours = True
        if self._is_over:  # the task that wanted it was cancelled meanwhile
            self.release()
        return is_ours

    def release(self) -> None:
        """Give it back. Idempotent; waits for nothing."""
        self._is_over = True
        # If `take` runs in another thread, it sees `_is_over` and releases the claim itself.
        if self._mutex.acquire(blocking=False):
            try:
                locked, self._locked = self._locked, None
                if locked is not None and locked.close.alive:
                    with suppress(OSError):
                        byte_locks.unlock(locked.fd, self._region.start, len(self._region))
            finally:
                self._mutex.release()


_open_files: WeakSet[Descriptor] = WeakSet()


def _close_in_child() -> None:
    # A child that was forked shares the open file, and with it the claims: they would outlive the
    # parent. Closing one of two descriptors gives no claim back.
    for file in list(_open_files):
        file.close()


os.register_at_fork(after_in_child=_close_in_child)
