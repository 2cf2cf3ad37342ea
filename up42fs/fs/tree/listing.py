"""Directory streams: a snapshot of a listing, and the offsets by which the kernel reads it.

Knows nothing of the entries' meaning. A listing is frozen when the directory is opened, so that
entries that are added or removed during a walk neither repeat nor vanish in that walk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

E = TypeVar("E")

#: Offset of the first entry. 0 means "from the beginning", and NFS uses 1 and 2 for special
#: entries.
FIRST_OFFSET = 3


class Snapshot(Generic[E]):
    """An immutable sequence of entries read by offset."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Sequence[E]) -> None:
        self._entries = entries

    def walk(self, offset: int) -> Iterator[tuple[E, int]]:
        """Entries from `offset` (0 = beginning), each with the offset that follows it."""
        start = max(0, offset - FIRST_OFFSET)
        for index in range(start, len(self._entries)):
            yield self._entries[index], index + 1 + FIRST_OFFSET

    def __len__(self) -> int:
        return len(self._entries)
