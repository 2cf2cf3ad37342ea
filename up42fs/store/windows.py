"""Shares the budget of read-ahead between the handles that read ahead now.

Knows handles by what plans for them, and nothing of bytes.
"""

from __future__ import annotations

from collections import OrderedDict

import trio

from up42fs.readahead.plan import Access
from up42fs.readahead.tuning import KIB

#: Handles that read ahead share the budget for as long after their last read.
SHARING_S = 10.0


class Windows:
    """The windows of one store, which share `budget_bytes`."""

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
        """No more reads will come."""
        self._last_s.pop(access, None)
