"""Configures the C library's allocator to return freed memory to the system.

Knows glibc's `mallopt` and nothing else. By default glibc keeps an arena for each thread and lets
its mmap threshold grow with the sizes of freed blocks, so that gaps stay in the heap for good.
Measured by contrib/bench/memory.py: 25 MB less after the first minute.
"""

from __future__ import annotations

import ctypes

#: From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_WANTED = ((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, 512 << 10), (_M_TRIM_THRESHOLD, 4 << 20))


def return_memory() -> bool:
    """Make free() return memory; call it before threads start. Return whether it was possible."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return all(mallopt(option, value) for option, value in _WANTED)
