"""Counters of one mount: passed in, never global; names are `plane.noun_verb` in the docs.

Counting is a dictionary addition, cheap enough for the read path.
"""

from __future__ import annotations

import threading
from collections import Counter


class Metrics:
    """Named integer counters, safe to add to from worker threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, name: str, amount: int = 1) -> None:
        """Add `amount` to counter `name`."""
        with self._lock:
            self._counts[name] += amount

    def count_each(self, *amounts: tuple[str, int]) -> None:
        """Add to several counters at once."""
        with self._lock:
            counts = self._counts
            for name, amount in amounts:
                counts[name] += amount

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def snapshot(self) -> dict[str, int]:
        """All counters by name, sorted."""
        with self._lock:
            return dict(sorted(self._counts.items()))
