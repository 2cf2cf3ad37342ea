"""Takes a mount away with the programs that may: fusermount3, and umount(8) for root.

fusermount3 reads /etc/mtab, which bare roots and small containers lack; root can do without it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def detach(mountpoint: Path, *, lazy: bool, timeout_s: float | None = None) -> str | None:
    """Unmount; return why it failed, or None. `lazy`: gone for all when its last user leaves."""
    place = str(mountpoint)
    reason = _run(["fusermount3", "-u", *(["-z"] if lazy else []), "--", place], timeout_s)
    if reason is None or os.geteuid() != 0:
        return reason
    if _run(["umount", *(["-l"] if lazy else []), "--", place], timeout_s) is None:
        return None
    return reason


def _run(command: list[str], timeout_s: float | None) -> str | None:
    try:
        # Run in `/`, since PATH may lead to the current directory.
        done = subprocess.run(  # noqa: S603  (the mount point is an argument after `--`)
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return done.stderr.strip() or f"{command[0]} failed"
