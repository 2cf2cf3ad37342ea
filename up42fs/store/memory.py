"""The memory budget of all objects' parts: counts bytes, keeps LRU order, chooses victims.

Parts in flight or being read count but are never evicted, so the budget can be exceeded by what
readers demand at the same moment, never by read-ahead. `cachetools.LRUCache` does not fit: it
cannot skip an entry that is in use.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class Evictable(Protocol):
    """A cached object that holds bytes."""

    @property
    def held_bytes(self) -> int:
        """Bytes that count against the budget."""

    @property
    def in_use(self) -> bool:
        """Whether it must not be evicted."""

    def evict(self) -> None:
        """Release the bytes; the cache no longer counts this entry."""


class MemoryCache:
    """An LRU cache with a budget of `budget_bytes`.

    Of an object that is read from end to end, `scan_bytes` stay when they were read.
    """

    def __init__(self, budget_bytes: int, scan_bytes: int = 0) -> None:
        self.budget_bytes = budget_bytes
        self.scan_bytes = scan_bytes
        self.used_bytes = 0
        self._entries: OrderedDict[Evictable, int] = OrderedDict()

    def add(self, entry: Evictable) -> None:
        """Count a new entry, as the most recently used."""
        self._entries[entry] = entry.held_bytes
        self.used_bytes += entry.held_bytes

    def touch(self, entry: Evictable) -> None:
        """Mark `entry` as the most recently used."""
        if entry in self._entries:
            self._entries.move_to_end(entry)

    def recount(self, entry: Evictable) -> None:
        """Update the counted size of `entry`."""
        if entry in self._entries:
            self.used_bytes += entry.held_bytes - self._entries[entry]
            self._entries[entry] = entry.held_bytes

    def remove(self, entry: Evictable) -> None:
        """Stop counting `entry`; no-op if it is not counted."""
        self.used_bytes -= self._entries.pop(entry, 0)

    def make_room(self, wanted_bytes: int) -> bool:
        """Evict the least recently used entries until `wanted_bytes` fit; False if they cannot.

        If they cannot fit, nothing is evicted.
        """
        excess = self.used_bytes + wanted_bytes - self.budget_bytes
        victims: list[Evictable] = []
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
        """Evict as much as possible for `wanted_bytes` that are added in any case."""
        if not self.make_room(wanted_bytes):
            self._evict([entry for entry in self._entries if not entry.in_use])

    def _evict(self, victims: list[Evictable]) -> None:
        for entry in victims:
            self.remove(entry)
            entry.evict()

    def __len__(self) -> int:
        return len(self._entries)
