"""Keeps the memory of this process from other programs of the user, and from core files.

The password, the token and every link are in it. `RLIMIT_CORE` alone does not do: the kernel
ignores it where a program takes core files (systemd-coredump). A process that is not dumpable
leaves no core file anywhere, and only root can read its memory and environment (prctl(2), proc(5)).
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource

log = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4


def seclude() -> None:
    """Do so from now on. It lasts until another program is executed."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        log.warning("programs of this user may read the memory of this one: %s", reason)
