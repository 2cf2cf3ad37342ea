"""What all mounts of one account fetched in a sliding period, shared through a small file."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import trio

from up42fs import supervise
from up42fs.store.egress.budget import Budget, EgressLimit

log = logging.getLogger(__name__)

#: Interval at which spent and returned bytes are written to the book, seconds.
SAVE_S = 10.0
#: The longest that writing to the book may take, seconds.
BOOK_TIMEOUT_S = 2.0
#: Larger than any book: 24 buckets, each a number of 20 digits at most.
_MOST_BYTES = 4096


class Book:
    """One account's book for one budget period: a small file shared by its mounts on this machine.

    It is opened for each addition. Blocking: call it in a worker thread. A count is added to what
    the file holds at that moment, under a lock, and written by one call in place: a mount that is
    killed leaves the file as it was before or after. An unreadable file is started anew, with a
    warning.
    """

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


class Spending:
    """Bytes of a limit that all mounts of an account spent.

    With `book` None only this mount's are known, and forgotten at unmount. A book that
    cannot be written is worth a warning only if a limit `relies` on it.
    """

    def __init__(
        self,
        limit: EgressLimit,
        book: Book | None,
        clock: Callable[[], float] = time.time,
        *,
        relies: bool = True,
    ) -> None:
        self._level = logging.WARNING if relies else logging.INFO
        self.limit = limit
        self._book = book
        self._clock = clock
        self._booked: dict[int, int] = {}  # spent by all mounts, as last read from the book
        self._unbooked: Counter[int] = Counter()  # spent by this mount since
        self._booking = trio.Lock()

    def budget(self) -> Budget:
        spent = Counter(self._booked)
        spent.update(self._unbooked)
        return Budget(self.limit, spent)

    def left(self) -> int:
        """Bytes that may still be fetched; negative if more was fetched than allowed."""
        return self.budget().left(self.now_s())

    def now_s(self) -> float:
        return self._clock()

    def spend(self, count: int) -> None:
        """Count `count` bytes as fetched by this mount; a negative count gives bytes back."""
        self._unbooked[self.budget().piece(self.now_s())] += count

    async def share(self) -> None:
        """Add this mount's bytes to the book and read the others'; warns once if that fails."""
        async with self._booking:
            book, spent = self._book, dict(self._unbooked)
            if book is None:
                return
            first = self.budget().first_piece(self.now_s())
            why = f"no answer in {BOOK_TIMEOUT_S:.0f} s"
            with trio.move_on_after(BOOK_TIMEOUT_S):
                try:
                    self._booked = await trio.to_thread.run_sync(
                        book.add, spent, first, abandon_on_cancel=True
                    )
                except Exception as error:
                    if supervise.is_short_of_anything(error):
                        log.debug("what is fetched is written down later: %s", error)
                        return
                    if not isinstance(error, OSError):
                        raise
                    why = error.strerror or str(error)
                else:
                    self._unbooked.subtract(spent)
                    return
            self._book = None
            words = "what is fetched is counted by this mount alone: %s: %s"
            log.log(self._level, words, book.path, why)


def _parse(text: bytes, path: Path) -> dict[int, int]:
    if not text.strip():
        return {}
    try:
        return {int(piece): int(count) for piece, count in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s): the budget begins anew", path, error)
        return {}
