"""Directories and files that only this user can access: created so, and checked when opened.

Blocking.

A directory in a place that others may write to (`/tmp`, a shared disk) may have been put there by
another user, and a name in it may be a link to a file of this user's. So directories are opened and
not trusted by their path, must belong to this user, and are closed to others; anything but a plain
file of this user's with one name is not used.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotOurs(ValueError):
    """Not a plain file of this user's with one name; the message describes it."""


def ensure_directory(name: str, parent: int | None) -> int:
    """Open a directory of this user, created if need be; others cannot read it. Raises OSError."""
    try:
        fd = os.open(name, _FLAGS, dir_fd=parent)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, _FLAGS, dir_fd=parent)
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user", name)
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(fd, 0o700)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_directory(path: Path) -> int:
    """Open this user's directory at `path`, created with its parents if need be. Raises OSError."""
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return ensure_directory(str(path), None)


def is_plain(found: os.stat_result) -> bool:
    """Whether it is a plain file of this user's with one name, or with none left."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1 and found.st_uid == os.geteuid()


def ensure_file(name: str, parent: int) -> None:
    """Create a file in `parent`, or check that it is ours, mode 0600; raises OSError, NotOurs."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, 0o600, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise NotOurs(f"it is no plain file ({error.strerror})") from None
        raise
    try:
        found = os.fstat(fd)
        if not is_plain(found):
            raise NotOurs("it is not a plain file of this user's with one name")
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


def remove_foreign(name: str, parent: int) -> None:
    """Remove `name` from the directory `parent` unless it is absent or ours. Raises OSError."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not is_plain(found):
        os.unlink(name, dir_fd=parent)
