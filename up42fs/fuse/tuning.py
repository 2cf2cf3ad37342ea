"""Kernel settings of one mount: the wanted values, and those that can be set once it answers.

`attach` settles the settings of the handshake. The rest is tried after the mount answers (values
written earlier are reset) and is optional: without permission the mount works, slower.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from up42fs.deadlines import (
    LIMIT_S,
    LISTING_S,
    LONGEST_S,
    at_most_s,
    is_enough,
    patient_s,
    request_s,
)
from up42fs.fuse.handshake import Negotiated
from up42fs.fuse.mount_table import Mount
from up42fs.request_limit import CURE

log = logging.getLogger(__name__)

#: Kernel read-ahead, KiB. The default 128 limits a reader to 128 KiB per request, two at a time;
#: 1024 is the most that does not hurt mmap readers (docs/performance.md). Root only.
READ_AHEAD_KIB = 1024
#: For images read by tiles, KiB. The kernel's default of 128 costs a third more bytes in windows of
#: small tiles, 1024 up to six times as many (docs/performance.md), and neither saves time.
PIECES_KIB = 64
#: Background requests of the whole mount; the default 12 starves parallel readers. Agreed on in the
#: handshake; without it, the mount's owner may raise it if /sys shows it.
MAX_BACKGROUND = 64
CONGESTION_THRESHOLD = 48
#: Where the kernel limits how long a request may take. It counts the time that one waits for others
#: to be answered, of which we know nothing; so all are to come to us, and wait with a deadline.
UNLIMITED_BACKGROUND = 65535

_BDI = Path("/sys/class/bdi")
_CONNECTIONS = Path("/sys/fs/fuse/connections")


@dataclass(frozen=True, slots=True)
class Tuned:
    """The settings that the kernel uses now.

    `read_ahead_kib` and `max_background` are read back if the kernel shows them; otherwise
    `max_background` is the negotiated value; None if neither is available. `direct_images`: images
    that are read by tiles bypass the page cache.
    """

    read_ahead_kib: int | None
    max_background: int | None
    parallel_dirops: bool
    direct_images: bool = False


def read_ahead_path(mount: Mount) -> Path:
    """The /sys file that holds the mount's read-ahead in KiB."""
    return _BDI / mount.device / "read_ahead_kb"


def wanted_background(limit_s: float | None = LIMIT_S) -> int:
    """How many background requests may be under way, under a limit of the kernel or without."""
    return MAX_BACKGROUND if limit_s is None else UNLIMITED_BACKGROUND


def tune(
    mount: Mount, read_ahead_kib: int = READ_AHEAD_KIB, negotiated: Negotiated | None = None
) -> Tuned:
    """Set what may be set, and report the values in use. Blocking, quick; run it in a thread.

    `negotiated` holds the settings of the handshake, None if libfuse did it.
    """
    read_ahead = read_ahead_path(mount)
    connection = _CONNECTIONS / mount.device.partition(":")[2]
    _write(read_ahead, read_ahead_kib)
    if negotiated is None:
        _write(connection / "max_background", wanted_background())
        _write(connection / "congestion_threshold", CONGESTION_THRESHOLD)
    max_background = _read(connection / "max_background")
    if max_background is None and negotiated is not None:
        max_background = negotiated.max_background
    has_dirops = negotiated is not None and negotiated.parallel_dirops
    is_direct = negotiated is not None and negotiated.maps_direct
    tuned = Tuned(_read(read_ahead), max_background, has_dirops, is_direct)
    if LIMIT_S is not None and not is_enough(LIMIT_S):
        log.warning(
            "the kernel ends a mount in which a request takes longer than %.0f s, so nothing waits "
            "longer than %.0f s, and no read longer than %.0f s; to lift this: %s, and mount again",
            LIMIT_S, at_most_s(patient_s(LISTING_S)), request_s(LONGEST_S), CURE,
        )  # fmt: skip
    if tuned.read_ahead_kib is not None and tuned.read_ahead_kib < read_ahead_kib:
        log.info(
            "kernel read-ahead stays at %d KiB; for faster copies run: echo %d | sudo tee %s",
            tuned.read_ahead_kib, read_ahead_kib, read_ahead,
        )  # fmt: skip
    return tuned


def raise_read_ahead(mount: Mount, read_ahead_kib: int) -> int | None:
    """Try again to set the read-ahead, as udev may permit it by now; return it, or None."""
    path = read_ahead_path(mount)
    _write(path, read_ahead_kib)
    return _read(path)


class ReadAhead:
    """The kernel's read-ahead for each file: `wide_kib`, less for images read by tiles.

    The kernel copies the mount's value into a file as it is opened, after the answer to OPEN. So
    just before that answer the value is set to what the file needs, and stays until a file is
    opened that needs another: restoring it at the next read would race with other threads opening
    the same image. If two files that need different values are opened at the same moment, one of
    them reads ahead too far or not far enough.
    """

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
            try:
                os.pwrite(self._file, b"%d\n" % kib, 0)
            except OSError as error:
                log.debug("the kernel's read-ahead stays as it is: %s", error.strerror)
                self.close()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _write(path: Path, value: int) -> None:
    try:
        path.write_text(str(value))
    except OSError as error:
        log.debug("%s stays as it is: %s", path, error.strerror)


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
