"""A byte budget over a sliding period: how much may be fetched, how much was. Pure.

Takes moments as arguments; knows nothing of what the bytes are.

Theory. The period slides: bytes fetched longer ago count no more. It is kept in `BUCKETS` equal
buckets, so that a day of requests is 24 numbers, and each bucket expires as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BUCKETS = 24


@dataclass(frozen=True, slots=True)
class EgressLimit:
    """At most `bytes` in any `period_s` seconds."""

    bytes: int
    period_s: float


class Budget:
    """Bytes spent of a limit; moments in seconds since 1970."""

    def __init__(self, limit: EgressLimit, spent: Mapping[int, int] | None = None) -> None:
        self.limit = limit
        self._spent = dict(spent or {})
        self._bucket_s = limit.period_s / BUCKETS

    def left(self, now_s: float) -> int:
        """Bytes that may still be fetched; negative if more was fetched than allowed."""
        self._forget(now_s)
        return self.limit.bytes - sum(self._spent.values())

    def spend(self, now_s: float, count: int) -> None:
        """Count `count` bytes as fetched now; a negative count gives bytes back."""
        piece = self.piece(now_s)
        self._spent[piece] = self._spent.get(piece, 0) + count
        self._forget(now_s)

    def piece(self, now_s: float) -> int:
        """The number of the current bucket."""
        return int(now_s // self._bucket_s)

    def first_piece(self, now_s: float) -> int:
        """The number of the oldest bucket that counts."""
        return self.piece(now_s) - BUCKETS

    def free_at_s(self, now_s: float) -> float:
        """The moment from which bytes may be fetched again; `now_s` if some may be fetched now."""
        lacking = -self.left(now_s)
        moment_s = now_s
        for bucket, count in sorted(self._spent.items()):
            if lacking < 0:
                break
            lacking -= count
            moment_s = max(moment_s, (bucket + 1) * self._bucket_s + self.limit.period_s)
        return moment_s

    def spent(self) -> dict[int, int]:
        """Bytes spent, by bucket number; can be stored and passed to the constructor."""
        return dict(self._spent)

    def _forget(self, now_s: float) -> None:
        first = self.first_piece(now_s)
        # After the clock was set back, buckets that now lie in the future must not count for ever.
        last = self.piece(now_s)
        for bucket in [b for b in self._spent if not first <= b <= last]:
            del self._spent[bucket]
