"""The directory of sidecars on disk: blocking calls, which `run` makes in a worker thread.

There is one flat directory per account, so that its modification time shows other mounts of the
account that a sidecar was created or removed.

Rules.
1. A file under its own name is complete: it is written as a *draft* beside it, flushed, and
   renamed. After a crash there is the last version that was closed, or none.
2. A draft is locked as long as its mount lives, so the next mount removes drafts of dead ones.
3. No symbolic link is followed; modes are 0700 and 0600; the directory must be the user's own.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import logging
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import trio

from up42fs.errors import ConfigurationError, NoSpace, NotFound, Unavailable, Up42fsError

log = logging.getLogger(__name__)

_DRAFT = ".draft-"
#: A younger draft may not be locked yet, seconds.
_YOUNG_S = 60.0
#: Modification times of directories move in steps; a second change within a step does not show.
_STEP_NS = 50_000_000
_COPY_BYTES = 8 << 20
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

T = TypeVar("T")


class FileState(NamedTuple):
    """A file's inode, size in bytes, and modification time in nanoseconds since 1970."""

    inode: int
    size: int
    mtime_ns: int


class Scan(NamedTuple):
    """All kept files, and the directory's time; 0 if a later change might not show in it."""

    files: dict[str, FileState]
    stamp_ns: int


class OverlayDirectory:
    """One account's directory of sidecars."""

    def __init__(self, path: Path) -> None:
        """Create and open it; raises ConfigurationError."""
        self.path = path
        self._numbers = itertools.count()
        try:
            for directory in (*reversed(path.parents[:2]), path):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory = os.open(
                path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except OSError as error:
            raise ConfigurationError(
                f"sidecars cannot be kept in {path}: {error.strerror}; "
                "set XDG_DATA_HOME to a directory of yours, or mount without sidecars"
            ) from None
        try:
            if os.fstat(self._directory).st_uid != os.geteuid():
                raise ConfigurationError(
                    f"sidecars cannot be kept in {path}: it is somebody else's; "
                    "set XDG_DATA_HOME to a directory of yours, or mount without sidecars"
                )
            self._remove_dead_drafts()
        except BaseException:
            os.close(self._directory)
            raise

    async def run(self, call: Callable[..., T], *arguments: object) -> T:
        """Run a blocking call in a thread; raises one of our errors for its OSError."""
        try:
            return await trio.to_thread.run_sync(call, *arguments)
        except OSError as error:
            raise self._explained(error) from None

    def _explained(self, error: OSError) -> Up42fsError:
        if error.errno == errno.ENOENT:
            return NotFound("the sidecar is gone")
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return NoSpace(f"no room for sidecars in {self.path}: {error.strerror}")
        return Unavailable(f"the sidecars in {self.path} failed: {error.strerror}")

    def scan(self) -> Scan:
        changed_ns = os.fstat(self._directory).st_mtime_ns
        if time.time_ns() - changed_ns < _STEP_NS:
            changed_ns = 0
        files = {}
        for entry in os.scandir(self._directory):
            if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    files[entry.name] = _state(entry.stat(follow_symlinks=False))
        return Scan(files, changed_ns)

    def stamp_ns(self) -> int:
        """The directory's modification time, nanoseconds since 1970."""
        return os.fstat(self._directory).st_mtime_ns

    def open(self, name: str) -> tuple[int, FileState]:
        """Open a kept file for reading; raises OSError."""
        descriptor = os.open(name, _READ_FLAGS, dir_fd=self._directory)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise FileNotFoundError(name)
            return descriptor, _state(found)
        except BaseException:
            os.close(descriptor)
            raise

    def state(self, name: str) -> FileState | None:
        try:
            found = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return _state(found) if stat.S_ISREG(found.st_mode) else None

    def draft(self, source: int | None = None) -> tuple[str, int]:
        """Create a draft with the content of the descriptor `source`; return (name, descriptor)."""
        name = f"{_DRAFT}{os.getpid()}-{time.time_ns()}-{next(self._numbers)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self._directory)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if source is not None:
                _copy(source, descriptor)
        except BaseException:
            os.close(descriptor)
            self.remove(name)
            raise
        return name, descriptor

    def publish(self, draft: str, descriptor: int, name: str) -> None:
        """Make a completed draft the file `name`."""
        os.fdatasync(descriptor)
        self.rename(draft, name)

    def rename(self, old: str, new: str) -> None:
        """Rename a kept file; replaces the file of the new name."""
        os.replace(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._directory)

    def free_bytes(self) -> int:
        found = os.fstatvfs(self._directory)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        os.close(self._directory)

    def _remove_dead_drafts(self) -> None:
        for entry in os.scandir(self._directory):
            if not entry.name.startswith(_DRAFT):
                continue
            with suppress(OSError):
                descriptor = os.open(entry.name, _READ_FLAGS, dir_fd=self._directory)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if time.time() - os.fstat(descriptor).st_ctime > _YOUNG_S:
                        self.remove(entry.name)
                        log.info("removed a sidecar that was never finished: %s", entry.name)
                finally:
                    os.close(descriptor)


def state_of(descriptor: int) -> FileState:
    return _state(os.fstat(descriptor))


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> FileState:
    """Write all of `data`; return the file's new state. Raises OSError."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
    return state_of(descriptor)


def _state(found: os.stat_result) -> FileState:
    return FileState(found.st_ino, found.st_size, found.st_mtime_ns)


def _copy(source: int, target: int) -> None:
    offset = 0
    while chunk := os.pread(source, _COPY_BYTES, offset):
        write_all(target, chunk, offset)
        offset += len(chunk)
