"""Per-object counters: the store's counters, counted once more for each object.

Does not know the counters' names; they are described in `store.store`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from cachetools import LRUCache

from up42fs.metrics import Metrics
from up42fs.timeline import Timeline

#: Objects remembered; the least recently counted are evicted first.
MOST_OBJECTS = 1024
_PREFIX = "store."


class Tally:
    """The counters of one object, which also count for the mount. For the trio thread."""

    def __init__(self, metrics: Metrics) -> None:
        self.counts: Counter[str] = Counter()
        self.name: str | None = None
        #: The ranges that came from the object store, on trio's clock.
        self.fetched = Timeline()
        self._metrics = metrics

    def count(self, name: str, amount: int = 1) -> None:
        """Add `amount` to counter `name`."""
        self.counts[name.removeprefix(_PREFIX)] += amount
        self._metrics.count(name, amount)

    def count_hit(self, length: int) -> None:
        """Count a read of `length` bytes that memory answered."""
        counts = self.counts
        counts["reads"] += 1
        counts["hits"] += 1
        counts["bytes_delivered"] += length
        self._metrics.count_each(
            ("store.reads", 1), ("store.hits", 1), ("store.bytes_delivered", length)
        )


class Tallies:
    """The tallies of one mount, by object ID."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._by_id: LRUCache[str, Tally] = LRUCache(MOST_OBJECTS)

    def of(self, object_id: str, name: str | None = None) -> Tally:
        """Return the tally of an object, created if necessary; `name` is its display name."""
        tally = self._by_id.get(object_id)
        if tally is None:
            tally = self._by_id[object_id] = Tally(self._metrics)
        tally.name = name or tally.name
        return tally

    def get(self, object_id: str) -> Mapping[str, int]:
        """An object's counters by name without the `store.` prefix; {} if nothing was counted."""
        tally = self._by_id.get(object_id)
        return dict(sorted(tally.counts.items())) if tally else {}

    def fetched(self, object_id: str) -> Timeline:
        """When which bytes of an object came from the object store; empty if none did."""
        tally = self._by_id.get(object_id)
        return tally.fetched if tally else Timeline()

    def top(self, most: int = 50) -> list[dict[str, object]]:
        """The `most` objects with the most fetched bytes, with their counters."""
        fetched = [(one.counts["bytes_fetched"], key) for key, one in self._by_id.items()]
        chosen = sorted((pair for pair in fetched if pair[0]), reverse=True)[:most]
        return [{"id": key, "name": self._by_id[key].name, **self.get(key)} for _, key in chosen]
