"""Keeps this process's memory from the user's other programs and from core files.

It holds the password, the token and every link. `RLIMIT_CORE` alone is not enough: the kernel
ignores it if a program receives core files (systemd-coredump). A process that is not dumpable
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
    """Protect this process's memory until it executes another program."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        log.warning("programs of this user may read the memory of this one: %s", reason)
