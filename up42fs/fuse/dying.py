"""Whether a process is about to end, asked of the kernel where /proc does not show the process.

Theory. `process_mrelease` gives the memory of a process back that a signal has ended and that has
not yet left. Everybody may ask for it, of any process whose number they know, and it answers EINVAL
where the process goes on. So it tells what /proc hides from other users (hidepid), and takes
nothing from anybody: what it gives back is lost already. It knows no threads, and a signal that a
program handles, or that writes a core file, does not count. Where system calls are filtered it is
not called: some filters end a process that calls what they do not know.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_PROCESS_MRELEASE = 448
_libc = ctypes.CDLL(None, use_errno=True)


def is_dying(process_id: int) -> bool | None:
    """Whether the process ends; None where nobody tells. May block: run it in a thread."""
    if _are_calls_filtered():
        return None
    try:
        descriptor = os.pidfd_open(process_id)
    except (OSError, AttributeError):  # another thread than its first, or an old kernel
        return None
    try:
        if _libc.syscall(_PROCESS_MRELEASE, descriptor, 0) == 0:
            return True
        number = ctypes.get_errno()
        return {errno.EINVAL: False, errno.EAGAIN: True}.get(number)
    finally:
        os.close(descriptor)


def _are_calls_filtered() -> bool:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    return "Seccomp:\t0" not in lines
