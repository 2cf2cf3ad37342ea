"""What each object cost: the store's counters once more, an object at a time.

Knows counters' names no more than `metrics` does; the names are told in `files`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from cachetools import LRUCache

from up42fs.metrics import Metrics

#: Objects remembered; those counted for longest ago go first.
MOST_OBJECTS = 1024
_PREFIX = "store."


class Tally:
    """The counters of one object, which count for the mount too. The trio thread's."""

    def __init__(self, metrics: Metrics) -> None:
        self.counts: Counter[str] = Counter()
        self.name: str | None = None
        self._metrics = metrics

    def count(self, name: str, amount: int = 1) -> None:
        """Add `amount` to counter `name`."""
        self.counts[name.removeprefix(_PREFIX)] += amount
        self._metrics.count(name, amount)


class Tallies:
    """The tallies of one mount, by object ID."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._by_id: LRUCache[str, Tally] = LRUCache(MOST_OBJECTS)

    def of(self, object_id: str, name: str | None = None) -> Tally:
        """The tally of an object, begun if need be; `name` is what people call it."""
        tally = self._by_id.get(object_id)
        if tally is None:
            tally = self._by_id[object_id] = Tally(self._metrics)
        tally.name = name or tally.name
        return tally

    def get(self, object_id: str) -> Mapping[str, int]:
        """What was counted of an object, by counter without its plane; nothing counted is {}."""
        tally = self._by_id.get(object_id)
        return dict(sorted(tally.counts.items())) if tally else {}

    def top(self, most: int) -> list[dict[str, object]]:
        """The `most` objects of which most bytes were fetched, with their counters."""
        fetched = [(one.counts["bytes_fetched"], key) for key, one in self._by_id.items()]
        chosen = sorted((pair for pair in fetched if pair[0]), reverse=True)[:most]
        return [{"id": key, "name": self._by_id[key].name, **self.get(key)} for _, key in chosen]
