"""Who read what of which file, and how long they waited: for `status` and `explain`.

Knows what readers asked for, not what it cost to answer: the store counts that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cachetools import LRUCache

from up42fs.ranges import RangeSet, coalesce
from up42fs.types import ByteRange

#: Files remembered; the least recently opened go first.
MOST_FILES = 1024
#: Ranges remembered of a file; more are joined across ever larger gaps.
MOST_SPANS = 1024


@dataclass(slots=True)
class Account:
    """What readers did with one file since the mount was made. Times in seconds."""

    name: str
    size: int
    opens: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    reads: int = 0
    bytes_read: int = 0
    waited_s: float = 0.0
    slowest_s: float = 0.0
    spans: RangeSet = field(default_factory=RangeSet)
    gap_bytes: int = 4096

    def note_read(self, span: ByteRange, took_s: float) -> None:
        """A reader got the bytes of `span` after `took_s` seconds."""
        self.reads += 1
        self.bytes_read += len(span)
        self.waited_s += took_s
        self.slowest_s = max(self.slowest_s, took_s)
        self.spans.add(span)
        if self.spans.count > MOST_SPANS:
            self._simplify()

    def _simplify(self) -> None:
        while self.spans.count > MOST_SPANS // 2:  # half, so that it is seldom done
            self.spans = RangeSet(coalesce(self.spans, self.gap_bytes))
            self.gap_bytes *= 4

    def describe(self) -> dict[str, Any]:
        """The account as JSON can hold it; `ranges` as [start, stop) pairs of bytes."""
        return {
            "name": self.name,
            "size": self.size,
            "programs": dict(self.opens.most_common()),
            "reads": self.reads,
            "refused": self.refused,
            "bytes_read": self.bytes_read,
            "bytes_touched": self.spans.total,
            "waited_seconds": round(self.waited_s, 3),
            "slowest_seconds": round(self.slowest_s, 3),
            "errors": dict(self.errors),
        }


class Ledger:
    """The accounts of one mount, by object ID."""

    def __init__(self) -> None:
        self._accounts: LRUCache[str, Account] = LRUCache(MOST_FILES)

    def open(self, object_id: str, *, name: str, size: int, program: str) -> Account:
        """The account of an object that `program` opens."""
        account = self._accounts.get(object_id)
        if account is None or account.size != size:
            account = self._accounts[object_id] = Account(name, size)
        account.opens[program] += 1
        return account

    def explain(self, object_id: str) -> dict[str, Any] | None:
        """All about one object, its ranges too; None if nobody opened it."""
        account = self._accounts.get(object_id)
        if account is None:
            return None
        return account.describe() | {"ranges": [[span.start, span.stop] for span in account.spans]}

    def top(self, most: int = 10) -> list[Mapping[str, Any]]:
        """The files that were read most, by bytes."""
        read = [account for account in self._accounts.values() if account.reads]
        read.sort(key=lambda account: account.bytes_read, reverse=True)
        return [account.describe() for account in read[:most]]
