"""Kernel settings of one mount that FUSE's handshake leaves at poor defaults.

Knows the files under /sys and nothing else. Both settings are tried after the mount answers
(written earlier they are reset) and neither is needed: without permission the mount works, slower.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from up42fs.fuse.mounts import Mount

log = logging.getLogger(__name__)

#: Kernel read-ahead, KiB. The default 128 makes a reader ask 128 KiB at a time, two at a time;
#: 1024 is the most that does not hurt mmap readers (docs/performance.md). Root only.
READ_AHEAD_KIB = 1024
#: Background requests in flight for the whole mount; the default 12 starves parallel readers.
#: The mount's owner may raise it.
MAX_BACKGROUND = 64
CONGESTION_THRESHOLD = 48

_BDI = Path("/sys/class/bdi")
_CONNECTIONS = Path("/sys/fs/fuse/connections")


@dataclass(frozen=True, slots=True)
class Tuned:
    """What the kernel uses now, as read back from it; None where it cannot be seen."""

    read_ahead_kib: int | None
    max_background: int | None


def tune(mount: Mount, read_ahead_kib: int = READ_AHEAD_KIB) -> Tuned:
    """Set what may be set, and report what holds. Blocking, quick; run it in a thread."""
    read_ahead = _BDI / mount.device / "read_ahead_kb"
    connection = _CONNECTIONS / mount.device.partition(":")[2]
    _write(read_ahead, read_ahead_kib)
    _write(connection / "max_background", MAX_BACKGROUND)
    _write(connection / "congestion_threshold", CONGESTION_THRESHOLD)
    tuned = Tuned(_read(read_ahead), _read(connection / "max_background"))
    if tuned.read_ahead_kib is not None and tuned.read_ahead_kib < read_ahead_kib:
        log.info(
            "kernel read-ahead stays at %d KiB; for faster copies run: echo %d | sudo tee %s",
            tuned.read_ahead_kib, read_ahead_kib, read_ahead,
        )  # fmt: skip
    return tuned


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
