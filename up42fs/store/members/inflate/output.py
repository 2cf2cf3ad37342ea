"""Chunks of output on their way to the disk, which are read from memory meanwhile.

Knows chunks, the disk cache above and the budget of memory; nothing of runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from up42fs.store.disk.layered import ObjectSource
from up42fs.store.memory import MemoryCache
from up42fs.store.part import Part
from up42fs.types import ByteRange

#: Chunks that stay in memory although they are on disk: the next part may begin in them.
_RECENT = 2


class _HeldChunk:
    """A chunk on its way to the disk, which counts against the budget of parts."""

    in_use = True

    def __init__(self, held_bytes: int) -> None:
        self.held_bytes = held_bytes

    def evict(self) -> None:
        """Never called: it is in use."""


class Output:
    """The latest output of one member."""

    def __init__(self, cache: MemoryCache, on_kept: Callable[[], None]) -> None:
        """`on_kept` is called whenever a chunk was written to disk, or will not be."""
        self._cache = cache
        self._on_kept = on_kept
        self._chunks: OrderedDict[int, memoryview] = OrderedDict()  # by offset, latest last
        self._unkept: dict[int, _HeldChunk] = {}
        #: Where all output is kept; None for nowhere.
        self.keeper: ObjectSource | None = None
        #: Whether more output may follow soon.
        self.is_going_on = False

    @property
    def is_kept(self) -> bool:
        """Whether nothing is on its way to the disk."""
        return not self._unkept

    def holds(self, at: int) -> bool:
        """Whether the disk has a byte by now."""
        return self.keeper is not None and not self.keeper.lacks(ByteRange(at, at + 1))

    def fill(self, part: Part, asked: ByteRange) -> bool:
        """Write the next bytes of `asked` to the part; False if none are here."""
        for start, data in self._chunks.items():
            if start <= asked.start < start + len(data):
                part.write(data[asked.start - start : asked.stop - start])
                return True
        return False

    async def keep(self, span: ByteRange, data: memoryview) -> None:
        """Keep a chunk; waits if the disk is slow, for a moment."""
        start = span.start
        self._chunks[start] = data
        self._chunks.move_to_end(start)
        keeper = self.keeper
        if keeper is not None and keeper.lacks(span):
            held = self._unkept[start] = _HeldChunk(len(data))
            self._cache.add(held)

            def on_over() -> None:
                self._cache.remove(held)
                if self._unkept.get(start) is held:
                    del self._unkept[start]
                self.thin()
                self._on_kept()

            keeper.keep(span, data, on_over)
            await keeper.wait_for_room(len(span))
        self.thin()

    def thin(self) -> None:
        """Drop chunks that are on disk, or will not be, but for the latest ones."""
        for start in list(self._chunks)[: -_RECENT if self.is_going_on else None]:
            if start not in self._unkept:
                del self._chunks[start]

    def clear(self) -> None:
        """Drop all chunks: they may be wrong."""
        self._chunks.clear()
