"""Shares the read-ahead budget between the handles that currently read ahead.

Identifies handles by their `Access`; knows nothing of bytes.
"""

from __future__ import annotations

from collections import OrderedDict

import trio

from up42fs.readahead.plan import Access
from up42fs.readahead.tuning import KIB

#: A handle that reads ahead keeps its share of the budget this long after its last read, seconds.
SHARING_S = 10.0


class Windows:
    """The read-ahead windows of one store, which share `budget_bytes`."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._last_s: OrderedDict[Access, float] = OrderedDict()

    def share(self, access: Access) -> int:
        """The read-ahead window of `access`, which is about to read, in bytes."""
        now_s = trio.current_time()
        if access.reads_ahead:
            self._last_s[access] = now_s
            self._last_s.move_to_end(access)
        while self._last_s:
            oldest, last_s = next(iter(self._last_s.items()))
            if now_s - last_s <= SHARING_S:
                break
            del self._last_s[oldest]
        return max(128 * KIB, self._budget_bytes // max(1, len(self._last_s)))

    def leave(self, access: Access) -> None:
        """Release the share of `access`, which will not read again."""
        self._last_s.pop(access, None)
