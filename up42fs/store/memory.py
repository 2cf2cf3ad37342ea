"""The memory budget of all objects' parts: counts bytes, remembers order of use, chooses victims.

Knows nothing of ranges or fetching. Parts in flight or being read count but are never evicted, so
the budget can be exceeded by what readers demand at the same moment, never by read-ahead.
`cachetools.LRUCache` does not fit: it cannot pass over an entry that is in use.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class Entry(Protocol):
    """Something that holds bytes."""

    @property
    def held_bytes(self) -> int:
        """Bytes it accounts for."""
        ...

    @property
    def in_use(self) -> bool:
        """Whether it must stay."""
        ...

    def evict(self) -> None:
        """Let go; the cache has forgotten it already."""
        ...


class MemoryCache:
    """Entries in order of use, of `budget_bytes` together."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._entries: OrderedDict[Entry, int] = OrderedDict()

    def add(self, entry: Entry) -> None:
        """Count a new entry, as the most recently used."""
        self._entries[entry] = entry.held_bytes
        self.used_bytes += entry.held_bytes

    def touch(self, entry: Entry) -> None:
        """Mark as the most recently used."""
        if entry in self._entries:
            self._entries.move_to_end(entry)

    def recount(self, entry: Entry) -> None:
        """Its size changed."""
        if entry in self._entries:
            self.used_bytes += entry.held_bytes - self._entries[entry]
            self._entries[entry] = entry.held_bytes

    def remove(self, entry: Entry) -> None:
        """Stop counting it; no-op for a stranger."""
        self.used_bytes -= self._entries.pop(entry, 0)

    def make_room(self, wanted_bytes: int) -> bool:
        """Evict what was used longest ago until `wanted_bytes` more fit; False if they cannot.

        Where they cannot fit nothing is evicted.
        """
        excess = self.used_bytes + wanted_bytes - self.budget_bytes
        victims: list[Entry] = []
        for entry, held_bytes in self._entries.items():
            if excess <= 0:
                break
            if not entry.in_use:
                victims.append(entry)
                excess -= held_bytes
        if excess > 0:
            return False
        self._evict(victims)
        return True

    def shrink(self, wanted_bytes: int) -> None:
        """Evict as much as can go for `wanted_bytes` that come in any case."""
        if not self.make_room(wanted_bytes):
            self._evict([entry for entry in self._entries if not entry.in_use])

    def _evict(self, victims: list[Entry]) -> None:
        for entry in victims:
            self.remove(entry)
            entry.evict()

    def __len__(self) -> int:
        return len(self._entries)
