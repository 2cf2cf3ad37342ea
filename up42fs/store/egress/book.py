"""The record of bytes that one account fetched: a small file shared by its mounts on this machine.

Knows byte counts per time bucket; nothing of requests or limits. Blocking: call it in a worker
thread.

A count is added to what the file holds at that moment, under a lock, and written by one call in
place: a mount that is killed leaves the file as it was before or after. An unreadable file is
started anew, with a warning.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

#: Larger than any book: 24 buckets, each a number of 20 digits at most.
_MOST_BYTES = 4096


class Book:
    """One account's book for one budget period; opened for each addition."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, spent: Mapping[int, int], first: int = 0) -> dict[int, int]:
        """Add counts; return the totals of all mounts, without buckets before `first`.

        Raises OSError.
        """
        with self._locked() as descriptor:
            known = _parse(os.pread(descriptor, _MOST_BYTES, 0), self.path)
            total = Counter(known)
            total.update(spent)
            whole = {piece: count for piece, count in total.items() if piece >= first and count}
            if whole != known:
                text = json.dumps(whole).encode()
                os.pwrite(descriptor, text.ljust(_MOST_BYTES), 0)
            return whole

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _parse(text: bytes, path: Path) -> dict[int, int]:
    if not text.strip():
        return {}
    try:
        return {int(piece): int(count) for piece, count in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s): the budget begins anew", path, error)
        return {}
