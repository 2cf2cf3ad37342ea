"""The files by which the processes of an account agree who refreshes its catalogue.

Blocking, for worker threads. `catalog.turns` decides what they mean.

`….elected` is locked (`flock`) by the elected process and holds its number; `….notice` is what it
told last; the modification time of `….wish` is the latest wish. The files lie beside the snapshot,
because only processes that share it can follow it. Nothing is synchronised to the disk: after a
crash of the machine there is nobody to agree with. Raises OSError.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path

from up42fs.catalog.turns import Notice, parse_notice
from up42fs.ownership import ensure_directory

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
        descriptor = os.open(self._elected, _FLAGS, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:
            os.close(descriptor)
            raise
        os.pwrite(descriptor, str(os.getpid()).encode().ljust(32), 0)
        self._lock = descriptor
        return True

    def _ensure_directory(self) -> None:
        """Create the snapshot's directory: on a cold cache this comes before the first write."""
        parent = self._elected.parent
        if not parent.parent.is_dir():
            parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(ensure_directory(str(parent), None))

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
        """Tell the others."""
        descriptor = os.open(self._notice, _FLAGS, 0o600)
        try:
            errors = {kind: text[:200] for kind, text in notice.errors.items()}
            document = notice.document() | {"errors": errors}
            os.pwrite(descriptor, json.dumps(document).encode().ljust(_MOST_BYTES), 0)
        finally:
            os.close(descriptor)

    def notice(self) -> Notice | None:
        """What was told last; None if nothing was, or it cannot be read."""
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
        """When somebody wished last, ns since 1970; 0 for never."""
        with suppress(OSError):
            return self._wish.stat(follow_symlinks=False).st_mtime_ns
        return 0


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.pread(descriptor, 4 * _MOST_BYTES, 0).strip()
    finally:
        os.close(descriptor)
