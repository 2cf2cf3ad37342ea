"""Controls how far the kernel reads ahead, for each file.

Knows one file under /sys. The kernel copies its value into a file as it is opened, after the answer
to OPEN. So just before that answer the value is set to what the file needs, and stays until a file
is opened that needs another: restoring it at the next read would race with other threads opening
the same image. If two files that need different values are opened at the same moment, one of them
reads ahead too far or not far enough.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from up42fs.fuse.mount_table import Mount
from up42fs.fuse.tuning import read_ahead_path

log = logging.getLogger(__name__)

#: For images read by tiles, KiB. The kernel's default of 128 costs a third more bytes in windows of
#: small tiles, 1024 up to six times as many (docs/performance.md), and neither saves time.
PIECES_KIB = 64


class ReadAhead:
    """The kernel's read-ahead of one mount: `wide_kib`, less for images read by tiles."""

    def __init__(self, mount: Mount, wide_kib: int) -> None:
        self._wide_kib = self._now_kib = wide_kib
        self._file: int | None = None
        if wide_kib > PIECES_KIB:
            with suppress(OSError):  # not permitted: the value stays the same for all files
                self._file = os.open(read_ahead_path(mount), os.O_WRONLY | os.O_CLOEXEC)

    @property
    def pieces_kib(self) -> int:
        """The read-ahead for images read by tiles, KiB."""
        return PIECES_KIB if self._file is not None else self._wide_kib

    def prepare(self, *, in_pieces: bool) -> None:
        """Set the value for a file that is being opened: read in pieces, or from end to end."""
        kib = self.pieces_kib if in_pieces else self._wide_kib
        if self._file is not None and kib != self._now_kib:
            self._now_kib = kib
            self._write(self._file, kib)

    def close(self) -> None:
        """Close the file; called when the mount ends."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, file: int, kib: int) -> None:
        try:
            os.pwrite(file, b"%d\n" % kib, 0)
        except OSError as error:
            log.debug("the kernel's read-ahead stays as it is: %s", error.strerror)
            self.close()
