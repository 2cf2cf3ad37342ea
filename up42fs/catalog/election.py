"""The files by which the processes of an account agree who refreshes its catalogue.

Blocking, for worker threads. `catalog.turns` decides what they mean.

The elected process locks `….elected` (`flock`) and writes its number there; `….notice` holds its
latest report; the modification time of `….wish` is the latest wish. The files lie beside the
snapshot, because only processes that share it can follow it. Nothing is synchronised to the disk: a
crash of the machine ends all these processes. Raises OSError.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path

from up42fs.catalog.turns import Notice, parse_notice
from up42fs.ownership import open_directory
from up42fs.supervise import is_short_of_anything

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_BYTES = 4096


class Election:
    """The three files of one snapshot. For one thread at a time."""

    def __init__(self, snapshot: Path) -> None:
        self._elected = snapshot.with_suffix(".elected")
        self._notice = snapshot.with_suffix(".notice")
        self._wish = snapshot.with_suffix(".wish")
        self._lock: int | None = None

    def stand(self) -> bool:
        """Try to be elected; return whether this process is."""
        if self._lock is not None:
            if os.fstat(self._lock).st_nlink:
                return True
            self.resign()  # the file was deleted: others lock a new one
        self._ensure_directory()
        descriptor = _locked(self._elected)
        if descriptor is None:
            return False
        try:
            _write(self._elected, str(os.getpid()).encode().ljust(32))
        except BaseException:
            # Not for OSError alone: a lock that is left open here is nobody's, and no process,
            # not even this one, could be elected as long as this one lives.
            os.close(descriptor)
            raise
        self._lock = descriptor
        return True

    def _ensure_directory(self) -> None:
        """Create the snapshot's directory: on a cold cache this comes before the first write."""
        os.close(open_directory(self._elected.parent))

    def resign(self) -> None:
        """Let another process be elected."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    def elected(self) -> int | None:
        """The number of the process that was elected last."""
        with suppress(OSError, ValueError):
            return int(_read(self._elected))
        return None

    def publish(self, notice: Notice) -> None:
        """Write the report that the followers read."""
        errors = {kind: text[:200] for kind, text in notice.errors.items()}
        document = notice.document() | {"errors": errors}
        _write(self._notice, json.dumps(document).encode().ljust(_MOST_BYTES))

    def notice(self) -> Notice | None:
        """The latest report; None without one, or if it cannot be read."""
        with suppress(OSError, ValueError):
            return parse_notice(json.loads(_read(self._notice)))
        return None

    def wish(self) -> None:
        """Ask the elected process for a refresh."""
        descriptor = os.open(self._wish, _FLAGS, 0o600)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)

    def wished_ns(self) -> int:
        """The time of the latest wish, ns since 1970; 0 for never."""
        with suppress(OSError):
            return self._wish.stat(follow_symlinks=False).st_mtime_ns
        return 0


def is_unusable(error: Exception) -> bool:
    """Whether the files cannot be used, or nothing is left on this machine to use them with."""
    return isinstance(error, OSError) or is_short_of_anything(error)


def _locked(path: Path) -> int | None:
    """Open and lock a file; None if another process has locked it.

    The lock is kept for as long as a mount lasts, and a file that is open for writing would keep
    the disk from becoming read-only. So it is open for reading, except on NFS, which locks no such
    file (flock(2): EBADF).
    """
    for access in (os.O_RDONLY, os.O_RDWR):
        descriptor = os.open(path, _FLAGS & ~os.O_ACCMODE | access, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException as error:
            os.close(descriptor)
            is_refused = isinstance(error, OSError) and error.errno == errno.EBADF
            if not is_refused or access == os.O_RDWR:
                raise
        else:
            return descriptor
    return None


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, _FLAGS, 0o600)
    try:
        os.pwrite(descriptor, content, 0)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.pread(descriptor, 4 * _MOST_BYTES, 0).strip()
    finally:
        os.close(descriptor)
