"""The directory of one account's cached files: created, kept private, kept open. Blocking.

Knows directories and their owners; nothing of the files in them.

Theory. Every operation on a cached file begins here, and each system call releases the
interpreter's lock, which takes long to come back while other threads move bytes. So the descriptor
is kept open, and checked before each use: a deleted directory has no links any more and is created
anew, and one whose permissions were widened is made private again. Operations that already use the
old descriptor keep it.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from up42fs.ownership import ensure_directory


class _Opened:
    """A descriptor that is closed when nothing refers to it any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        weakref.finalize(self, os.close, fd)


class CacheDirectory:
    """The directory `key` below `blocks`. For any thread."""

    def __init__(self, blocks: Path, key: str) -> None:
        self.path = blocks / key
        self._blocks = blocks
        self._key = key
        self._kept: _Opened | None = None

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Yield the directory's descriptor, valid while the block runs. Raises OSError."""
        kept = self._kept
        if kept is None or not _is_usable(kept.fd):
            kept = self._kept = _Opened(self._open())
        yield kept.fd

    def close(self) -> None:
        """Release the descriptor, so that its file system can be unmounted."""
        self._kept = None

    def _open(self) -> int:
        blocks = ensure_blocks(self._blocks)
        try:
            return ensure_directory(self._key, blocks)
        finally:
            os.close(blocks)


def _is_usable(fd: int) -> bool:
    found = os.fstat(fd)
    is_private = found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
    return is_private and found.st_nlink > 0


def ensure_blocks(path: Path) -> int:
    """Open the directory of all accounts' files, created if necessary; raises OSError."""
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return ensure_directory(str(path), None)
