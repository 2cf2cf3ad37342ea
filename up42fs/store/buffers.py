"""Memory for parts: mapped once, then reused.

Theory. A fresh page costs a fault and is zeroed before it is filled: over a long read that takes
more processor time than decrypting it (docs/transport.md). So a part's mapping is kept once nothing
refers to it any more, and the next part of its size reuses it. Answers on their way to the kernel
count as references, since they are views of the mapping: a lent buffer is one object that every
view keeps alive, and a finalizer returns the mapping when the last view is dropped. Lent and idle
mappings are bounded together: if everything is lent, nothing is kept. There is no lock: a finalizer
may run in any thread, even in the middle of these methods, and each step is atomic.
"""

from __future__ import annotations

import ctypes
import weakref
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from up42fs.ranges import ceil_to

#: Bytes that can be written beyond a buffer's end without harm (see `Delivery.space`).
SLACK_BYTES = 1
_PAGE_BYTES = 4096
#: Smaller buffers are not worth a mapping: the allocator has memory for them that was touched
#: before. Larger ones would leave permanent gaps in its heap: 20 MB and more after minutes of mixed
#: reading.
MAPPED_BYTES = 128 << 10
#: Mappings larger than this come in multiples of it, smaller ones in multiples of `MAPPED_BYTES`.
STEP_BYTES = 512 << 10


def capacity(size: int) -> int:
    """Memory that a buffer of `size` bytes takes, in bytes; mappings come in few sizes."""
    if size < MAPPED_BYTES:
        return size
    return ceil_to(size, MAPPED_BYTES if size <= STEP_BYTES else STEP_BYTES)


class Buffers:
    """Lends memory and keeps idle mappings, so that idle and lent ones take about `most_bytes`.

    For any thread.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._idle: dict[int, list[mmap]] = {}  # by capacity
        self._lent: dict[int, int] = {}  # identity of a mapping -> its capacity

    def take(self, size: int) -> memoryview:
        """Return a writable, uninitialised buffer of `size` bytes; dropping its views frees it.

        The memory is `SLACK_BYTES` longer, for writers that need them.
        """
        if size < MAPPED_BYTES:
            return memoryview(bytearray(size + SLACK_BYTES))
        wanted = capacity(size)
        try:
            mapping = self._idle[wanted].pop()
        except LookupError:
            # Private, because the pages of a shared mapping belong to a file, which makes faults
            # dearer.
            mapping = mmap(-1, wanted + _PAGE_BYTES, flags=MAP_PRIVATE | MAP_ANONYMOUS)
        self._lent[id(mapping)] = wanted
        lent = (ctypes.c_char * (size + SLACK_BYTES)).from_buffer(mapping)
        weakref.finalize(lent, self._give_back, mapping).atexit = False
        return memoryview(lent).cast("B")

    @property
    def idle_bytes(self) -> int:
        """Bytes of mappings that are kept for reuse."""
        return sum(size * len(mappings) for size, mappings in list(self._idle.items()))

    @property
    def lent_bytes(self) -> int:
        """Bytes of mappings that are in use."""
        return sum(list(self._lent.values()))

    def _give_back(self, mapping: mmap) -> None:
        size = len(mapping) - _PAGE_BYTES
        self._lent.pop(id(mapping), None)
        excess = self.lent_bytes + self.idle_bytes + size - self._most_bytes
        # Drop idle mappings of other sizes first: a size goes out of use with the access pattern
        # that needed it.
        for other in [one for one in list(self._idle) if one != size] if excess > 0 else ():
            excess -= other * len(self._idle.pop(other, ()))
        if excess <= 0:
            self._idle.setdefault(size, []).append(mapping)
