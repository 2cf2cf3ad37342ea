"""The log in a file: bounded in size, followed where something else moves it.

A file that would exceed its size is renamed to `NAME.1`, an earlier one to `NAME.2`, and so on. The
new one begins with the old one's mode and owner. Several processes may log to one file: before it
writes, each looks whether the name still leads to its open file, and opens the new one if not. So
logrotate(8) may move the file at any time.

Only regular files are ever renamed. Terminals, pipes and devices are written as they are.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Rotation:
    """The size at which a file is put aside, 0 for never, and how many old files stay."""

    most_bytes: int = 10 << 20
    old_files: int = 3


def open_log(path: Path, *, follows: bool = True) -> int:
    """A descriptor that appends to `path`. Raises OSError.

    The log names assets and orders, so a file created here is readable only by its owner from the
    start. An existing file keeps its mode: an administrator chose it, or it is a device.
    """
    # A pipe without a reader raises an error instead of blocking for ever; a terminal does not
    # become this session's.
    descriptor = os.open(path, _FLAGS | (0 if follows else os.O_NOFOLLOW), 0o600)
    try:
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def old_names(path: Path, count: int) -> list[Path]:
    """The names of the files that were put aside, the newest first."""
    return [path.with_name(f"{path.name}.{number}") for number in range(1, count + 1)]


class LogFile(logging.Handler):
    """Appends records to a file."""

    def __init__(self, path: Path, rotation: Rotation) -> None:
        super().__init__()
        self._rotation = rotation
        self._descriptor = open_log(path)
        # Links are followed once, at the start: whoever may change one later chooses no file.
        self._path = Path(os.path.realpath(path))
        self._is_regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._is_stuck = False
        self._stderr: int | None = None

    def take_stderr(self, descriptor: int) -> None:
        """Write what goes to `descriptor` (libfuse, stack dumps) to the file, too, for good."""
        self._stderr = descriptor
        os.dup2(self._descriptor, descriptor)

    def emit(self, record: logging.LogRecord) -> None:
        """Append one record; what cannot be written is lost."""
        try:
            line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            if self._is_regular:
                self._prepare(len(line))
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()

    def _prepare(self, coming_bytes: int) -> None:
        """Open the file that the name leads to now; put it aside if it would be too large."""
        here = os.fstat(self._descriptor)
        if not self._is_named(here):
            self._take(open_log(self._path, follows=False))
            here = os.fstat(self._descriptor)
        most = self._rotation.most_bytes
        if most and here.st_size and here.st_size + coming_bytes > most and not self._is_stuck:
            self._put_aside(here)

    def _is_named(self, here: os.stat_result) -> bool:
        try:
            found = os.lstat(self._path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (here.st_dev, here.st_ino)

    def _put_aside(self, here: os.stat_result) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return  # another process puts it aside now
        try:
            if not self._is_named(here):
                return
            if self._rotation.old_files == 0:
                os.ftruncate(self._descriptor, 0)
                return
            self._rename()
            self._take(self._begun(here))
        except OSError:
            # The directory is not this user's: an administrator provides for the size, or nobody.
            self._is_stuck = True
        finally:
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _rename(self) -> None:
        names = [self._path, *old_names(self._path, self._rotation.old_files)]
        for newer, older in reversed(list(pairwise(names))):
            with suppress(FileNotFoundError):
                newer.rename(older)

    def _begun(self, old: os.stat_result) -> int:
        try:
            descriptor = os.open(self._path, _FLAGS | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:  # another process began it
            return open_log(self._path, follows=False)
        os.set_blocking(descriptor, True)
        with suppress(OSError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
        with suppress(OSError):
            os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
        return descriptor

    def _take(self, descriptor: int) -> None:
        """Go on with another open file, under the number of the former one."""
        os.dup2(descriptor, self._descriptor, inheritable=False)
        os.close(descriptor)
        if self._stderr is not None:
            os.dup2(self._descriptor, self._stderr)
