"""Settings of the C library's allocator: memory that was needed for a moment goes back.

Knows glibc's `mallopt` and nothing else. By itself glibc keeps an arena a thread and lets the size
from which blocks are mapped one by one grow to 32 MiB, so that a page of assets parsed once leaves
its gaps for good. Measured by contrib/bench/memory.py: 25 MB less after the first minute.
"""

from __future__ import annotations

import ctypes

#: malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_WANTED = ((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, 512 << 10), (_M_TRIM_THRESHOLD, 4 << 20))


def return_memory() -> bool:
    """Have freed memory given back; call it before there are threads. Whether it was possible."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return all(mallopt(option, value) for option, value in _WANTED)
