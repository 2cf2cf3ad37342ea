"""Memory for parts: mapped once, used again and again.

Knows sizes, not what the bytes are.

Theory. A fresh page costs a fault and is zeroed before it is filled: over a long read that takes
more processor time than decrypting it (docs/transport.md). So a part's mapping is kept when nobody
can look at it any more, and the next part of its size takes it. "Nobody" includes answers on their
way to the kernel, which are views of it: what is handed out is one object that every view keeps
alive, and the mapping comes back when that object goes, wherever the last view is dropped.
What is lent and what is kept are bounded together: where all is lent, nothing is kept.
No lock: a finalizer may run in any thread, also amid these methods, and each step is atomic.
"""

from __future__ import annotations

import ctypes
import weakref
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from up42fs.ranges import ceil_to

#: What can be written beyond a buffer's end without harm (see `ports.Sink.space`), bytes.
SLACK_BYTES = 1
_PAGE_BYTES = 4096
#: Smaller buffers are not worth a mapping: the allocator has memory for them that was touched.
#: Larger ones would leave gaps there for good: 20 MB and more after minutes of mixed reading.
MAPPED_BYTES = 128 << 10
#: Mappings come in multiples of it, those up to it in multiples of `MAPPED_BYTES`.
STEP_BYTES = 512 << 10


def capacity(size: int) -> int:
    """What a buffer of `size` bytes takes, in bytes: mappings come in few sizes."""
    if size < MAPPED_BYTES:
        return size
    return ceil_to(size, MAPPED_BYTES if size <= STEP_BYTES else STEP_BYTES)


class Buffers:
    """Lends memory; keeps what nobody uses, of about `most_bytes` with what is lent.

    For any thread.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._idle: dict[int, list[mmap]] = {}  # by capacity
        self._lent: dict[int, int] = {}  # identity of a mapping -> its capacity

    def take(self, size: int) -> memoryview:
        """A writable buffer of `size` bytes of rubbish; the last view of it gives it back.

        `SLACK_BYTES` longer, for writers that need them.
        """
        if size < MAPPED_BYTES:
            return memoryview(bytearray(size + SLACK_BYTES))
        wanted = capacity(size)
        try:
            mapping = self._idle[wanted].pop()
        except LookupError:
            # Private: pages of a shared mapping are a file's, which makes faults dearer.
            mapping = mmap(-1, wanted + _PAGE_BYTES, flags=MAP_PRIVATE | MAP_ANONYMOUS)
        self._lent[id(mapping)] = wanted
        lent = (ctypes.c_char * (size + SLACK_BYTES)).from_buffer(mapping)
        weakref.finalize(lent, self._give_back, mapping).atexit = False
        return memoryview(lent).cast("B")

    @property
    def idle_bytes(self) -> int:
        """Bytes that nobody uses."""
        return sum(size * len(mappings) for size, mappings in list(self._idle.items()))

    @property
    def lent_bytes(self) -> int:
        """Bytes of mappings that somebody uses."""
        return sum(list(self._lent.values()))

    def _give_back(self, mapping: mmap) -> None:
        size = len(mapping) - _PAGE_BYTES
        self._lent.pop(id(mapping), None)
        excess = self.lent_bytes + self.idle_bytes + size - self._most_bytes
        # Sizes go out of use with the pattern that asked for them.
        for other in [one for one in list(self._idle) if one != size] if excess > 0 else ():
            excess -= other * len(self._idle.pop(other, ()))
        if excess <= 0:
            self._idle.setdefault(size, []).append(mapping)
